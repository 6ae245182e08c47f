"""The `mdstream` command itself: what it says of its subcommands."""

from __future__ import annotations

import subprocess
import sys

from mdstream.cli import COMMANDS

PROGRAM = """
import sys
from mdstream.cli import cli
cli(["--help"], standalone_mode=False)
heavy = {"asyncio", "aiokafka", "pydantic", "mdstream.config", "mdstream.tools"}
print("imported:", sorted(heavy & sys.modules.keys()))
"""


def test_help_has_a_line_for_each_command_and_imports_none() -> None:
    """All of them together take more than a second."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    *shown, imported = done.stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split(maxsplit=1) for line in shown] == [[name, COMMANDS[name].summary] for name in sorted(COMMANDS)]
    assert imported == "imported: []"
