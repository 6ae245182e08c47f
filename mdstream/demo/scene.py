"""What the demo starts, in which order, and when each part is up."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mdstream import config, kafka
from mdstream.app import WEB_PORT
from mdstream.cluster import UNSECURED
from mdstream.db import migrate
from mdstream.db.embedded import EmbeddedPostgres
from mdstream.demo.children import Children
from mdstream.demo.stored import Stored, stored
from mdstream.embedded import DEFAULT_PORT, EmbeddedBroker
from mdstream.errors import MdstreamError
from mdstream.sinks.nats_server import EmbeddedNats
from topics import Topics

SYMBOLS = {
    "binance": "BTCUSDT,ETHUSDT,SOLUSDT",
    "okx": "BTCUSDT,ETHUSDT,DOGEUSDT",
    "coinbase": "BTCUSD,ETHUSD,SOLUSD",
}
FAULTS = ("binance:stall:every=60s,for=10s", "okx:drop:share=0.0005,run=3")
"""What goes wrong at the simulated venues: another source has to stand in, and lost trades have to be fetched."""
SINKS = ("files", "timescale", "nats")
POSTGRES_PORT, NATS_PORT = 5432, 4222
UP_LIMIT_S = 60.0

Say = Callable[[str], None]


class Scene:
    """The running demo: where its page is, and what it knows."""

    def __init__(self, children: Children, page: str, data: Path, sinks: Mapping[str, int]) -> None:
        self.children, self.page = children, page
        self._data, self._sinks = data, sinks

    def latest(self) -> dict[str, Any]:
        """The latest prices by symbol; empty while the worker does not answer yet. Raises ChildError."""
        self.children.check()
        try:
            with urllib.request.urlopen(f"{self.page}latest/", timeout=2) as response:  # noqa: S310  our own page
                symbols: dict[str, Any] = json.load(response)["symbols"]
                return symbols
        except (urllib.error.URLError, OSError, ValueError, KeyError):
            return {}

    def stored(self) -> Stored:
        """What the sinks have stored."""
        return stored(self._data, self._sinks)


@contextmanager
def scene(*, rate: int, live: bool, say: Say) -> Iterator[Scene]:
    """Start everything, wait until prices flow, and stop everything on leaving. Raises MdstreamError."""
    data = config.load().data_dir
    with (
        EmbeddedBroker(_port(DEFAULT_PORT)) as broker,
        EmbeddedPostgres(_port(POSTGRES_PORT)) as database,
        EmbeddedNats(_port(NATS_PORT)) as nats,
    ):
        say(f"broker at {broker.bootstrap} (in memory)")
        say(f"PostgreSQL at {database.url}, NATS with JetStream at {nats.url}")
        children = Children(
            data / "logs",
            {
                **UNSECURED,
                "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
                "MDSTREAM_DATA_DIR": str(data),
                "MARKET_DATA_DATABASE_URL": database.url,
                "NATS_URL": nats.url,
                "NATS_ENABLED": "true",
                "USE_JETSTREAM": "true",
            },
        )
        try:
            asyncio.run(_create_topics(broker.bootstrap))
            migrate.upgrade(config.load(database_url=database.url))
            if not live:
                children.set(_simulate(children, rate))
                say(f"simulated venues: {', '.join(SYMBOLS)}, {rate} frames/s together; binance stalls now and then")
            page = f"http://127.0.0.1:{_port(WEB_PORT)}/"
            sinks = {role: _port(0) for role in SINKS}
            for role, port in sinks.items():
                children.start(role, "worker", role, "--port", str(port))
            children.start("core", "worker", "core", "--port", page.rstrip("/").rpartition(":")[2])
            for provider, symbols in SYMBOLS.items():
                ingest = ("--provider", provider, "--symbols", symbols, "--port", str(_port(0)))
                children.start(f"ingest-{provider}", "ingest", *ingest)
            children.start("repair", "repair", "--port", str(_port(0)))
            say("ingestors, core worker, gap repair and the roles files, timescale and nats are starting")
            running = Scene(children, page, data, sinks)
            _wait(running.latest, children, "the first price")
            yield running
        finally:
            say("stopping")
            children.stop()


async def _create_topics(bootstrap_servers: str) -> None:
    await kafka.create_topics(bootstrap_servers, Topics(config.load()))


def _simulate(children: Children, rate: int) -> dict[str, str]:
    """Start the venues; the variables that point the ingestors at them."""
    faults = [part for fault in FAULTS for part in ("--fault", fault)]
    log = children.start("simulate", "simulate", "--port", "0", "--rate", str(rate), *faults)

    def urls() -> dict[str, str]:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("export ")]
        found = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        return found if sum(name.endswith("_WS_URL") for name in found) == len(SYMBOLS) else {}

    return _wait(urls, children, "the simulated venues")


def _wait(look: Callable[[], dict[str, Any]], children: Children, what: str) -> dict[str, Any]:
    deadline = time.monotonic() + UP_LIMIT_S
    while not (found := look()):
        children.check()
        if time.monotonic() > deadline:
            raise MdstreamError(f"{what} did not come within {UP_LIMIT_S:.0f} s")
        time.sleep(0.1)
    return found


def _port(wanted: int) -> int:
    """`wanted` if nobody listens there, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise MdstreamError("no free port on 127.0.0.1")
