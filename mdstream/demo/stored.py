"""How much of the demo's stream the sinks have stored."""

from __future__ import annotations

import re
import sqlite3
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mdstream.sinks.sqlite import FILE_NAME

ANSWER_LIMIT_S = 1.0
COUNTERS = {"timescale": "mdstream_timescale_rows_total", "nats": "mdstream_nats_published_total"}
"""Each role's counter on /metrics of what its server has acknowledged."""


class Stored(NamedTuple):
    """Trades in SQLite, rows in PostgreSQL and messages in the stream on NATS; None while unknown."""

    trades: int | None
    rows: int | None
    messages: int | None


def stored(data: Path, ports: Mapping[str, int]) -> Stored:
    """What is stored now; `ports` are the roles' HTTP ports."""
    return Stored(_trades(data), _counted("timescale", ports), _counted("nats", ports))


def _trades(data: Path) -> int | None:
    database = data / FILE_NAME
    try:
        with sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=0.2) as connection:
            (count,) = connection.execute("SELECT max(rowid) FROM trades").fetchone()
            return int(count or 0)
    except sqlite3.Error:
        return None


def _counted(role: str, ports: Mapping[str, int]) -> int | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[role]}/metrics", timeout=ANSWER_LIMIT_S) as answer:
            found = re.search(rf"^{COUNTERS[role]} (\S+)$", answer.read().decode(), re.MULTILINE)
    except OSError:  # it is starting, or too busy to answer
        return None
    return None if found is None else int(float(found[1]))
