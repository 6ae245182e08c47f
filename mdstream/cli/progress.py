"""Progress of a long command: a bar on a terminal, a plain line every few seconds elsewhere. On stderr."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Any

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
        self._begun_s = time.monotonic()
        self._next_s = self._begun_s + self._every_s
        self._of = ""
        self._logs: list[logging.StreamHandler[Any]] = []

    def show(self, count: int, fraction: float | None = None, *, of: str = "") -> None:
        """`of`: what is being worked on, if there are several; each begins at 0."""
        now = time.monotonic()
        if of != self._of:
            self._of, self._begun_s = of, now
        if now < self._next_s:
            return
        self._next_s = now + self._every_s
        text = f"{of} {count:,} {self._unit}{rate(count, fraction, now - self._begun_s)}".lstrip()
        if self._bar is not None and self._task is not None:
            total = None if fraction is None else 1.0
            self._bar.update(self._task, completed=fraction or 0.0, total=total, count=text)
        else:
            click.echo(f"{self._title}: {text}{'' if fraction is None else f', {fraction:.0%}'}", err=True)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            handlers = [each for each in logging.root.handlers if isinstance(each, logging.StreamHandler)]
            self._logs = [each for each in handlers if each.stream is sys.stderr]
            self._bar.start()  # from now on what is written to sys.stderr stands above the bar
            self._log_there()
        return self

    def _log_there(self) -> None:
        for each in self._logs:
            each.setStream(sys.stderr)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._log_there()


def rate(count: int, fraction: float | None, taken_s: float) -> str:
    """How fast it goes, and how long it takes yet if the fraction done is known."""
    speed = f", {count / taken_s:,.0f}/s" if taken_s > 0 else ""
    if not fraction:
        return speed
    left_s = round(taken_s * (1 - min(fraction, 1.0)) / fraction)
    minutes, seconds = divmod(left_s, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{speed}, {f'{hours}:' if hours else ''}{minutes:02}:{seconds:02} left"


def _bar() -> Bar:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[count]}"))
    return Bar(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
