"""Several things at once, each to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def all_of(works: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Run all of them to their ends, whatever becomes of the others. Raises what the first of those that failed did."""
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
