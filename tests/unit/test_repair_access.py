"""The way to a venue, with several requests in flight: against Binance's simulated REST interface."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from test_simulator_rest_venues import Venue

from mdstream.repair.access import Access
from mdstream.simulator.rest import Budget
from mdstream.venues.binance.timed import BinanceTimed
from mdstream.venues.past import Page
from mdstream.venues.rest import Answer, PermanentError, RetryableError


@dataclass
class Getter:
    """Asks the simulated venue, once the first requests have brought `troubles`."""

    venue: Venue
    troubles: list[Answer | RetryableError] = field(default_factory=list)
    most: int = 0
    asked_s: list[float] = field(default_factory=list)
    _open: int = 0

    async def get(self, target: str) -> Answer | RetryableError:
        self.asked_s.append(time.monotonic())
        self._open += 1
        self.most = max(self.most, self._open)
        await asyncio.sleep(0.01)
        self._open -= 1
        if self.troubles:
            return self.troubles.pop(0)
        answer = self.venue.get(target, time.time_ns())
        return Answer(answer.status, answer.headers, answer.body)


def page(symbol: str = "BTCUSDT") -> Page:
    found = BinanceTimed().ask(symbol, "1m", 0, 60_000_000_000)
    assert isinstance(found, Page)
    return found


async def test_several_requests_are_in_flight() -> None:
    """Each has its own answer."""
    getter = Getter(Venue("binance", 3))
    access = Access(BinanceTimed(), getter)
    answers = await asyncio.gather(*(access.get(page()) for _ in range(4)))
    assert [isinstance(answer, Answer) for answer in answers] == [True] * 4
    assert (getter.most, access.counters.pages) == (4, 4)


async def test_a_refusal_for_good_is_told_and_not_repeated() -> None:
    """The venue's words."""
    access = Access(BinanceTimed(), Getter(Venue("binance")))
    assert await access.get(page("ETHUSDT")) == PermanentError("-1121 Invalid symbol.")
    assert access.problem is None


@pytest.mark.parametrize(
    "trouble",
    [
        RetryableError("no answer in time"),
        Answer(503, {}, b"<html>maintenance</html>"),
        Answer(200, {}, b'[[1767625140000,"93'),
    ],
    ids=["timeout", "503", "cut short"],
)
async def test_what_may_pass_is_asked_for_again(trouble: Answer | RetryableError) -> None:
    """After at least a second, and for all in flight at once: their errors count as one."""
    getter = Getter(Venue("binance", 3), [trouble] * 3)
    access = Access(BinanceTimed(), getter)
    answers = await asyncio.gather(*(access.get(page()) for _ in range(3)))
    assert all(isinstance(answer, Answer) and answer.status == 200 for answer in answers)
    assert max(later - earlier for earlier, later in pairwise(getter.asked_s)) >= 1.0
    assert access.problem is None


async def test_a_venue_s_wait_holds_every_request() -> None:
    """Nobody asks before it is over, whoever was told."""
    getter = Getter(Venue("binance", 3), [Answer(429, {"retry-after": "2"}, b'{"code":-1003,"msg":"Too much"}')])
    access = Access(BinanceTimed(), getter)
    first = asyncio.ensure_future(access.get(page()))
    while access.problem is None:  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(0.01)
    assert access.problem == "HTTP 429: -1003 Too much"
    await asyncio.gather(first, *(access.get(page()) for _ in range(3)))
    assert len(getter.asked_s) == 5
    assert getter.asked_s[1] - getter.asked_s[0] >= 2.0


async def test_a_client_within_its_share_is_never_refused() -> None:
    """Many at once, of a venue that allows a burst of ours and no more."""
    venue = Venue("binance", 3, Budget(int(BinanceTimed.limits.burst), 3_600.0))
    access = Access(BinanceTimed(), Getter(venue))
    await asyncio.gather(*(access.get(page()) for _ in range(int(BinanceTimed.limits.burst / page().cost))))
    assert venue.rest.refused == 0
