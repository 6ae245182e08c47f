"""mdstream/timestamps.py: times with and without a zone, and ages."""

from __future__ import annotations

import pytest

from mdstream.errors import SettingsError
from mdstream.timestamps import minute_of, timestamp_ns


@pytest.mark.parametrize(
    ("text", "minute"),
    [
        ("1970-01-01T00:10", 10),
        ("1970-01-01T01:10:59+01:00", 10),
        ("1970-01-02", 1440),
        ("90s", 998),
        ("10m", 990),
        ("1.5h", 910),
        ("0s", 1000),
    ],
)
def test_times_and_ages_are_taken(text: str, minute: int) -> None:
    """UTC where no zone is given; an age is counted from now (here minute 1000)."""
    assert minute_of(text, now_s=60_000) == minute


@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        ("2026-01-05T15:00:00.123456", 1_767_625_200_123_456_000),
        ("2026-01-05T16:00:00.123456+01:00", 1_767_625_200_123_456_000),
        ("1s", 59_000_000_000),
        ("0.5s", 59_500_000_000),
    ],
)
def test_timestamps_are_exact(text: str, timestamp: int) -> None:
    """To the microsecond, with no detour over floating point seconds since 1970."""
    assert timestamp_ns(text, now_s=60) == timestamp


def test_what_is_no_time_is_refused() -> None:
    """With both forms shown."""
    with pytest.raises(
        SettingsError, match=r"'soon' is not a time: expected one like 2026-01-05T15:00 \(UTC\), or an age"
    ):
        minute_of("soon", now_s=0)
