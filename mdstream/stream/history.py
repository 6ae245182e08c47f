"""Trades from before the canonical stream's first: what it takes of them, and what it lacks. Pure.

    HistoryRequest ─> refused, with the reason
                   └> the ranges that are missing; with `opens` holes in them, which REST frames fill (dedupe.py)

An instrument's history is taken from one source, whose ids end where its live trades begin, unless its sources are
merged. Market time from the instrument's first published trade on belongs to the sources that were followed then:
another source's trades of it are left out, as at a handover.
"""

from __future__ import annotations

from typing import Literal

from mdstream.errors import FrameError
from mdstream.repairs import HistoryAnswer, HistoryRequest
from mdstream.stream.dedupe import NEAR_NS
from mdstream.stream.lines import Line
from mdstream.stream.ranges import NOT_LIVE, OLDER
from mdstream.ticks import NO_ID, TradeTick
from mdstream.venues.spans import Span

ELSEWHERE = "does the REST interface belong to the websocket's venue?"


def answer(line: Line | None, request: HistoryRequest, offset: int, *, merges: bool) -> HistoryAnswer:
    """The answer to the request at `offset` of the raw partition, recorded in the line's state if it opens history.

    `merges`: whether the instrument's sources are merged. `line`: the source's line of the instrument, None without.
    """
    span = Span(request.first_id, request.last_id)
    refused = _refusal(line, request, merges=merges)
    missing: list[Span] = []
    if line is not None and not refused:
        seen = line.trades.seen
        if request.opens and not seen.open(span):
            refused = "too many separate ranges of it are open: fill those first, or ask for what lies between them"
        else:
            missing = seen.unseen(span)
            if request.opens:
                line.instrument.history_of = line.instrument.history_of or request.provider
    r = request
    ranges = [(first, last) for first, last in missing]
    return HistoryAnswer(r.symbol, r.provider, r.id_space, r.first_id, r.last_id, offset, ranges, refused)


def takes(line: Line, tick: TradeTick, *, merges: bool) -> Literal["yes", "no", "covered"]:
    """Whether a recovered trade from before its source's first one is taken; `covered`: another source was followed
    when it was made. Raises FrameError if it cannot be from before."""
    instrument, ts = line.instrument, tick.ts_exchange or 0
    if not instrument.begun_by or not (merges or instrument.history_of == line.source.name):
        return "no"
    if instrument.begun_by == line.source.name:
        if ts > instrument.begun_ts + NEAR_NS:
            reason = f"trade {tick.trade_id} is of {ts} ns, later than those that came after it"
            raise FrameError(f"{reason}: {ELSEWHERE}")
    elif not merges and ts >= instrument.begun_ts:
        return "covered"
    return "yes"


def _refusal(line: Line | None, request: HistoryRequest, *, merges: bool) -> str:
    """Why no history is taken; empty if it is."""
    if line is not None and not line.source.contiguous:
        return "its trade ids may skip: what is missing is not known"
    if line is None or line.trades.seen.last == NO_ID or not line.instrument.trade_seq:
        return NOT_LIVE
    trades, instrument = line.trades, line.instrument
    if request.id_space != trades.id_space:
        return f"its trades are counted by {trades.id_space or 'one id space'}, not by {request.id_space or 'that'}"
    if trades.seen.begun == 0:
        return "its trade ids began anew while it was read: those before its first mean other trades"
    if trades.seen.begun == NO_ID or not instrument.begun_by:
        return OLDER
    if not merges and instrument.history_of not in ("", request.provider):
        return f"its history is {instrument.history_of}'s: two would have each time of the market twice"
    return ""
