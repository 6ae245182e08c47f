"""What each venue sends: the lines of its frames.jsonl, and the recorded frames where they are at hand.

A line of mdstream/venues/NAME/frames.jsonl is an example after the venue's documentation, and what it means by hand:

    {"name":..,"frame":TEXT,"ticks":[["TradeTick",{FIELD:VALUE,..}],..]}      a frame, and all of its ticks
    {"name":..,"hex":DIGITS,"ticks":[..]}                                     the same for a frame that is no text
    {"name":..,"request":PATH,"id_space":..,"body":TEXT,"ticks":[..]}         the answer to a request for the past
    {"name":..,"frame" or "request" and "body":..,"refused":WORDS}            it is refused with these words
    {.., "contract_size":DECIMAL}                                             with what a contract is worth, in base
    {"name":..,"status":NUMBER,"body":TEXT,"final":WORDS}                     a REST error; "" if it is worth a retry

The id_space of an answer by time (timed.py) is its interval. Fields with a tick's default value may be left out.
Recordings are not part of the project: they are in MDSTREAM_FRAMES, or in ../shared/frames beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mdstream.repairs import rest_frame
from mdstream.ticks import BarTick, BookTick, BookUpdate, Control, HaltTick, QuoteTick, Tick, TradeTick
from mdstream.venues.feed import Provider
from mdstream.venues.providers import PROVIDERS

PROJECT = Path(__file__).resolve().parents[2]
RECORDED = Path(os.environ.get("MDSTREAM_FRAMES", PROJECT.parent / "shared" / "frames"))
VENUES = sorted(PROVIDERS)
KINDS = (TradeTick, QuoteTick, BookTick, BookUpdate, HaltTick, BarTick, Control)
TICKS: dict[str, type[Tick]] = {kind.__name__: kind for kind in KINDS}


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line, as above."""

    name: str
    frame: str = ""
    hex: str = ""
    request: str = ""
    id_space: str = ""
    body: str = ""
    contract_size: str = ""
    status: int = 0
    ticks: list[tuple[str, dict[str, Any]]] = []
    refused: str = ""
    final: str = ""

    @property
    def raw(self) -> bytes:
        """The frame as it is on the raw topic."""
        if self.request:
            return rest_frame(self.request, self.id_space, self.body.encode())
        return bytes.fromhex(self.hex) or self.frame.encode()

    def key(self, provider: Provider, symbol: str) -> bytes:
        """The key of the frame by itself, if it is about this canonical symbol."""
        return (provider.as_sent(provider.to_venue(symbol)) if self.contract_size else symbol).encode()

    @property
    def expected(self) -> list[Tick]:
        """Its ticks."""
        return [msgspec.convert(fields, TICKS[kind]) for kind, fields in self.ticks]

    @property
    def has_data(self) -> bool:
        """Whether it holds market data."""
        return any(kind != "Control" for kind, _ in self.ticks)


def examples(venue: str) -> list[Example]:
    """The lines of a venue; none if it has no such file."""
    path = files(f"mdstream.venues.{venue}").joinpath("frames.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [msgspec.json.decode(line, type=Example) for line in lines]


def frames(venue: str) -> list[Example]:
    """The examples that are frames with ticks."""
    return [example for example in examples(venue) if not example.status and not example.refused]


def written(venue: str) -> list[bytes]:
    """The examples of its websocket, as they are on the wire."""
    return [example.raw for example in frames(venue) if not example.request]


def each(*, data: bool = False, refused: bool = False, status: bool = False) -> list[Any]:
    """Parameters (venue, example): frames with ticks (with market data only), refused frames, or REST errors."""

    def wanted(example: Example) -> bool:
        if refused or status:
            return bool(example.refused) if refused else bool(example.status)
        return example in frames_ and (example.has_data or not data)

    found = []
    for venue in VENUES:
        frames_ = frames(venue)
        found += [pytest.param(venue, e, id=f"{venue}: {e.name}") for e in examples(venue) if wanted(e)]
    return found


def recorded(venue: str) -> Iterator[bytes]:
    """Every recorded frame of the venue, byte for byte; none where there is no recording."""
    path = RECORDED / f"{venue}.jsonl"
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line)["frame"].encode() for line in lines)
