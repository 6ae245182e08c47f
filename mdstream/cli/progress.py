"""Progress of a long command: a bar on a terminal, a plain line every few seconds elsewhere. On stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

PLAIN_EVERY_S = 5.0
BAR_EVERY_S = 0.1


class Progress:
    """Shows a count of `unit`s and, if known, the fraction done. `show` is cheap: most calls do nothing."""

    def __init__(self, title: str, unit: str) -> None:
        self._title, self._unit = title, unit
        self._bar = _bar() if sys.stderr.isatty() else None
        self._task = None if self._bar is None else self._bar.add_task(title, total=None, count="")
        self._every_s = PLAIN_EVERY_S if self._bar is None else BAR_EVERY_S
        self._next_s = time.monotonic() + self._every_s

    def show(self, count: int, fraction: float | None = None) -> None:
        now = time.monotonic()
        if now < self._next_s:
            return
        self._next_s = now + self._every_s
        text = f"{count:,} {self._unit}"
        if self._bar is not None and self._task is not None:
            total = None if fraction is None else 1.0
            self._bar.update(self._task, completed=fraction or 0.0, total=total, count=text)
        else:
            click.echo(f"{self._title}: {text}{'' if fraction is None else f', {fraction:.0%}'}", err=True)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> Bar:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[count]}"))
    return Bar(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
