"""The client: live events from Kafka, typed, each once; and history from the database as a frame.

    for trade in mdstream.client.trades("BTCUSDT"): ...
    async for quote in mdstream.client.quotes("BTCUSDT", "ETHUSDT", start="15m"): ...

docs/client.md is the users' page.
"""

from __future__ import annotations

from datetime import date

from mdstream.client.frames import history
from mdstream.client.numbers import Hole
from mdstream.client.start import LATEST
from mdstream.client.stream import OnHole, Stream
from mdstream.config import Settings
from mdstream.errors import HoleError
from mdstream.events import Bar, BookL2, Quote, Trade

__all__ = ["Hole", "HoleError", "bars", "books", "history", "quotes", "trades"]


def trades(
    *symbols: str,
    start: str | date | int = LATEST,
    follow: bool = True,
    on_hole: OnHole | None = None,
    settings: Settings | None = None,
) -> Stream[Trade]:
    """The trades of some instruments, or of all: an iterator for `for` and `async for`.

    `start`: "latest"; "earliest"; a time (a date, text like "2026-01-05T15:00", an age like "15m"; UTC without
    a zone), that is everything written to Kafka since; or, of one symbol, a `seq` as an integer. `follow=False`: end at
    the present end. `on_hole` is called with each hole in the numbers; without it a hole raises HoleError. `settings`:
    of `mdstream.config.load`, by default the environment's.

    Raises SettingsError here; BrokerError, HoleError and RecordError while it is read.
    """
    return Stream("trades", symbols, start=start, follow=follow, on_hole=on_hole, settings=settings)


def quotes(
    *symbols: str,
    start: str | date | int = LATEST,
    follow: bool = True,
    on_hole: OnHole | None = None,
    settings: Settings | None = None,
) -> Stream[Quote]:
    """The quotes of some instruments, or of all; the arguments are those of `trades`."""
    return Stream("quotes", symbols, start=start, follow=follow, on_hole=on_hole, settings=settings)


def books(
    *symbols: str,
    start: str | date | int = LATEST,
    follow: bool = True,
    on_hole: OnHole | None = None,
    settings: Settings | None = None,
) -> Stream[BookL2]:
    """The books of some instruments, or of all; the arguments are those of `trades`."""
    return Stream("books", symbols, start=start, follow=follow, on_hole=on_hole, settings=settings)


def bars(
    *symbols: str,
    interval: str | None = None,
    start: str | date = LATEST,
    follow: bool = True,
    settings: Settings | None = None,
) -> Stream[Bar]:
    """The bars of some instruments, or of all, of one `interval` ("1m") or all; each revision once, and no lower one
    after it. Bars have no `seq`, and so no holes; the other arguments are those of `trades`."""
    return Stream("bars", symbols, start=start, follow=follow, interval=interval, settings=settings)
