"""What may be asked of the live streams, and the form of server-sent events. Pure, but for the clock of a start.

An event's id is its `seq` in a stream of one symbol's trades, quotes or books. Elsewhere, and before the first event,
it is the place in the log behind it: the offset of each partition, like 0:17,3:4. A stream that begins at an id goes on
behind it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from mdstream.api.history import QueryError, once, symbol_in
from mdstream.client.kinds import checked_interval
from mdstream.client.numbers import Hole
from mdstream.client.start import LATEST, MAX_SEQ, Start, start_of

MAX_SYMBOLS = 100
HEARTBEAT = b": heartbeat\n\n"

_SEQ = re.compile(r"[0-9]{1,16}")
_PLACES = re.compile(r"[0-9]{1,6}:[0-9]{1,18}(,[0-9]{1,6}:[0-9]{1,18})*")


class Asked(NamedTuple):
    """A stream that somebody wants."""

    kind: str
    symbols: tuple[str, ...]
    start: Start
    interval: str | None

    @property
    def numbered(self) -> bool:
        """Whether `seq` alone says where it is."""
        return self.kind != "bars" and len(self.symbols) == 1


class Item(NamedTuple):
    """What is sent: an event of the topic, or with a `name` something about the stream. Either part may be empty."""

    id: str = ""
    data: bytes = b""
    name: str = ""


def asked_of(kind: str, given: Sequence[tuple[str, str]], last_id: str) -> Asked:
    """The stream that a request's parameters ask for: symbol, several times or with commas, start, interval of bars.

    `last_id`: the last id that the client has had, which goes before the start. Raises QueryError, SettingsError.
    """
    allowed = ("symbol", "start", "interval") if kind == "bars" else ("symbol", "start")
    unknown = sorted({name for name, _ in given} - set(allowed))
    if unknown:
        raise QueryError(f"unknown parameter {unknown[0][:40]!r}: there are {', '.join(allowed)}")
    named = [part for name, value in given if name == "symbol" for part in value.split(",")] or [""]
    if len(named) > MAX_SYMBOLS:
        raise QueryError(f"{len(named)} symbols are too many: at most {MAX_SYMBOLS}")
    symbols = tuple(dict.fromkeys(symbol_in({"symbol": symbol}) for symbol in named))
    others = once((name, value) for name, value in given if name != "symbol")
    asked = Asked(kind, symbols, Start(), checked_interval(others.get("interval")))
    start = _after(asked, last_id) if last_id else _start(asked, others.get("start", LATEST))
    return asked._replace(start=start)


def _start(asked: Asked, text: str) -> Start:
    if not _SEQ.fullmatch(text):
        return start_of(text[:100], asked.symbols)
    if not asked.numbered or int(text) >= MAX_SEQ:
        raise QueryError(f"start={text}: a seq is below 2^53, of one symbol, and not of bars; else give a time")
    return Start(seq=int(text))


def _after(asked: Asked, last_id: str) -> Start:
    if _SEQ.fullmatch(last_id) and asked.numbered and int(last_id) < MAX_SEQ:
        return Start(seq=int(last_id) + 1)
    if _PLACES.fullmatch(last_id):
        return Start(places={int(tp): int(at) for tp, at in (part.split(":") for part in last_id.split(","))})
    raise QueryError(f"Last-Event-ID {last_id[:40]!r} is none of this stream: begin with start=, without it")


def place(places: Mapping[int, int]) -> str:
    """The id that is a place in the log."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(places.items()))


def hole_of(hole: Hole) -> Item:
    """What is said of missing numbers, just before the event behind them."""
    what = {"type": "hole", "symbol": hole.symbol, "first": hole.first, "last": hole.last}
    return Item(data=msgspec.json.encode(what), name="hole")


def failure_of(error: object) -> Item:
    """What is said when a stream cannot go on."""
    return Item(data=msgspec.json.encode({"type": "failure", "error": str(error)}), name="failure")


def sse(item: Item) -> bytes:
    """An item as a server-sent event. One without data only tells the client its id."""
    lines = [b"id: " + item.id.encode()] if item.id else []
    lines += [b"event: " + item.name.encode()] if item.name else []
    lines += [b"data: " + text(item)] if item.data else []
    return b"\n".join(lines) + b"\n\n"


def text(item: Item) -> bytes:
    """The data as one line: line breaks in JSON can only be whitespace."""
    return item.data.replace(b"\n", b" ").replace(b"\r", b" ")
