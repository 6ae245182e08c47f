"""Tests for mdstream.api.health: what is said of a part that does not answer."""

from __future__ import annotations

import asyncio

import pytest

from mdstream.api import health
from mdstream.api.health import Health
from mdstream.errors import BrokerError
from mdstream.http import seen


async def test_a_part_that_does_not_answer_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if it takes its time to give up: psycopg tries for ten seconds to cancel a query."""
    monkeypatch.setattr(health, "CHECK_LIMIT_S", 0.1)
    asked, goes_on = [], asyncio.Event()

    async def stands_still() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            asked.append(asyncio.current_task())
            await goes_on.wait()

    async def is_away() -> None:
        raise BrokerError("no broker")

    async with asyncio.timeout(30):
        found = await Health({"database": stands_still, "kafka": is_away}).problems()
    assert found == {"database": "no answer within 0 s", "kafka": "no broker"}
    goes_on.set()
    await asyncio.wait(filter(None, asked))


def test_who_asks_for_the_health_waits_until_it_is_known() -> None:
    """`mdstream status` would say of a process that it does not answer, and not what is wrong with it."""
    assert seen.ANSWER_LIMIT_S > health.CHECK_LIMIT_S
