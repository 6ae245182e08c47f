"""Is expected data arriving? A rule over counts, stepped about once a second.

A channel (one symbol's trades, quotes or books) and a connection as a whole are each compared with their own history:

    stale   silent for min_silence_s, and for FACTOR times its longest silence of the last one to two hours

so a busy pair is stale after a minute of silence, and one that trades every ten minutes after half an hour. A source
with data in fewer than FAMILIAR steps has no expected interval yet and is never stale.

    a symbol is mute         nothing at all has come in min_silence_s: logged. Venues acknowledge unknown names, too
    a channel is stale       logged: the market may have gone quiet, or the subscription was lost
    the connection is stale  its data has stopped, though heartbeats may flow: reconnect. If that brings nothing, the
                             wait for the next time doubles, up to an hour: a market that closes causes no storm

Frames in the first seconds of a connection answer the subscription (snapshots, last trades) and prove nothing. Time
counts only while the connection is up and being read, and the symbol's market is not closed; a silence begins anew when
it opens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from mdstream.trading_hours import TradingHours
from mdstream.venues.feed import BOOK, QUOTE, TRADE, Route
from mdstream.venues.session import named

KINDS = (TRADE, QUOTE, BOOK)
FACTOR = 3.0
FAMILIAR = 10
WINDOW_S = 3600.0
SETTLE_S = 10.0
MAX_WAIT_S = 3600.0


class SilenceTracker:
    """One source of data: its expected interval and its current silence, in seconds."""

    __slots__ = ("_age_s", "_before_s", "_broken", "_longest_s", "data_steps", "silent_s")

    def __init__(self) -> None:
        self.silent_s = 0.0
        self.data_steps = 0
        """Steps with data."""
        self._longest_s = self._before_s = self._age_s = 0.0
        self._broken = True

    def interrupt(self) -> None:
        """A new connection cuts the current silence: do not learn from it."""
        self._broken = True

    def pause(self) -> None:
        """The market is closed: no silence, and nothing to learn."""
        self.silent_s, self._broken = 0.0, True

    def step(self, passed_s: float, *, has_data: bool) -> None:
        """Advance by `passed_s` seconds."""
        self.silent_s += passed_s
        self._age_s += passed_s
        if self._age_s >= WINDOW_S:
            self._before_s, self._longest_s, self._age_s = self._longest_s, 0.0, 0.0
        if not has_data:
            return
        if not self._broken:
            self._longest_s = max(self._longest_s, self.silent_s)
        self.silent_s, self._broken = 0.0, False
        self.data_steps += 1

    @property
    def expected_s(self) -> float:
        """Its expected interval: its longest silence of the last one to two hours."""
        return max(self._longest_s, self._before_s)

    def limit_s(self, min_silence_s: float) -> float | None:
        """The silence that makes it stale; None while its expected interval is unknown."""
        return max(min_silence_s, FACTOR * self.expected_s) if self.data_steps >= FAMILIAR else None

    def stale(self, min_silence_s: float) -> bool:
        """Whether it has been silent for unusually long."""
        limit_s = self.limit_s(min_silence_s)
        return limit_s is not None and self.silent_s >= limit_s


class Freshness:
    """The freshness of one connection with canonical `symbols`; with `min_silence_s` 0 nothing is ever stale.

    `hours`: of a symbol, None if its market does not close.
    """

    def __init__(
        self,
        symbols: Collection[str],
        min_silence_s: float,
        hours: Callable[[str], TradingHours | None] = lambda _symbol: None,
    ) -> None:
        self._min_silence_s, self._hours_of = min_silence_s, hours
        self._hours: dict[str, TradingHours | None] = {}
        self.closed = False
        """Whether the markets of all symbols are closed."""
        self.quiet = False
        """Whether none of them is in a regular session: there may be no frame for long."""
        self._silences: dict[Route, SilenceTracker] = {}
        self._unheard: dict[str, float] = {}  # symbols, and for how long
        self._counts: dict[Route, int] = {}
        self.change(add=symbols)
        self._data_frames = 0
        self._settling_s = 0.0
        self._reconnects = 0
        self._due_s: float | None = None
        self.data = SilenceTracker()
        self.stale: frozenset[Route] = frozenset()
        self.mute: frozenset[str] = frozenset()

    def change(self, *, add: Collection[str] = (), remove: Collection[str] = ()) -> None:
        """Symbols come and go."""
        for symbol in remove:
            self._hours.pop(symbol, None)
            self._unheard.pop(symbol, None)
            for kind in KINDS:
                self._silences.pop(Route(symbol.encode(), kind), None)
        for symbol in add:
            self._hours[symbol], self._unheard[symbol] = self._hours_of(symbol), 0.0
            self._silences.update({Route(symbol.encode(), kind): SilenceTracker() for kind in KINDS})
        self._counts = {route: self._counts.get(route, 0) for route in self._silences}

    def connected(self) -> None:
        """A new connection: its first frames do not count."""
        self._settling_s = min(SETTLE_S, self._min_silence_s)
        for silence in (self.data, *self._silences.values()):
            silence.interrupt()

    def step(self, passed_s: float, counts: Mapping[Route, int], data_frames: int, now_ns: int = 0) -> bool:
        """Advance by `passed_s` seconds to `now_ns`; whether to reconnect.

        `counts`: frames so far by route; `data_frames`: those of this connection, whatever their symbol.
        """
        closed = self._closed_at(now_ns)
        self._unheard = {
            symbol: silent_s + (0.0 if symbol in closed else passed_s)
            for symbol, silent_s in self._unheard.items()
            if not any(counts.get(Route(symbol.encode(), kind)) for kind in KINDS)
        }
        min_silence_s = self._min_silence_s
        self.mute = frozenset(s for s, silent_s in self._unheard.items() if silent_s >= min_silence_s > 0)
        if self._settling_s > 0:
            self._settling_s -= passed_s
            self._counts = {route: counts.get(route, 0) for route in self._silences}
            self._data_frames = data_frames
            return False
        for route, silence in self._silences.items():
            count = counts.get(route, 0)
            if closed and route.key.decode() in closed:
                silence.pause()
            else:
                silence.step(passed_s, has_data=count != self._counts[route])
            self._counts[route] = count
        has_data, self._data_frames = data_frames != self._data_frames, data_frames
        if self.closed:
            self.data.pause()
        else:
            self.data.step(passed_s, has_data=has_data)
        self.stale = frozenset(
            r for r, s in self._silences.items() if s.silent_s >= min_silence_s > 0 and s.stale(min_silence_s)
        )
        if has_data or self.closed:
            self._due_s, self._reconnects = None, 0
        return self._reconnect_due()

    def _closed_at(self, now_ns: int) -> frozenset[str]:
        """The symbols whose markets are closed; notes what holds for all of them."""
        sessions = {symbol: hours.at(now_ns).name for symbol, hours in self._hours.items() if hours is not None}
        closed = frozenset(symbol for symbol, name in sessions.items() if name == "closed")
        self.closed = bool(closed) and len(closed) == len(self._hours)
        self.quiet = bool(sessions) and len(sessions) == len(self._hours) and "regular" not in sessions.values()
        return closed

    def _reconnect_due(self) -> bool:
        limit_s = self.data.limit_s(self._min_silence_s)
        if not self._min_silence_s or limit_s is None or self.data.silent_s < (self._due_s or limit_s):
            return False
        self._reconnects += 1
        self._due_s = self.data.silent_s + max(limit_s, min(limit_s * 2**self._reconnects, MAX_WAIT_S))
        return True

    @property
    def data_limit_s(self) -> float | None:
        """The silence that makes the connection stale; None while its expected interval is unknown."""
        return self.data.limit_s(self._min_silence_s) if self._min_silence_s else None

    @property
    def data_stale(self) -> bool:
        """Whether the connection's data as a whole has stopped."""
        return bool(self._min_silence_s) and self.data.stale(self._min_silence_s)

    def describe(self) -> str:
        """The silence of the connection's data, in words."""
        return f"no data for {self.data.silent_s:.0f} s, where {self.data.expected_s:.0f} s was the longest silence"

    def describe_mute(self) -> str:
        """The first NAMED mute symbols, in words."""
        symbols = named(sorted(self.mute))
        silent_s = min(self._unheard[symbol] for symbol in self.mute)
        return f"no data for {symbols} in {silent_s:.0f} s: does the venue have such an instrument?"

    def describe_channels(self, routes: Collection[Route]) -> str:
        """The first NAMED channels in words, each with its silence if it is silent now."""
        return named([self._describe_channel(route) for route in sorted(routes)])

    def _describe_channel(self, route: Route) -> str:
        silence, name = self._silences[route], f"{route.key.decode()} {route.kind.decode()}"
        return (
            f"{name} (silent {silence.silent_s:.0f} s, longest {silence.expected_s:.0f} s)"
            if silence.silent_s
            else name
        )

    @property
    def silences(self) -> Mapping[Route, SilenceTracker]:
        """By subscribed channel, with data or not."""
        return self._silences
