"""Several requests in flight: in order, no more than allowed, none left behind."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.backfill.ahead import ahead


class Jobs:
    """Jobs that take so many turns of the loop each; the one numbered `fails` raises."""

    def __init__(self, turns: list[int], fails: int | None = None) -> None:
        self.turns, self.fails = turns, fails
        self.running = self.most = 0

    async def run(self, number: int) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for _ in range(self.turns[number]):
                await asyncio.sleep(0)
            if number == self.fails:
                raise ValueError(number)
            return number
        finally:
            self.running -= 1


async def results(jobs: Jobs, most: int) -> list[int]:
    async with aclosing(ahead(map(jobs.run, range(len(jobs.turns))), most)) as each:
        return [number async for number in each]


TURNS = st.lists(st.integers(0, 9), max_size=20)


@given(TURNS, st.integers(1, 5))
def test_results_come_in_order_whatever_ends_first(turns: list[int], most: int) -> None:
    """And no more jobs run than allowed."""
    jobs = Jobs(turns)
    assert asyncio.run(results(jobs, most)) == list(range(len(turns)))
    assert jobs.most <= most


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(1, 5), st.data())
def test_a_failure_ends_the_others(turns: list[int], most: int, data: st.DataObject) -> None:
    """It is raised in its turn, and nothing runs on."""
    jobs = Jobs(turns, fails=data.draw(st.integers(0, len(turns) - 1)))
    with pytest.raises(ValueError, match=str(jobs.fails)):
        asyncio.run(results(jobs, most))
    assert jobs.running == 0
