"""`mdstream tail`: canonical events as JSON lines on stdout.

md.KIND ─ fetch ─> one symbol's, one in N ─> lines, written once per fetch and partition
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from types import FrameType
from typing import NoReturn

import click
from aiokafka import ConsumerRecord

from mdstream.client import log
from mdstream.client.start import EARLIEST, LATEST, Start
from mdstream.config import load
from mdstream.tools.running import run
from topics import Topics

KINDS = ("trades", "quotes", "books", "bars", "status", "gaps", "dead")


class Sample(click.ParamType):
    """ "1/N" as the integer N."""

    name = "1/N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"1/([1-9][0-9]{0,11})", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not of the form 1/N, like 1/100", param, ctx)
        return int(found[1])


class Pick:
    """Which records are printed: one in `every`, at most `limit`."""

    def __init__(self, *, every: int = 1, limit: int | None = None) -> None:
        self._every, self._left = every, limit
        self._seen = 0

    @property
    def done(self) -> bool:
        return self._left == 0

    def lines(self, records: Iterable[ConsumerRecord]) -> list[bytes]:
        """A line for each picked record. Records without a value have none."""
        lines = []
        for record in records:
            if self.done:
                break
            if record.value is None:
                continue
            self._seen += 1
            if self._every > 1 and self._seen % self._every != 1:
                continue
            # A line must hold no line break: in JSON it can only be whitespace.
            lines.append(record.value.replace(b"\n", b" "))
            if self._left is not None:
                self._left -= 1
        return lines


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--symbol", metavar="S", help="Only this instrument's events, like BTCUSDT.  [default: all]")
@click.option("--sample", type=Sample(), default="1/1", show_default=True, help="Print one event in N.")
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest event that the broker has, not with now.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N lines.  [default: Ctrl-C]")
def command(kind: str, symbol: str | None, sample: int, from_beginning: bool, count: int | None) -> None:
    """Print canonical events, one JSON object a line, as they arrive (docs/events.md explains them).

    Each instrument's events keep their order. It ends after --count lines, at Ctrl-C, or when the reader of its output
    is gone.

    \b
    mdstream tail trades                                     every trade from now on
    mdstream tail quotes --symbol BTCUSDT --sample 1/100
    mdstream tail trades --from-beginning | head             also: | jq .price
    mdstream tail dead --from-beginning --count 5            what could not be understood, and why
    """
    if kind == "dead" and symbol is not None:
        raise click.UsageError("dead letters have no symbol: their key is the topic that they came from")
    settings = load()
    topic = getattr(Topics(settings), kind).name
    keys = [symbol.upper().encode()] if symbol else []
    start = Start(EARLIEST if from_beginning else LATEST)
    try:
        run(_tail(log.read(settings.bootstrap_servers, topic, start, keys=keys), Pick(every=sample, limit=count)))
    except (_InterruptedError, BrokenPipeError):
        return  # Ctrl-C, or the reader is gone


async def _tail(chunks: AsyncGenerator[list[ConsumerRecord], None], pick: Pick) -> None:
    async with aclosing(chunks):
        async for records in chunks:
            if lines := pick.lines(records):
                _write(b"\n".join(lines) + b"\n")
            if pick.done:
                return


class _InterruptedError(Exception):
    """A signal arrived while a write to stdout was waiting for its reader."""


def _write(content: bytes) -> None:
    """Write to stdout, past Python's buffer. Raises BrokenPipeError, and _InterruptedError on SIGINT and SIGTERM.

    Without the latter, a reader that has stopped reading (a pager) could block the event loop, and so Ctrl-C.
    """

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001  the signature is signal's
        raise _InterruptedError

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(sys.stdout.fileno(), rest) :]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
