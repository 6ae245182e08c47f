"""History by time: trades of a source whose ids do not count, from before the first live trade. Pure.

    recovered trade ─> take ─> published once; left out if it was published before, or is no history
    RangeRequest ─> answer ─> the time that is missing; or why none is taken
          └ taken ─> what is missing of it is taken from now on: the venue has no other trades there

     time  missing │ whole: taken │ ids: taken one by one │ missing │ the first live trade

An instrument's history is taken from one source, unless its sources are merged, as by ids (history.py). It ends before
the first live trade of all. Trades of earlier times may still come live: their ids are remembered, as are those of the
last trades of history, so that none comes both ways.
"""

from __future__ import annotations

from mdstream.errors import FrameError
from mdstream.repairs import RangeAnswer, RangeRequest
from mdstream.stream.lines import Line
from mdstream.stream.ranges import MAX_RANGES, NOT_LIVE, OLDER, TOO_MANY_RANGES, refusal
from mdstream.stream.state import TakenTrades
from mdstream.ticks import TradeTick
from mdstream.venues.spans import Span, has, merged, within, without

MAX_IDS = 20_000
"""Trades that are taken while their time is not: a page of the venue, and what was left of others."""
MAX_EARLY = 256
LATE_NS = 10_000_000_000
"""How much older than the first live trade one may be that is still to come live."""


def take(line: Line, tick: TradeTick, *, merges: bool) -> str:
    """Record a recovered trade that is to be published; else, why it is left out. Raises FrameError if it cannot be
    taken. `merges`: whether the instrument's sources are merged."""
    ts, identity, past = tick.ts_exchange, tick.trade_id, line.feed.past
    if ts is None or not identity:
        raise FrameError("a past trade without a time or an id: it cannot be known again")
    if ts >= line.instrument.begun_ts or _refusal(line, merges=merges):
        return "no history"
    if has(past.whole, ts) or identity in past.ids or identity in past.early:
        return "repeat"
    if len(past.ids) >= MAX_IDS:
        past.refused_ns = min(ts, past.refused_ns or ts)
        raise FrameError(f"more than {MAX_IDS} past trades of times that are not taken: ask for the older ones first")
    past.ids[identity] = ts
    line.instrument.history_of = line.instrument.history_of or line.source.name
    return ""


def came(line: Line, tick: TradeTick) -> bool:
    """Whether history has brought a live trade that is older than the first one. If not, it is remembered."""
    past = line.feed.past
    if tick.trade_id in past.ids or tick.trade_id in past.early:
        return True
    _remember(past, tick.trade_id)
    return False


def answer(line: Line | None, request: RangeRequest, offset: int, *, merges: bool) -> RangeAnswer:
    """The answer to the request at `offset` of the raw partition, recorded in the line's state if it takes.

    `line`: the source's line of the instrument, None without.
    """
    if line is None:
        return refusal(request, offset, NOT_LIVE)
    if refused := _refusal(line, merges=merges):
        return refusal(request, offset, refused)
    past, begun_ts = line.feed.past, line.instrument.begun_ts
    asked = within([Span(request.begin, request.end - 1)], Span(0, begun_ts - 1))
    if request.taken and not _take_time(line, asked):
        return refusal(request, offset, TOO_MANY_RANGES)
    missing = [(first, last + 1) for first, last in without(asked, past.whole)]
    r = request
    return RangeAnswer(r.symbol, r.provider, r.interval, r.begin, r.end, offset, missing, begun_ts)


def _take_time(line: Line, asked: list[Span]) -> bool:
    """Take all of a time, up to the first trade that found no room; False, and nothing is done, if that are too many
    ranges."""
    past = line.feed.past
    refused_ns = past.refused_ns if has(asked, past.refused_ns) else 0
    if refused_ns:
        asked = within(asked, Span(0, refused_ns - 1))
    whole = merged([*past.whole, *asked])
    if len(whole) > MAX_RANGES:
        return False
    line.instrument.history_of = line.instrument.history_of or line.source.name
    if refused_ns:
        past.refused_ns = 0
    past.whole = whole
    late_ns = line.instrument.begun_ts - LATE_NS
    for identity, ts in sorted(past.ids.items(), key=lambda one: one[1]):
        if has(asked, ts):
            del past.ids[identity]
            if ts >= late_ns:
                _remember(past, identity)
    return True


def _remember(past: TakenTrades, identity: str) -> None:
    past.early[identity] = None
    if len(past.early) > MAX_EARLY:
        del past.early[next(iter(past.early))]


def _refusal(line: Line, *, merges: bool) -> str:
    """Why no history is taken; empty if it is."""
    instrument = line.instrument
    if line.source.contiguous:
        return "its trade ids count: its history is asked for by them"
    if not line.trades.seen.recent:
        return NOT_LIVE
    if not instrument.begun_by:
        return OLDER
    if not merges and instrument.history_of not in ("", line.source.name):
        return f"its history is {instrument.history_of}'s: two would have each time of the market twice"
    return ""
