"""Several requests in flight, and their answers in the order of asking."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

IN_FLIGHT = 4
"""Requests at a time: a venue's limit decides how fast it goes, not how long an answer takes."""


async def ahead(jobs: Iterable[Coroutine[Any, Any, T]], most: int = IN_FLIGHT) -> AsyncGenerator[T, None]:
    """The results of all jobs, in order, of which `most` run at a time. Close it: that cancels those that run.

    Raises what the first one to fail, in order, raises.
    """
    running: deque[asyncio.Task[T]] = deque()
    try:
        for job in jobs:
            running.append(asyncio.ensure_future(job))
            if len(running) == most:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
