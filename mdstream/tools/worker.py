"""`mdstream worker ROLE`: the short form of `faust -A mdstream worker` with MDSTREAM_ROLE set."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.util import find_spec

import click

from mdstream import config, kafka
from mdstream.app import ROLES, WEB_PORT
from mdstream.config.cluster import Brokers
from mdstream.config.misspelt import WARNED


@click.command(name="worker")
@click.argument("role", type=click.Choice(sorted(ROLES)), required=False)
@click.option(
    "--port", type=click.IntRange(1, 65535), help=f"Port of the web pages [default: {WEB_PORT}, or HTTP_PORT]."
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warn", "error"]), default="info", show_default=True)
@click.option(
    "--loop", type=click.Choice(["aio", "uvloop"]), help="Event loop [default: uvloop where it is installed]."
)
def command(role: str | None, port: int | None, log_level: str, loop: str | None) -> None:
    """Run a worker until it is stopped (Ctrl-C). Without ROLE: that of MDSTREAM_ROLE, core where it is not set.

    \b
    core       raw frames to canonical trades, quotes and books; latest prices on http://127.0.0.1:6066/
    files      canonical events into SQLite and JSONL files under MDSTREAM_DATA_DIR
    timescale  canonical events into the database MARKET_DATA_DATABASE_URL (first: mdstream db upgrade)
    nats       canonical events to NATS at NATS_URL; into a stream with USE_JETSTREAM=true

    \b
    /ready    200 while everything flows     /live     200 unless a restart is due
    /health   positions and what waits       /metrics  for Prometheus

    Workers of a group ask one another for prices: where HTTP_HOST is 0.0.0.0, set NODE_CANONICAL_URL to an address that
    the others reach this worker at, such as http://core-1:6066.

    A worker that has input and makes no progress for MDSTREAM_STUCK_EXIT_S (60; core: MDSTREAM_CORE_STUCK_EXIT_S, 20)
    exits with 75, to be started again; one that cannot reach Kafka, or its database, waits (docs/operations.md).

    Start as many of a role as you like: they share the partitions. One that crashes exits non-zero; restart it, and it
    goes on where its last checkpoint was.
    """
    settings = config.load(role=role, http_port=port)
    asyncio.run(_reachable(settings.bootstrap_servers))
    # By the environment: with --web-port Faust would advertise HTTP_HOST and ignore NODE_CANONICAL_URL.
    os.environ |= {"MDSTREAM_ROLE": settings.role, "HTTP_PORT": str(settings.http.port or WEB_PORT)}
    os.environ[WARNED] = str(os.getpid())  # kept by execv
    loop = loop or ("uvloop" if find_spec("uvloop") else "aio")
    # Faust chooses its event loop while its modules are imported, so it starts in a new interpreter.
    os.execv(  # noqa: S606  our own interpreter, no shell
        sys.executable,
        [
            sys.executable,
            "-m",
            "faust",
            "--quiet",
            "-A",
            "mdstream",
            "-L",
            loop,
            "worker",
            "-l",
            log_level,
        ],
    )


async def _reachable(bootstrap_servers: Brokers) -> None:
    async with kafka.admin(bootstrap_servers):
        pass
