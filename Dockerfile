# The mdstream image: the command line, and what it needs to run. The embedded servers and the development tools are
# not in it. Built by `make up`; alone: docker build -t mdstream:local .
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /build
# Everything that is locked, its hashes checked. A layer of its own: it changes with the lock only.
COPY requirements.lock ./
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r requirements.lock -w /wheels
COPY pyproject.toml README.md LICENSE topics.py ./
COPY agents agents
COPY mdstream mdstream
# From those wheels alone, so in the locked versions, and of them only what running takes.
RUN python -m venv --without-pip /opt/mdstream \
    && pip --python /opt/mdstream/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-index --find-links /wheels ".[ib]"

FROM python:${PYTHON}
RUN groupadd --gid 10001 mdstream \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin mdstream \
    && install -d -o mdstream -g mdstream /data
COPY --from=build /opt/mdstream /opt/mdstream
ENV PATH=/opt/mdstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MDSTREAM_DATA_DIR=/data
# Where mdstream.toml may be mounted.
WORKDIR /etc/mdstream
USER 10001:10001
# A port and a page differ with the command: docker-compose.kafka.yml has the checks.
HEALTHCHECK NONE
ENTRYPOINT ["mdstream"]
CMD ["--help"]
