"""Numbers and times as venues write them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

Writer = Callable[[int], str]
"""Text of a number of ticks or lots."""


def fixed(decimals: int, width: int) -> Writer:
    """Writes `width` decimals, padded with zeros: fixed(2, 8)(9374120) is 93741.20000000."""
    form = f"%.{decimals}f" + ("." if decimals == 0 < width else "") + "0" * (width - decimals)
    scale = 10**decimals
    return lambda number: form % (number / scale)


def shortest(decimals: int) -> Writer:
    """Writes no trailing zeros: shortest(2)(9374120) is 93741.2."""
    form, scale = f"%.{decimals}f", 10**decimals
    if not decimals:
        return str
    return lambda number: (form % (number / scale)).rstrip("0").rstrip(".")


def rfc3339(ns: int) -> str:
    """2026-01-05T15:00:00.123456Z, cut off at microseconds."""
    second, rest = divmod(ns, 1_000_000_000)
    return f"{_second(second)}.{rest // 1000:06d}Z"


def rfc3339_nanos(ns: int) -> str:
    """2026-01-05T15:00:00.123456789Z."""
    second, rest = divmod(ns, 1_000_000_000)
    return f"{_second(second)}.{rest:09d}Z"


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
