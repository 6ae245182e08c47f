"""Faust declares its topics through our transport: callers share one request, also when one of them is cancelled."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mdstream.transport.driver import Transport


class Asking(Transport):
    """Each of its requests ends once `answered` is set."""

    def __init__(self, *, stopping: bool) -> None:
        super().__init__([], SimpleNamespace(should_stop=stopping))
        self.requests = 0
        self.asked, self.answered = asyncio.Event(), asyncio.Event()

    async def _really_create_topic(self, *_: Any, **__: Any) -> None:
        self.requests += 1
        self.asked.set()
        await self.answered.wait()

    async def declare(self) -> None:
        await self._create_topic(cast(Any, None), None, "changelog", 1, 1)


@pytest.mark.parametrize(("stopping", "requests"), [(True, 1), (False, 2)])
async def test_cancelled_caller_of_a_shared_request_is_no_crash(stopping: bool, requests: int) -> None:
    """A worker that is told to stop cancels one of two: the other ends in peace. One that goes on asks once more."""
    transport = Asking(stopping=stopping)
    first, second = asyncio.create_task(transport.declare()), asyncio.create_task(transport.declare())
    await transport.asked.wait()
    await asyncio.sleep(0)  # the second waits for the first's request by now
    second.cancel()
    await asyncio.wait([second])
    transport.answered.set()
    await asyncio.wait_for(first, 30)
    assert transport.requests == requests
