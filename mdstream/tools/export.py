"""`mdstream export`: stored events as Parquet files."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from mdstream.cli.progress import Progress
from mdstream.client.kinds import KINDS
from mdstream.client.parquet import export
from mdstream.client.stored import SOURCES, request_of
from mdstream.config import load


@click.command()
@click.argument("kind", type=click.Choice(tuple(KINDS)))
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE.parquet|FOLDER")
@click.option("--symbol", required=True, metavar="S", help="The instrument, like BTCUSDT.")
@click.option("--from", "begin", required=True, help="First time: 2026-01-05T15:00 (UTC) or an age, 15m.")
@click.option("--to", "end", default="0s", help="The time to stop before, likewise.  [default: now]")
@click.option("--interval", help="Of bars: their length.  [default: 1m]")
@click.option(
    "--source",
    type=click.Choice(SOURCES),
    help="TimescaleDB, or SQLite.  [default: timescale if MARKET_DATA_DATABASE_URL is set]",
)
def command(kind: str, path: Path, symbol: str, begin: str, end: str, interval: str | None, source: str | None) -> None:
    """Write stored events to a Parquet file, or by days (UTC) into a folder. Needs pip install 'mdstream[arrow]'.

    The columns are the events' fields (docs/events.md), with times as timestamps in ns, UTC; rows are in the order of
    their times. A file that is there is replaced once the new one is whole; until then that is .FILE.part.

    \b
    mdstream export trades --symbol BTCUSDT --from 2026-01-05 --to 2026-01-06 btc.parquet
    mdstream export bars --symbol BTCUSDT --interval 1h --from 30d bars/
        bars/date=2026-01-05/BTCUSDT-bars-1h.parquet ...
    """
    settings, request = load(), request_of(kind, symbol, begin, end, interval)
    count = 0
    with Progress(f"export {kind}", "rows") as progress, closing(export(settings, request, path, source)) as pieces:
        for rows in pieces:
            count += rows
            progress.show(count)
    click.echo(f"{count:,} {kind} of {request.symbol} in {path}")
