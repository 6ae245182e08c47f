"""Times as the commands take them: one like 2026-01-05T15:00, UTC unless it has a zone, or an age like 15m."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from mdstream.errors import SettingsError

NS = 1_000_000_000
MINUTE_NS = 60 * NS

_AGE = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|m|h|d)$")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def timestamp_ns(text: str, *, now_s: float) -> int:
    """The time in ns since 1970, in whole microseconds; an age counts back from `now_s`.

    Raises SettingsError if the text is neither a time nor an age.
    """
    if age := _AGE.match(text):
        return int((now_s - float(age[1]) * _UNIT_S[age[2]]) * 1e6) * 1000
    try:
        timestamp = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"{text!r} is not a time: expected one like 2026-01-05T15:00 (UTC), or an age like 30s, 15m, 2h, 1d"
        ) from None
    since_1970 = (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
    return (since_1970.days * 86_400 + since_1970.seconds) * NS + since_1970.microseconds * 1000


def minute_of(text: str, *, now_s: float) -> int:
    """The minute since 1970 of such a time."""
    return timestamp_ns(text, now_s=now_s) // MINUTE_NS
