"""Venues' times to integer nanoseconds, exactly.

RFC 3339: `datetime` ends at microseconds and costs a microsecond per call; here everything but the fraction is cached,
since the frames of one second share it. The limits of an event's time are checked later, for every venue
(stream/bounds.py).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import msgspec

from mdstream.errors import FrameError
from mdstream.venues.feed import Remembered

MS = 1_000_000
"""Nanoseconds in a millisecond."""

Millis = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000)]
"""Milliseconds since 1970, up to the year 2255: in nanoseconds they still fit 64 bits."""

Seconds = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000)]
"""Seconds since 1970, up to the same year."""

Epoch = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000_000)]
"""Milliseconds or microseconds since 1970, for `epoch_ns`."""

SECOND_NS = 1_000_000_000

_SECOND = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", re.ASCII)
_WHOLE = len("2026-01-05T15:00:00")
_PAD: tuple[int, ...] = tuple(10 ** (9 - digits) for digits in range(10))


_MAX_MS = 9_000_000_000_000
"""In milliseconds the year 2255, in microseconds April 1970: no trade has a time beyond either."""


def epoch_ns(time: int) -> int:
    """Nanoseconds since 1970 of an Epoch, whose size shows its unit."""
    return time * MS if time < _MAX_MS else time * 1_000


def rfc3339_ns(text: str) -> int:
    """Nanoseconds since 1970 of a UTC time like 2026-01-05T15:00:00.123456Z, with up to nine digits of a second.

    Raises FrameError for anything else.
    """
    digits = text[_WHOLE + 1 : -1]
    if text[-1:] == "Z" and len(digits) <= 9:
        if digits.isdecimal() and digits.isascii() and text[_WHOLE] == ".":
            return _seconds_ns[text[:_WHOLE]] + int(digits) * _PAD[len(digits)]
        if len(text) == _WHOLE + 1:
            return _seconds_ns[text[:_WHOLE]]
    raise FrameError(f"not a UTC time as RFC 3339 writes it: {text[:40]!r}")


def _whole_seconds_ns(text: str) -> int:
    try:
        second = datetime.fromisoformat(text) if _SECOND.fullmatch(text) else None
    except ValueError:
        second = None
    if second is None:
        raise FrameError(f"not a UTC time as RFC 3339 writes it: {text[:40]!r}")
    return int(second.replace(tzinfo=UTC).timestamp()) * SECOND_NS


_seconds_ns = Remembered(_whole_seconds_ns, max_size=1_000)


def iso_of(ns: int) -> str:
    """A time as RFC 3339 writes it, with nanoseconds: 2026-01-05T15:00:00.000000000Z."""
    second, rest = divmod(ns, SECOND_NS)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


MAX_DAY = 104_166
"""In the year 2255."""
NEW_YORK_NS = -5 * 3_600 * SECOND_NS
"""Its standard time. In summer a day begins an hour late by it, when no exchange is open."""


def new_york_day(ts_ns: int) -> str:
    """The day of a US exchange, like 20260105: all of its hours, from 4:00 to 20:00 there, are in one.

    Raises FrameError for a time before 1970 or after 2255.
    """
    return _days[(ts_ns + NEW_YORK_NS) // (86_400 * SECOND_NS)]


def _day(number: int) -> str:
    if not -1 <= number < MAX_DAY:  # a zero time, 0001-01-01, has no day in New York
        raise FrameError(f"a time {number} days from 1970")
    return f"{date(1970, 1, 1) + timedelta(number):%Y%m%d}"


_days = Remembered(_day, max_size=1_000)
