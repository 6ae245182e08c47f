"""A backfill of one symbol's trades by their ids: what the stream lacks is asked for, fetched, taken, and checked.

    HistoryRequest ─> raw topic ─> stream ─> HistoryAnswer on md.gaps: what is missing
         │ the first and last id of the time range, by bisection of the venue's history
         v for each part of it, several at a time
    HistoryRequest that opens it ─> answer ─> pages of the venue to the raw topic, as by repair
         v
    HistoryRequest ─> answer: what is missing still, which has to be what the venue does not have

The state of a backfill is the stream's: what was opened and what was taken. A backfill that is killed and started again
is told what it still has to fetch, behind all that the killed one wrote: both are in one partition of the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from mdstream.backfill.ahead import ahead
from mdstream.backfill.plan import Bisection, parts
from mdstream.backfill.result import Result, Show
from mdstream.backfill.stream import Stream
from mdstream.backfill.windows import Times
from mdstream.errors import BackfillError, FrameError
from mdstream.repair.desk import Desk
from mdstream.repairs import HistoryRequest, RepairRequest, rest_frame
from mdstream.stream.bounds import MAX_ID
from mdstream.venues.rest import PermanentError
from mdstream.venues.spans import Span, count, merged, within, without


class BackfillById:
    """The trades of one symbol made in a time."""

    def __init__(self, desk: Desk, stream: Stream, result: Result, times: Times, show: Show) -> None:
        self._desk, self._stream, self.result, self._show = desk, stream, result, show
        self._history, self._times, self._id_space = desk.history, times, ""

    async def run(self) -> None:
        """Fill `result`. Raises BackfillError if the stream takes no history, or the venue refuses to give any."""
        missing = await self._missing()
        wanted = await self._wanted(missing)
        todo = within(missing, wanted)
        total, result = count(todo), self.result
        result.asked, done = total, 0
        if total:
            self._show(result, 0, 0.0)  # its time begins
        planned = parts(todo, wanted, self._history.most_rows, newest_first=self._history.newest_first)
        async with aclosing(ahead(self._fetch_part(part) for part in planned)) as fetched:
            async for fetched_part in fetched:
                done += count([fetched_part])
                self._show(result, done, done / total)
        left = await self._asked(wanted, opens=False) if todo else []
        lost = (what for what, _ in result.lost if isinstance(what, Span))
        result.missing = without(left, merged(lost))

    async def _fetch_part(self, part: Span) -> Span:
        for span in await self._asked(part, opens=True):
            await self._fetch(span)
        return part

    async def _missing(self) -> list[Span]:
        """What the stream lacks, in the id space that it counts the trades in."""
        refusals = []
        for id_space in self._history.endpoints:
            self._id_space = id_space
            answer = await self._stream.ask(self._request(Span(0, MAX_ID), opens=False))
            if not answer.refused:
                return [Span(*span) for span in answer.missing]
            refusals.append(answer.refused)
        raise self._error("; ".join(dict.fromkeys(refusals)))

    async def _asked(self, span: Span, *, opens: bool) -> list[Span]:
        answer = await self._stream.ask(self._request(span, opens=opens))
        if answer.refused:
            raise self._error(answer.refused)
        return [Span(*missing) for missing in answer.missing]

    def _request(self, span: Span, *, opens: bool) -> HistoryRequest:
        return HistoryRequest(self.result.symbol, self._history.name, self._id_space, *span, opens)

    async def _wanted(self, missing: Sequence[Span]) -> Span:
        """The first and the last missing id of the time range; an empty span if there is none."""
        if not missing:
            return Span(0, -1)
        first, end = [await self._id_at(ts_ns, missing[-1].last) for ts_ns in self._times]
        return Span(first, end - 1)

    async def _id_at(self, ts_ns: int, newest: int) -> int:
        bisection = Bisection(ts_ns, newest, newest_first=self._history.newest_first)
        while (found := bisection.found) is None:
            bisection.answered(await self._trade_at(bisection.probe))
        return found

    async def _trade_at(self, number: int) -> tuple[int, int] | None:
        """Id and time of the trade that the venue has at an id, or next to it in the order of its pages."""
        request = RepairRequest(self.result.symbol, self._history.name, self._id_space, number, number, 0)
        page = self._history.ask(request, Span(number, number))
        if isinstance(page, PermanentError):
            raise self._error(page.reason)
        answer = await self._desk.access.get(page)
        if isinstance(answer, PermanentError):
            raise self._error(answer.reason)
        try:
            trades = self._history.trades(request, rest_frame(page.target, self._id_space, answer.body))
        except (FrameError, msgspec.MsgspecError) as error:
            raise self._error(f"the venue's answer cannot be understood: {error}") from None
        return next(((trade.first_id, trade.ts_exchange or 0) for trade in trades), None)

    async def _fetch(self, span: Span) -> None:
        """The trades of a span to the raw topic, and what the venue does not have of it."""
        done = asyncio.Event()
        request = RepairRequest(self.result.symbol, self._history.name, self._id_space, *span, time.time_ns())
        job = self._desk.add(request, waiting_since_s=time.time(), done=done.set)
        try:
            await done.wait()
        finally:
            if not done.is_set():
                self._desk.drop([job])
        self.result.found += job.repair.found
        if job.repair.understood:  # else it counts as missing: the log has the reason
            self.result.lost += [(Span(loss.first_id, loss.last_id), loss.reason) for loss in job.repair.lost()]

    def _error(self, reason: str) -> BackfillError:
        return BackfillError(self._history.name, self.result.symbol, reason)
