"""What the supervisor of a deployment says."""

from __future__ import annotations

import sys

import pytest
from rich.console import Console
from rich.live import Live

from mdstream.run.supervisor import timed_say


def test_a_line_stands_above_a_live_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A table is erased before a line is printed, and drawn again below it; else its next refresh erases the line."""
    say = timed_say()
    with Live("the table", console=Console(file=sys.stdout, force_terminal=True), auto_refresh=False) as live:
        live.refresh()
        say("a part is started again")
    before, after = capsys.readouterr().out.split("  0.0 s  ")
    assert before.endswith("\r\x1b[2K")
    assert after.startswith("a part is started again\nthe table")
