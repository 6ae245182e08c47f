"""Output of the commands: tables that fold in a terminal but not in a pipe."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 200


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table without lines; the columns named in `right` are numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return made


def show(*printed: Table | str) -> None:
    """Print to stdout, in the terminal's width or, into a pipe, PIPE_WIDTH wide."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=PIPE_WIDTH)
    for part in printed:
        console.print(part, soft_wrap=isinstance(part, str))
