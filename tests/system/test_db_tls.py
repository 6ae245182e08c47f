"""The database over TLS: libpq's settings, in the URL or in its own variables, for the sink, the audit, the commands.

    sink, audit, mdstream db ── TLS ──> front ── plain ──> PostgreSQL

The PostgreSQL that comes as a wheel is built without OpenSSL. The front answers libpq's SSLRequest as a server with
`ssl = on` does, shakes hands as Python's ssl does, and hands on what is inside.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import databases
import pytest
from certificates import Authority, Certificate
from databases import ask
from processes import run_mdstream
from sink_builders import chunk, trade

from mdstream.audit.hops.database import TimescaleHop
from mdstream.audit.trades import Scope
from mdstream.config import load
from mdstream.embedded.postgres import EmbeddedPostgres
from mdstream.errors import DatabaseError
from mdstream.sinks.timescale import TimescaleSink

pytestmark = pytest.mark.system

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""postgresql.org/docs/current/protocol-message-formats.html"""
ADVICE = "(check sslmode, sslrootcert, sslcert and sslkey in MARKET_DATA_DATABASE_URL, or PGSSLMODE and its like)"

Front = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def front(postgres: EmbeddedPostgres, authority: Authority) -> Front:
    """Starts a server with TLS before a new and empty database; gives its address, with a password."""
    name = databases.empty(postgres).rpartition("/")[2]

    @asynccontextmanager
    async def run(*, asks_for: Authority | None = None) -> AsyncIterator[str]:
        context = _server_context(authority.sign("server"), asks_for)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await reader.readexactly(8) != SSL_REQUEST:  # Kerberos, say
                    writer.write(b"N")
                writer.write(b"S")
                await writer.start_tls(context)
                behind = await asyncio.open_connection("127.0.0.1", postgres.port)
            except (OSError, EOFError):  # the client does not trust us, or we do not trust it
                writer.close()
                return
            await asyncio.gather(_relay(reader, behind[1]), _relay(behind[0], writer))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            yield f"postgresql://mdstream:s3cr3t@127.0.0.1:{port}/{name}"

    return run


def _server_context(own: Certificate, asks_for: Authority | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    if asks_for is not None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 a client learns it only after its handshake
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(asks_for.certificate)
    return context


async def _relay(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    except OSError:
        pass
    finally:
        target.close()


async def run_db(url: str, *args: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit status and all that `mdstream db` says."""
    given = {"MARKET_DATA_DATABASE_URL": url, **(env or {})}
    done = await asyncio.to_thread(run_mdstream, "db", *args, env=given, cwd=Path("/"))
    assert "s3cr3t" not in done.stdout + done.stderr
    return done.returncode, (done.stderr or done.stdout).removeprefix("mdstream: ").strip()


async def refusal(url: str) -> str:
    """What the sink and the audit say of a database that they cannot connect to: the same, and for good."""
    message = set()
    sink = TimescaleSink(url, write_limit_s=5.0)
    for connect in (sink.open, TimescaleHop(load(database_url=url), Scope()).check):
        with pytest.raises(DatabaseError) as caught:
            await connect()
        assert not caught.value.retriable
        message.add(str(caught.value))
    await sink.close()
    (line,) = message
    assert "\n" not in line
    assert "s3cr3t" not in line
    return line


def where(url: str) -> str:
    return f"database mdstream@{url.partition('@')[2].partition('?')[0]}"


async def test_everything_that_uses_the_database_checks_its_certificate(
    front: Front, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By settings in the URL, or by libpq's variables: Alembic's engine, the check, the sink and the audit."""
    async with front() as plain_url:
        secure = f"{plain_url}?sslmode=verify-full&sslrootcert={authority.certificate}"
        assert (await run_db(secure, "upgrade"))[0] == 0
        env = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(authority.certificate)}
        assert (await run_db(plain_url, "current", env=env))[0] == 0
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        for n, url in enumerate((plain_url, secure)):
            sink = TimescaleSink(url, write_limit_s=5.0)
            await sink.write([chunk(trade(n))])
            assert sink._session is not None
            assert sink._session._connection.pgconn.ssl_in_use
            await sink.close()
            await TimescaleHop(load(database_url=url), Scope()).check()


async def test_a_certificate_of_another_authority_is_one_clear_line(front: Front, tmp_path: Path) -> None:
    """No retries: an operator has to fix it."""
    async with front() as plain_url:
        url = f"{plain_url}?sslmode=verify-ca&sslrootcert={Authority(tmp_path, 'stranger').certificate}"
        line = f"{where(url)}: SSL error: certificate verify failed {ADVICE}"
        assert await refusal(url) == line
        for command in ("upgrade", "current"):
            assert await run_db(url, command) == (1, line)


async def test_a_client_shows_its_certificate(front: Front, authority: Authority) -> None:
    """sslcert and sslkey; without them the server hangs up, in words of its own."""
    own = authority.sign("sink")
    own.key.chmod(0o600)
    async with front(asks_for=authority) as plain_url:
        url = f"{plain_url}?sslmode=require"
        assert (await run_db(f"{url}&sslcert={own.certificate}&sslkey={own.key}", "upgrade"))[0] == 0
        status, line = await run_db(url, "current")
        assert status == 1
        assert line.startswith(f"{where(url)}: ")
        assert "\n" not in line


@pytest.mark.parametrize(
    ("requested", "says"),
    [
        ("sslmode=verify-full&sslrootcert=/nowhere.pem", 'root certificate file "/nowhere.pem" does not exist'),
        ("sslmode=always", 'invalid sslmode value: "always"'),
    ],
)
async def test_tls_settings_that_cannot_be_used_are_one_clear_line(front: Front, requested: str, says: str) -> None:
    """libpq's first line about them, without its hints."""
    async with front() as plain_url:
        url = f"{plain_url}?{requested}"
        assert await refusal(url) == f"{where(url)}: {says} {ADVICE}"


async def test_a_server_without_tls_is_refused_where_tls_is_asked_for(postgres: EmbeddedPostgres) -> None:
    """Rather than a password sent in the clear."""
    url = f"{postgres.url}?sslmode=require"
    assert await refusal(url) == f"{where(url)}: server does not support SSL, but SSL was required {ADVICE}"
    assert ask(postgres.url, "SELECT 1") == [(1,)]
