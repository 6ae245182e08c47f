"""What the commands say of their progress."""

from __future__ import annotations

import logging
import re
import sys
from io import StringIO

import pytest

from mdstream.cli.progress import Progress, rate


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


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


def test_a_line_of_the_log_stands_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not behind it on the terminal's line; and where it was before, once the bar is gone."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    handler, log = logging.StreamHandler(terminal), logging.getLogger(__name__)
    monkeypatch.setattr(logging.root, "handlers", [handler])
    with Progress("backfill", "bars"):
        log.warning("said")
    log.warning("later")
    assert re.search(r"\r\x1b\[2K(\x1b\[[0-9;]*m)*said", terminal.getvalue())
    assert terminal.getvalue().endswith("later\n")
    assert handler.stream is terminal
