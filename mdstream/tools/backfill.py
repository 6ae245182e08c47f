"""`mdstream backfill`: past trades of a venue into the canonical stream."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click

from mdstream import config
from mdstream.backfill.backfill import Result, backfill
from mdstream.cli import set_up_logging
from mdstream.cli.progress import Progress
from mdstream.errors import SettingsError
from mdstream.repair.venues import HISTORIES
from mdstream.tools.running import run
from mdstream.tools.timestamps import timestamp_ns

INTERRUPTED = 130
MAX_LISTED = 20


@click.command()
@click.option("--provider", required=True, type=click.Choice(sorted(HISTORIES)), help="The venue.")
@click.option("--symbols", required=True, help="Like BTCUSDT,ETHUSDT.")
@click.option("--interval", type=click.Choice(["trades"]), default="trades", show_default=True, help="What to fetch.")
@click.option("--start", required=True, help="From this time of the venue on: 2026-01-05T15:00 (UTC), or an age, 2h.")
@click.option("--end", help="The time to stop before, likewise.  [default: now]")
@click.option("--kafka", help="Kafka brokers, host:port.  [default: KAFKA_BOOTSTRAP_SERVERS, localhost:9092]")
def command(provider: str, symbols: str, interval: str, start: str, end: str | None, kafka: str | None) -> None:  # noqa: ARG001  there is one
    """Fetch past trades from a venue's public REST interface into the canonical stream.

    The stream says which trades of that time it lacks: those from before its first one of the symbol, and lost gaps.
    Only these are fetched, within half of the venue's rate limit, and go to the raw topic as they came. The core
    worker publishes them with the mark `backfilled`. They are in the database once, and in no bar.

    \b
    Examples:
      mdstream backfill --provider binance --symbols BTCUSDT,ETHUSDT --start 2026-01-05 --end 2026-01-06
      mdstream backfill --provider coinbase --symbols BTCUSD --start 2h

    An ingestor has to have read the symbol before, and a core worker has to run: history ends where the live trades
    begin. Stop or kill it at any time: started again, it fetches what is missing still, and nothing twice.

    In the end the stream is asked again: what the venue does not have is listed, and anything else that is missing is
    an error (exit 1). More: docs/backfill.md.
    """
    set_up_logging()
    settings = config.load(bootstrap_servers=kafka)
    now_s = time.time()
    begin_ns = timestamp_ns(start, now_s=now_s)
    end_ns = timestamp_ns(end, now_s=now_s) if end else int(now_s * 1e9)
    if begin_ns >= now_s * 1e9:
        raise SettingsError(f"--start {start}: is not in the past")
    if begin_ns >= end_ns:
        raise SettingsError(f"--start {start} --end {end}: the range is empty")
    names = tuple(dict.fromkeys(part.strip().upper() for part in symbols.split(",") if part.strip()))
    if not names:
        raise SettingsError(f"--symbols {symbols!r} names none")
    with Progress("backfill", "trades") as progress:

        def show(symbol: str, done: int, total: int) -> None:
            progress.show(done, done / total, of=symbol)

        results = run(backfill(settings, provider, names, begin_ns=begin_ns, end_ns=end_ns, show=show))
    if results is None:
        click.echo("stopped before the end: start it again to go on", err=True)
        sys.exit(INTERRUPTED)
    _print(provider, results)
    if not all(result.is_complete for result in results):
        sys.exit(1)


def _print(provider: str, results: Sequence[Result]) -> None:
    for result in results:
        of = f"{provider} {result.symbol}"
        if result.asked:
            click.echo(f"{of}: {result.found:,} trades fetched of {result.asked:,} that were missing")
        elif not result.refused:
            click.echo(f"{of}: nothing is missing of what the venue has of that time")
        for span, reason in result.lost[:MAX_LISTED]:
            click.echo(f"{of}: the venue does not have {span}: {reason}")
        if len(result.lost) > MAX_LISTED:
            click.echo(f"{of}: and {len(result.lost) - MAX_LISTED:,} more ranges")
        for missing in result.missing[:MAX_LISTED]:
            click.echo(f"{of}: missing still: {missing}", err=True)
        if len(result.missing) > MAX_LISTED:
            click.echo(f"{of}: and {len(result.missing) - MAX_LISTED:,} more ranges", err=True)
        if result.refused:
            click.echo(f"{of}: not done: {result.refused}", err=True)
