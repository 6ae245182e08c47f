"""A backfill of one symbol by time: of a venue's bars, or of its trades where their ids do not count.

    RangeRequest ─> raw topic ─> stream ─> RangeAnswer on md.gaps: what is missing
         v windows of it, oldest first, several asked for at a time
    pages of the venue to the raw topic, in order; behind those of a window a RangeRequest that takes it ─> answer
         v
    RangeRequest ─> answer: what is missing still, which has to be nothing

The state of a backfill is the stream's: what was taken. One that is killed and started again is told what is missing
still; a window of which it had not written that it is taken is fetched again, and the stream knows its bars and trades.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from mdstream.backfill.ahead import IN_FLIGHT, ahead
from mdstream.backfill.result import Result, Show
from mdstream.backfill.stream import Stream
from mdstream.backfill.windows import (
    SETTLED_NS,
    Times,
    asked,
    count,
    cut,
    left,
    oldest_ns,
    short,
    unit_ns,
    windows,
    without,
)
from mdstream.errors import BackfillError, FrameError
from mdstream.repair.access import Access
from mdstream.repair.rawlog import RawLog
from mdstream.repairs import RangeAnswer, RangeRequest, rest_frame
from mdstream.stream.bounds import check_bar, check_trade
from mdstream.ticks import BarTick, TradeTick
from mdstream.venues.feed import BAR, TRADE
from mdstream.venues.past import Page
from mdstream.venues.rest import PermanentError
from mdstream.venues.timed import Timed
from topics import MAX_FRAME_BYTES


class Fetched(NamedTuple):
    """A page of a window: its frame, when it came, what it has of the symbol, and whether it is the window's last."""

    frame: bytes
    recv_ns: int
    ticks: Sequence[BarTick | TradeTick]
    is_last: bool


class BackfillByTime:
    """The bars of one symbol and interval that begin in a time, or the trades that were made in it."""

    def __init__(
        self, timed: Timed, access: Access, stream: Stream, raw_log: RawLog, result: Result, times: Times, show: Show
    ) -> None:
        self._timed, self._access, self._stream, self._raw_log = timed, access, stream, raw_log
        self.result, self._times, self._show = result, times, show
        self._done = 0
        """ns, of the missing ones."""
        self._total = 0

    async def run(self) -> None:
        """Fill `result`. Raises BackfillError if the stream takes no history, or the venue refuses to give any."""
        result, now_ns = self.result, time.time_ns()
        wanted = asked(result.interval, self._times, now_ns)
        if wanted.begin == wanted.end:  # of no time the stream can be asked
            result.later = self._later(wanted, None)
            return
        answer = await self._ask(wanted)
        result.later = self._later(wanted, answer.live_from)
        older, todo = cut(answer.missing, result.interval, oldest_ns(self._timed, result.interval, now_ns))
        result.lost += [(times, f"its bars of {result.interval} do not go back that far") for times in older]
        self._total = sum(end - begin for begin, end in todo)
        result.asked = count(todo, result.interval) if result.is_bars else 0
        if not todo:
            return
        self._show(result, 0, 0.0)  # its time begins
        await (self._bars(todo) if result.is_bars else self._trades(todo))
        result.missing = left((await self._ask(wanted)).missing, older)

    async def _bars(self, todo: Sequence[Times]) -> None:
        unanswered: deque[tuple[Times, int]] = deque()
        planned = windows(todo, self.result.interval, self._timed.bars.rows)
        async with aclosing(ahead(self._window(window) for window in planned)) as fetched:
            async for window, pages in fetched:
                for page in pages:
                    await self._publish(page)
                self._count_bars(window, pages)
                unanswered.append((window, await self._stream.write(self._request(window, taken=True))))
                if len(unanswered) > IN_FLIGHT:
                    await self._taken(*unanswered.popleft())
        while unanswered:
            await self._taken(*unanswered.popleft())

    async def _window(self, window: Times) -> tuple[Times, list[Fetched]]:
        return window, [page async for page in self._pages(window)]

    def _count_bars(self, window: Times, pages: Sequence[Fetched]) -> None:
        begins = {tick.ts_open for page in pages for tick in page.ticks if isinstance(tick, BarTick)}
        empty = without(window, begins, self.result.interval)
        self.result.found += count([window], self.result.interval) - count(empty, self.result.interval)
        for times in empty:
            self.result.empty.add(times)

    async def _trades(self, todo: Sequence[Times]) -> None:
        """Page by page: what is taken after each ends before its last trade, of whose time there may be more."""
        for window in todo:
            at, before = window.begin, dict[str, int]()
            async with aclosing(self._pages(window)) as pages:
                async for page in pages:
                    ids = {tick.trade_id: tick.ts_exchange or 0 for tick in page.ticks if isinstance(tick, TradeTick)}
                    times, new = list(ids.values()), [ns for each, ns in ids.items() if each not in before]
                    if times != sorted(times) or any(window.begin <= ns < at for ns in new):
                        raise self._error(f"the venue's trades of {window} are not in the order of their times")
                    before = ids or before
                    self.result.found += sum(at <= ns < window.end for ns in new)
                    newest = max(times, default=at)
                    await self._publish(page)
                    end = window.end if page.is_last or newest >= window.end else max(at, newest)
                    if end > at:
                        taken = Times(at, end)
                        await self._taken(taken, await self._stream.write(self._request(taken, taken=True)))
                    at = end
                    if at == window.end:
                        break

    async def _pages(self, window: Times) -> AsyncGenerator[Fetched, None]:
        page: Page | PermanentError | None = self._timed.ask(self.result.symbol, self.result.interval, *window)
        known, number = None, 0
        while page is not None:
            if isinstance(page, PermanentError):
                raise self._error(page.reason)
            if page == known:
                raise self._error(f"the venue's pages for {window} lead back to one that was read")
            number += 1
            if not number & (number - 1):  # the first, second, fourth ..: a circle of any length meets one of them
                known = page
            answer = await self._access.get(page)
            if isinstance(answer, PermanentError):
                raise self._error(answer.reason)
            frame, recv_ns = rest_frame(page.target, self.result.interval, answer.body), time.time_ns()
            if len(frame) > MAX_FRAME_BYTES:
                raise self._error(f"an answer of {len(frame):,} bytes: at most {MAX_FRAME_BYTES:,} can be carried")
            try:
                ticks, page = self._timed.read(self.result.symbol, frame), self._timed.more(page, answer.body)
                _check(ticks)
            except (FrameError, msgspec.MsgspecError) as error:
                raise self._error(f"the venue's answer for {window} cannot be understood: {error}") from None
            yield Fetched(frame, recv_ns, ticks, page is None)

    async def _publish(self, page: Fetched) -> None:
        if page.ticks:
            kind, name = BAR if self.result.is_bars else TRADE, self._timed.name
            await self._raw_log.frame(name, self.result.symbol, kind, page.frame, recv_ns=page.recv_ns)

    async def _ask(self, times: Times) -> RangeAnswer:
        return self._checked(await self._stream.ask(self._request(times)))

    async def _taken(self, times: Times, offset: int) -> None:
        """Wait for the answer to the record that took a time."""
        answer = await self._stream.answer(offset)
        if isinstance(answer, RangeAnswer):
            self._checked(answer)
        self._done += times.end - times.begin
        of_bars = self._done // unit_ns(self.result.interval)
        self._show(self.result, of_bars if self.result.is_bars else self.result.found, self._done / self._total)

    def _request(self, times: Times, *, taken: bool = False) -> RangeRequest:
        return RangeRequest(self.result.symbol, self._timed.name, self.result.interval, *times, taken)

    def _checked(self, answer: RangeAnswer) -> RangeAnswer:
        if answer.refused:
            raise self._error(answer.refused)
        return answer

    def _later(self, wanted: Times, live_from: int | None) -> str:
        """What is not asked for yet of the time up to the first live trade; empty if that is all."""
        each = unit_ns(self.result.interval)
        seam_ns = self._times.end if live_from is None else -(-live_from // each) * each
        if min(self._times.end, seam_ns) // each * each <= wanted.end:
            return ""
        what = f"what is after {short(wanted.end)} is not over yet"
        if live_from is None:
            return what
        return f"{what}: run it again after {short(seam_ns + SETTLED_NS)}, then it meets the live trades"

    def _error(self, reason: str) -> BackfillError:
        return BackfillError(self._timed.name, self.result.symbol, reason)


def _check(ticks: Sequence[BarTick | TradeTick]) -> None:
    """Raises FrameError as the stream would: it would not take any of the frame."""
    for tick in ticks:
        if isinstance(tick, BarTick):
            check_bar(tick)
        else:
            check_trade(tick)
