"""The simulator as system tests use it: a process with a control endpoint and a journal of what the venues made."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from processes import Process, Processes, wait_until


class Made(NamedTuple):
    """A trade as a venue made it; times in ns."""

    provider: str
    symbol: str
    trade_id: str
    price: float
    size: float
    ts_exchange: int
    fills: int
    """The number of ids an aggregate covers; they end in `trade_id`."""


@dataclass
class Venues:
    """A running simulator; `urls` are the variables that point `mdstream ingest` and `mdstream repair` at it."""

    process: Process
    urls: dict[str, str]
    journal: Path

    @classmethod
    def start(cls, processes: Processes, journal: Path, *options: object) -> Venues:
        process = processes.mdstream("simulate", "--port", 0, "--journal", journal, *options)
        process.wait_for("export COINBASE_WS_URL=")
        lines = process.output().splitlines()
        exports = [line.removeprefix("export ") for line in lines if line.startswith("export ")]
        return cls(process, dict(line.split("=", 1) for line in exports), journal)

    @property
    def control(self) -> str:
        """The address of the control endpoint."""
        return self.urls["BINANCE_API_BASE_URL"].removesuffix("/binance")

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the control endpoint answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.control}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            said: dict[str, Any] = json.load(answer)
            return said

    def begin(self, venue: str, kind: str, **parameters: Any) -> str:
        """Start a fault; its id."""
        return str(self.ask("POST", "/faults", {"venue": venue, "kind": kind, **parameters})["id"])

    def span(self, fault: str) -> tuple[int, int]:
        """When a fault began and ended, ns; waits until it has."""

        spans: list[tuple[int, int | None]] = []

        def ended() -> bool:
            spans[:] = self.ask("GET", f"/faults/{fault}")["spans"]
            return all(end is not None for _, end in spans)

        wait_until(ended, what=f"the end of fault {fault}")
        ((begin, end),) = spans
        return begin, end or 0

    def pause(self) -> None:
        """Make no more trades."""
        self.ask("POST", "/pause")

    def resume(self) -> None:
        self.ask("POST", "/resume")

    def made(self) -> list[Made]:
        """All that the venues made so far, but for the last half second."""
        lines = self.journal.read_text().splitlines(keepends=True)
        rows = (json.loads(line) for line in lines if line.endswith("\n"))
        return [
            Made(**{"fills": row.get("count", 1)} | {name: row[name] for name in Made._fields[:-1]}) for row in rows
        ]

    def stop(self) -> list[Made]:
        """End the simulator; all that the venues made."""
        assert self.process.stop() == 0, self.process.output()[-2000:]
        return self.made()
