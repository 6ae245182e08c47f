"""`mdstream backfill`: past trades and bars of a venue into the canonical stream."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click

from mdstream import config
from mdstream.backfill.backfill import Wanted, backfill
from mdstream.backfill.result import MAX_LISTED, Result
from mdstream.backfill.windows import Times
from mdstream.cli import set_up_logging
from mdstream.cli.progress import Progress
from mdstream.errors import SettingsError
from mdstream.repair.venues import PASTS
from mdstream.timestamps import timestamp_ns
from mdstream.tools.running import run
from mdstream.venues.timed import TRADES

INTERRUPTED = 130
LAST_NS = 2**63 - 1


@click.command()
@click.option("--provider", required=True, type=click.Choice(sorted(PASTS)), help="The venue.")
@click.option("--symbols", required=True, help="Like BTCUSDT,ETHUSDT.")
@click.option("--interval", default=TRADES, show_default=True, help="What to fetch: trades, or bars like 1m,1h,1d.")
@click.option("--start", required=True, help="From this time of the venue on: 2026-01-05T15:00 (UTC), or an age, 2h.")
@click.option("--end", help="The time to stop before, likewise.  [default: now]")
@click.option("--kafka", help="Kafka brokers, host:port.  [default: KAFKA_BOOTSTRAP_SERVERS, localhost:9092]")
def command(provider: str, symbols: str, interval: str, start: str, end: str | None, kafka: str | None) -> None:
    """Fetch past trades or bars from a venue's REST interface into the canonical stream.

    The stream says what it lacks of that time: what is from before its first trade of the symbol, and lost gaps. Only
    this is fetched, within half of the venue's rate limit, and goes to the raw topic as it came. The core worker
    publishes it with the mark `backfilled`. It is in the database once. Past trades are in no bar; a bar of the venue
    stands for the whole of its interval, also of the one in which the live trades began.

    \b
    Examples:
      mdstream backfill --provider binance --symbols BTCUSDT,ETHUSDT --start 2026-01-05 --end 2026-01-06
      mdstream backfill --provider binance --symbols BTCUSDT --interval 1m,1h,1d --start 2026-01-01
      mdstream backfill --provider coinbase --symbols BTCUSD --start 2h

    A core worker has to run, and for trades an ingestor has to have read the symbol: history ends where the live
    trades begin. Stop or kill it at any time: started again, it fetches what is missing still, and nothing twice.

    In the end the stream is asked again: what the venue does not have is listed, and anything else that is missing is
    an error (exit 1). More: docs/backfill.md.
    """
    set_up_logging()
    settings = config.load(bootstrap_servers=kafka)
    times = _times(start, end, now_s=time.time())
    names, intervals = _listed(symbols.upper(), "--symbols"), _listed(interval, "--interval")
    of_trades = TRADES in intervals
    with Progress(
        "backfill", " and ".join(([TRADES] if of_trades else []) + ["bars"] * (intervals != (TRADES,)))
    ) as bar:

        def show(result: Result, done: int, fraction: float) -> None:
            of = result.symbol if len(intervals) == 1 else f"{result.symbol} {result.interval}"
            bar.show(done, fraction, of=of)

        results = run(backfill(settings, Wanted(provider, names, intervals, times), show=show))
    if results is None:
        click.echo("stopped before the end: start it again to go on", err=True)
        sys.exit(INTERRUPTED)
    for result in results:
        _print(provider, result)
    if not all(result.is_complete for result in results):
        sys.exit(1)


def _times(start: str, end: str | None, *, now_s: float) -> Times:
    times = Times(timestamp_ns(start, now_s=now_s), timestamp_ns(end, now_s=now_s) if end else LAST_NS)
    if times.begin >= now_s * 1e9:
        raise SettingsError(f"--start {start}: is not in the past")
    if times.begin >= times.end:
        raise SettingsError(f"--start {start} --end {end}: the range is empty")
    return times


def _listed(text: str, option: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise SettingsError(f"{option} {text!r} names none")
    return names


def _print(provider: str, result: Result) -> None:
    of = f"{provider} {result.symbol}" + (f" {result.interval}" if result.is_bars else "")
    if result.is_bars and result.asked:
        click.echo(f"{of}: {result.found:,} bars fetched of {result.asked:,} intervals that were missing")
    elif result.asked:
        click.echo(f"{of}: {result.found:,} trades fetched of {result.asked:,} that were missing")
    elif result.found:
        click.echo(f"{of}: {result.found:,} trades fetched")
    elif not (result.refused or result.missing or result.lost):
        click.echo(f"{of}: nothing is missing of what the venue has of that time")
    _list([f"{of}: the venue does not have {what}: {reason}" for what, reason in result.lost], of)
    empty = [f"{of}: no bar from {times}: no trades, or the venue has none" for times in result.empty.first]
    _list(empty, of, total=result.empty.total)
    _list([f"{of}: missing still: {what}" for what in result.missing], of, err=True)
    if result.later:
        click.echo(f"{of}: {result.later}")
    if result.refused:
        click.echo(f"{of}: not done: {result.refused}", err=True)


def _list(lines: Sequence[str], of: str, *, total: int | None = None, err: bool = False) -> None:
    for line in lines[:MAX_LISTED]:
        click.echo(line, err=err)
    more = (len(lines) if total is None else total) - MAX_LISTED
    if more > 0:
        click.echo(f"{of}: and {more:,} more ranges", err=err)
