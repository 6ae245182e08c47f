"""What the commands say of their progress."""

from __future__ import annotations

import pytest

from mdstream.cli.progress import rate


@pytest.mark.parametrize(
    ("count", "fraction", "taken_s", "text"),
    [
        (0, None, 0.0, ""),
        (5_000, None, 2.0, ", 2,500/s"),
        (5_000, 0.0, 2.0, ", 2,500/s"),
        (5_000, 0.25, 2.0, ", 2,500/s, 00:06 left"),
        (5_000, 1.0, 2.0, ", 2,500/s, 00:00 left"),
        (9_000, 0.01, 360.0, ", 25/s, 9:54:00 left"),
        (9_000, 1.1, 360.0, ", 25/s, 00:00 left"),
    ],
)
def test_rate_and_time_left(count: int, fraction: float | None, taken_s: float, text: str) -> None:
    """The time left only where the share that is done is known."""
    assert rate(count, fraction, taken_s) == text
