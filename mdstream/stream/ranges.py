"""History by time: a venue's own bars from before the first live trade of an instrument. Pure.

    BarTick ─> take ─> published once; left out if it was published before, or is no history
    RangeRequest ─> answer ─> the time that is missing; or why none is taken
          └ taken ─> what is missing of it is taken from now on: the venue has no other bars there

     time  missing │ whole: taken │ bars of a window that is not taken yet │ missing │ made of the live trades
                                                                                     └ the end of the first one's bar

A bar of history is over, and begins before the first live trade. Whose it is does not matter: the first one to bring
a bar, or to take a time, is not followed by another.
"""

from __future__ import annotations

from mdstream.bars.rules import interval
from mdstream.errors import FrameError
from mdstream.instruments import has_base_units
from mdstream.repairs import RangeAnswer, RangeRequest
from mdstream.stream.bounds import check_interval
from mdstream.stream.state import Instrument, Taken
from mdstream.ticks import BarTick
from mdstream.venues.spans import Span, add, has, merged, within, without

MAX_INTERVALS = 16
MAX_RANGES = 256
"""Separate ranges of an interval that are taken."""
MAX_BARS = 1_024
"""Separate ranges of bars of an interval that are in no taken range: some windows without a single run of bars."""

TOO_MANY_RANGES = (
    f"more than {MAX_RANGES} separate ranges of it would be taken: ask for what lies between those that are"
)
TOO_MANY_INTERVALS = f"bars of {MAX_INTERVALS} other intervals of it are taken, and no more are"
NOT_LIVE = "no live trade of it was published: start `mdstream ingest`, history ends at its first trade"
OLDER = "its state is of an older version, which did not record where its trades began"


def take(instrument: Instrument, tick: BarTick, recv_ns: int) -> str:
    """Record a bar that is to be published; else, why it is left out. `recv_ns`: of its frame. Raises FrameError."""
    name, begin = tick.interval, tick.ts_open
    each_ns = interval(name).ns
    if begin >= _end_ns(instrument, each_ns, recv_ns):
        return "no history"
    taken = instrument.past.get(name)
    if taken is None:
        if len(instrument.past) >= MAX_INTERVALS:
            raise FrameError(TOO_MANY_INTERVALS)
        taken = instrument.past[name] = Taken()
    elif has(taken.whole, begin) or has(taken.bars, begin):
        return "repeat"
    add(taken.bars, Span(begin, begin + each_ns - 1))
    # Those of windows that nobody finished: if they come again, they are published again, the same.
    del taken.bars[: max(0, len(taken.bars) - MAX_BARS)]
    return ""


def answer(instrument: Instrument, request: RangeRequest, offset: int, recv_ns: int) -> RangeAnswer:
    """The answer to the request at `offset` of the raw partition, recorded in the instrument's state if it takes."""
    refused = _refusal(instrument, request)
    if refused:
        return refusal(request, offset, refused)
    end_ns = _end_ns(instrument, interval(request.interval).ns, recv_ns)
    asked = within([Span(request.begin, request.end - 1)], Span(0, end_ns - 1))
    taken = instrument.past.get(request.interval, Taken())
    if request.taken and asked:
        whole = merged([*taken.whole, *asked])
        if len(whole) > MAX_RANGES:
            return refusal(request, offset, TOO_MANY_RANGES)
        taken = instrument.past[request.interval] = Taken(whole, without(taken.bars, asked))
    missing = [(first, last + 1) for first, last in without(asked, taken.whole)]
    r, live_from = request, instrument.begun_ts if instrument.begun_by else None
    return RangeAnswer(r.symbol, r.provider, r.interval, r.begin, r.end, offset, missing, live_from)


def refusal(request: RangeRequest, offset: int, reason: str) -> RangeAnswer:
    r = request
    return RangeAnswer(r.symbol, r.provider, r.interval, r.begin, r.end, offset, refused=reason)


def _end_ns(instrument: Instrument, each_ns: int, recv_ns: int) -> int:
    """Bars that begin before this are history: those that are over, and begin before the first live trade."""
    over_ns = recv_ns - recv_ns % each_ns
    if not instrument.trade_seq:
        return over_ns
    return min(over_ns, -(-instrument.begun_ts // each_ns) * each_ns)


def _refusal(instrument: Instrument, request: RangeRequest) -> str:
    """Why no history is taken; empty if it is."""
    name = request.interval
    try:
        check_interval(name)
    except FrameError as error:
        return str(error)
    if request.begin % interval(name).ns or request.end % interval(name).ns:
        return f"{request.begin} and {request.end} are not both multiples of {name} since 1970"
    if not has_base_units(request.symbol):
        return "it has no bars: its sizes are not in units of base"
    if instrument.trade_seq and not instrument.begun_by:
        return OLDER
    if name not in instrument.past and len(instrument.past) >= MAX_INTERVALS:
        return TOO_MANY_INTERVALS
    return ""
