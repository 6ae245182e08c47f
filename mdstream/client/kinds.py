"""The kinds of events that the client reads, by the name that topics, tables and commands have."""

from __future__ import annotations

from typing import Any

from mdstream.events import Bar, BookL2, Quote, Trade

KINDS: dict[str, type[Any]] = {"trades": Trade, "quotes": Quote, "books": BookL2, "bars": Bar}
