"""`mdstream reprocess`: the raw log through the current code, into topics of another prefix."""

from __future__ import annotations

import sys
import time

import click

from mdstream.cli import set_up_logging
from mdstream.cli.progress import Progress
from mdstream.config import load
from mdstream.errors import SettingsError
from mdstream.replay.reprocess import END_NS, Reprocess, Span, Totals
from mdstream.timestamps import timestamp_ns
from mdstream.tools.running import run

INTERRUPTED = 130


@click.command()
@click.argument("prefix")
@click.option("--from", "begin", help="First receive time: 2026-01-05T15:00 (UTC) or an age, 15m.  [default: all]")
@click.option("--to", "end", help="The receive time to stop before, likewise.  [default: all]")
@click.option("--force", is_flag=True, help="Delete the topics of PREFIX first, if they are there.")
def command(prefix: str, begin: str | None, end: str | None, force: bool) -> None:
    """Run the raw log through today's code into the topics PREFIX.trades, PREFIX.quotes, ...

    It shows what the stream would have been with a fixed parser or another setting. The live topics, the workers'
    state and their offsets are not touched. The same range gives the same bytes each time; `mdstream audit --compare
    PREFIX` compares them with the live topics. docs/reprocess.md explains where a range's first minutes may differ.

    \b
    mdstream reprocess fix1                                      all that the raw topics still hold
    mdstream reprocess fix1 --from 2h --to 1h --force            again, for one hour only
    mdstream audit --compare fix1
    MDSTREAM_TOPIC_PREFIX=fix1 mdstream tail trades
    """
    set_up_logging()
    settings = load()
    target = load(topic_prefix=prefix).topic_prefix
    reprocess = Reprocess(settings, target, _span(begin, end))
    started_s = time.monotonic()
    done = run(_run(reprocess, force=force))
    _print_totals(reprocess, time.monotonic() - started_s)
    if done is None:
        click.echo(f"stopped before the end: the topics of {target} are not complete", err=True)
        sys.exit(INTERRUPTED)


def _span(begin: str | None, end: str | None) -> Span:
    now_s = time.time()
    span = Span(
        timestamp_ns(begin, now_s=now_s) if begin else 0,
        timestamp_ns(end, now_s=now_s) if end else END_NS,
    )
    if span.begin_ns >= span.end_ns:
        raise SettingsError(f"--from {begin} --to {end}: the range is empty")
    return span


async def _run(reprocess: Reprocess, *, force: bool) -> Totals:
    await reprocess.prepare(replace=force)
    with Progress("reprocess", "records") as progress:
        return await reprocess.run(lambda totals: progress.show(totals.read, totals.fraction))


def _print_totals(reprocess: Reprocess, taken_s: float) -> None:
    totals = reprocess.totals
    click.echo(
        f"read {totals.read:,} raw records in {taken_s:.1f} s ({totals.read / taken_s:,.0f}/s), "
        f"{totals.taken:,} of them in the range"
    )
    for topic in reprocess.outputs:
        click.echo(f"{topic.name}: {totals.written[topic.name]:,}")
