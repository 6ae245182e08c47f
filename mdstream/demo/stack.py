"""The demo: `mdstream run` with everything embedded, against simulated venues."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mdstream import config
from mdstream.api.seen import DEFAULT_PORT as API_PORT
from mdstream.db import migrate
from mdstream.demo.stored import Stored, stored
from mdstream.errors import MdstreamError
from mdstream.run import pipeline
from mdstream.run.pipeline import SINKS, Pipeline
from mdstream.run.services import Services, free_port, start_broker, start_database, start_nats
from mdstream.run.supervisor import Say, Supervisor
from mdstream.senpai.process import DEFAULT_PORT as SENPAI_PORT
from mdstream.senpai.seen import seen, summary
from mdstream.venues import ws_setting

SYMBOLS = {
    "binance": "BTCUSDT,ETHUSDT,SOLUSDT",
    "okx": "BTCUSDT,ETHUSDT,DOGEUSDT",
    "coinbase": "BTCUSD,ETHUSD,SOLUSD",
}
FAULTS = ("binance:stall:every=60s,for=10s", "okx:drop:share=0.0005,run=3")
"""Faults of the simulated venues: another source must stand in, and lost trades must be fetched."""
VENUES_STAGE = pipeline.INGEST_STAGE + 1
VENUES_PORT = 9440
UP_LIMIT_S = 60.0
POLL_S = 0.2


class DemoStack:
    """The running demo: its pages, the latest prices, and what is stored."""

    def __init__(
        self, parts: Supervisor, running: Pipeline, senpai_page: str, chart_page: str, data: Path, say: Say
    ) -> None:
        self.page, self.senpai_page, self.chart_page = running.page, senpai_page, chart_page
        self._parts, self._running, self._data, self._say = parts, running, data, say
        self._reported: set[str] = set()

    def latest(self) -> dict[str, Any]:
        """The latest prices by symbol; restarts parts that have ended. Raises PartError if that would not help."""
        self._parts.restart_ended()
        return self._running.latest()

    def stored(self) -> Stored:
        """What the sinks have stored."""
        return stored(self._data, self._running.sinks)

    def senpai(self) -> str:
        """How SenpAI is, in a line."""
        found = seen(self.senpai_page)
        return "starting" if found is None else summary(found)

    def wait_for_prices(self) -> None:
        """Return with the first price; venues that cannot be reached are reported as soon as they are known.

        Raises MdstreamError if none comes.
        """
        deadline = time.monotonic() + UP_LIMIT_S
        while not self.latest():
            problems = self._running.problems()
            for problem in problems:
                if problem not in self._reported:
                    self._reported.add(problem)
                    self._say(problem)
            if time.monotonic() > deadline:
                why = f": {'; '.join(problems)}" if problems else ""
                raise MdstreamError(f"the first price did not come within {UP_LIMIT_S:.0f} s{why}")
            time.sleep(POLL_S)


@contextmanager
def stack(*, rate: int, live: bool, say: Say) -> Iterator[DemoStack]:
    """Start everything, wait until prices flow, and stop everything on leaving. Raises MdstreamError."""
    settings = config.load()
    services = Services()
    with Supervisor(settings.data_dir / "logs", {}, say=say) as parts:
        start_broker(parts, services)
        start_database(parts, services, temporary=True)
        start_nats(parts, services, temporary=True)
        for line in services.descriptions:
            say(line)
        parts.set({**services.environment, "NATS_ENABLED": "true", "USE_JETSTREAM": "true"})
        migrate.upgrade(config.load(database_url=services.database_url))
        if not live:
            parts.set(_simulate(parts, rate))
            say(f"simulated venues: {', '.join(SYMBOLS)}, {rate} frames/s together; binance stalls now and then")
        running = pipeline.start(parts, list(SYMBOLS.items()), SINKS)
        senpai, api = free_port(SENPAI_PORT), free_port(API_PORT)
        parts.start("senpai", "senpai", "--port", str(senpai), stage=pipeline.WORKER_STAGE)
        parts.start("api", "api", "--port", str(api), stage=pipeline.WORKER_STAGE)
        say("ingestors, core worker, gap repair, the roles files, timescale and nats, senpai and the API are starting")
        senpai_page, chart_page = f"http://127.0.0.1:{senpai}/", f"http://127.0.0.1:{api}/chart"
        say(f"features and signals: {senpai_page}")
        say(f"charts: {chart_page}")
        say(f"history over HTTP: http://127.0.0.1:{api}/docs")
        played = DemoStack(parts, running, senpai_page, chart_page, settings.data_dir, say)
        played.wait_for_prices()
        yield played


def _simulate(parts: Supervisor, rate: int) -> dict[str, str]:
    """Start the venues. Returns the variables that point the ingestors at them."""
    faults = [part for fault in FAULTS for part in ("--fault", fault)]
    port = str(free_port(VENUES_PORT))  # fixed, so that restarted venues keep their addresses
    options = "--port", port, "--venues", ",".join(SYMBOLS), "--rate", str(rate)
    part = parts.start("simulate", "simulate", *options, *faults, stage=VENUES_STAGE)
    found: dict[str, str] = {}

    def up() -> bool:
        for line in part.log.read_text(errors="replace").splitlines():
            if line.startswith("export "):
                name, _, url = line.removeprefix("export ").partition("=")
                found[name] = url
        return all(ws_setting(venue) in found for venue in SYMBOLS)

    parts.wait(up, part, UP_LIMIT_S)
    return found
