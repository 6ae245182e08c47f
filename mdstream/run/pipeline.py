"""mdstream's own parts: ingestors, core worker, gap repair and sinks, each with its HTTP port."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mdstream.app import WEB_PORT
from mdstream.ingest.process import DEFAULT_PORT as INGEST_PORT
from mdstream.repair.process import DEFAULT_PORT as REPAIR_PORT
from mdstream.run.services import free_port
from mdstream.run.supervisor import Supervisor

SINKS = ("files", "timescale", "nats")
WORKER_STAGE, INGEST_STAGE = 1, 2
ANSWER_LIMIT_S = 2.0


@dataclass(frozen=True)
class Pipeline:
    """The core worker's page, and the HTTP ports of the ingestors by provider and of the sinks by role."""

    page: str
    ingestors: dict[str, int]
    sinks: dict[str, int]

    def latest(self) -> dict[str, Any]:
        """The latest prices by symbol; empty while the worker does not answer yet."""
        found = _json(f"{self.page}latest/")
        return found.get("symbols") or {}

    def problems(self) -> list[str]:
        """The venues that the ingestors have no connection to, with the ingestors' reasons."""
        pages = [_json(f"http://127.0.0.1:{port}/health") for port in self.ingestors.values()]
        feeds = [feed for page in pages for feed in page.get("feeds", {}).items()]
        return [f"{name}: {feed['reason']}" for name, feed in feeds if feed["reason"]]


def start(parts: Supervisor, wanted: Sequence[tuple[str, str]], sinks: Sequence[str]) -> Pipeline:
    """Start all of it; `wanted`: provider and its symbols."""
    ports: dict[str, int] = {}
    for role in sinks:
        ports[role] = free_port(0)
        parts.start(role, "worker", role, "--port", str(ports[role]), stage=WORKER_STAGE)
    core = free_port(WEB_PORT)
    parts.start("core", "worker", "core", "--port", str(core), stage=WORKER_STAGE)
    parts.start("repair", "repair", "--port", str(free_port(REPAIR_PORT)), stage=WORKER_STAGE)
    ingestors: dict[str, int] = {}
    for provider, symbols in wanted:
        port = ingestors[provider] = free_port(0 if ingestors else INGEST_PORT)
        options = ("--provider", provider, "--symbols", symbols, "--port", str(port))
        parts.start(f"ingest-{provider}", "ingest", *options, stage=INGEST_STAGE)
    return Pipeline(f"http://127.0.0.1:{core}/", ingestors, ports)


def _json(url: str) -> dict[str, Any]:
    """A page's JSON, also with status 503; empty if nothing answers yet."""
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_LIMIT_S) as response:  # noqa: S310  our own page
                found = json.load(response)
        except urllib.error.HTTPError as answer:
            found = json.load(answer)
    return found
