"""The base of what a venue has of the past by time: its bars, and trades where their ids do not count. Pure.

    missing time ─ windows ─> ask ─> Page ─ HTTP, elsewhere ─> Answer ─ judge ─> read ─> bars or trades
                                      ^──────── more: the next page of the window ──┘

The venue's provider has to decode the answers (mdstream/repairs.py); their `view` is the interval.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, NamedTuple

from mdstream.errors import SymbolError
from mdstream.ticks import BarTick, TradeTick
from mdstream.venues.declared import Declared
from mdstream.venues.past import Page, Past
from mdstream.venues.rest import PermanentError
from mdstream.venues.times import MS, SECOND_NS, iso_of

TRADES = "trades"
"""The interval that stands for trades themselves."""
NO_SETTINGS: Mapping[str, str] = {}


class Endpoint(NamedTuple):
    """Where a symbol's past is requested, `rows` at most in an answer.

    `path`: path and query after the base URL, with the fields symbol and interval (the venue's names) and rows; begin
    and end of the window as begin_s, begin_ms, begin_us, begin_ns, begin_iso; and likewise last_, a unit before the
    end, for a venue that includes the end (last_iso: a nanosecond), and before_, a unit before the beginning, for one
    that leaves that out; and what `fields` adds. `cost`: share of the budget of a request.
    """

    path: str
    rows: int
    cost: float = 1.0


class Timed(Past, Declared, ABC):
    """One venue's past by time. Times are ns since 1970; a window is from `begin_ns` to before `end_ns`."""

    intervals: ClassVar[Mapping[str, str]]
    """The intervals of its bars, as we name them (1m, 1h, 1d), and as the venue does. Those that begin at a multiple of
    themselves since 1970, UTC."""
    bars: ClassVar[Endpoint]
    """A window holds at most `rows` intervals, so that one answer has all of its bars, in any order."""
    trades: ClassVar[Endpoint | None] = None
    """The oldest of a window first. None where the venue has none, or has them by id (History)."""
    reach_ns: ClassVar[int | None] = None
    """How far back the bars of the `near` intervals go, where that is less than what a user may ask for; the newest
    `rows` of each interval if 0."""
    near: ClassVar[Collection[str]] = ()

    def __init__(self, settings: Mapping[str, str] = NO_SETTINGS) -> None:
        super().__init__()
        self._fields = self.fields(settings)

    def fields(self, settings: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG002  a hook: most depend on nothing
        """More fields of the endpoints' paths, as the settings have them."""
        return {}

    def ask(self, symbol: str, interval: str, begin_ns: int, end_ns: int) -> Page | PermanentError:
        """The first page of a window of a canonical symbol."""
        endpoint = self.trades if interval == TRADES else self.bars
        named = "" if interval == TRADES else self.intervals.get(interval)
        if endpoint is None or named is None:
            return PermanentError(
                f"{self.name} has no past {interval if interval == TRADES else f'bars of {interval}'}"
            )
        try:
            venue_id = self.name_of(symbol)
        except SymbolError as error:
            return PermanentError(str(error))
        times = {"begin": begin_ns, "end": end_ns}
        fields = {f"{name}_{unit}": ns // each for name, ns in times.items() for unit, each in UNITS.items()}
        fields |= {f"last_{unit}": (end_ns - each) // each for unit, each in UNITS.items()}
        fields |= {f"before_{unit}": max(0, begin_ns - each) // each for unit, each in UNITS.items()}
        iso = {f"{name}_iso": iso_of(ns) for name, ns in (times | {"last": end_ns - 1}).items()}
        fixed = {"symbol": venue_id, "interval": named, "rows": endpoint.rows, **self._fields}
        target = endpoint.path.format(**fixed, **fields, **iso)
        return Page(target, endpoint.rows, endpoint.cost)

    def name_of(self, symbol: str) -> str:
        """The venue's name of a canonical symbol in a request. Raises SymbolError."""
        return self._provider.to_venue(symbol)

    def more(self, page: Page, body: bytes) -> Page | None:  # noqa: ARG002  a hook: bars come in one page
        """The page after `page`, whose answer is `body`; None if it was the window's last. Raises FrameError or
        msgspec.MsgspecError if the answer cannot be understood."""
        return None

    def read(self, symbol: str, frame: bytes) -> Sequence[BarTick | TradeTick]:
        """What a REST frame holds of a canonical symbol. Raises FrameError or msgspec.MsgspecError if it cannot be
        understood."""
        ticks = self._provider.decode(frame)
        return [tick for tick in ticks if isinstance(tick, (BarTick, TradeTick)) and tick.symbol == symbol]


UNITS = {"s": SECOND_NS, "ms": MS, "us": 1_000, "ns": 1}
