"""`mdstream senpai`: features and signals from the events on NATS."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import click

from mdstream import config
from mdstream.cli import set_up_logging
from mdstream.config import Settings
from mdstream.errors import SettingsError
from mdstream.senpai.backtest import backtest, events_of
from mdstream.senpai.canonical import read
from mdstream.senpai.process import DEFAULT_PORT, senpai
from mdstream.senpai.share import Share, share_of
from mdstream.senpai.table import Table
from mdstream.timestamps import timestamp_ns
from mdstream.tools.running import run


@click.command()
@click.option("--member", default="1/1", show_default=True, metavar="K/N", help="The K-th of N that share the symbols.")
@click.option("--port", type=click.IntRange(1, 65535), help=f"HTTP port.  [default: HTTP_PORT, {DEFAULT_PORT}]")
@click.option("--replay", type=click.Path(path_type=Path), metavar="FILE", help="Backtest: of a capture.")
@click.option("--from-time", metavar="TIME", help="Backtest: of the canonical topics from this time or age on.")
@click.option("--to-time", metavar="TIME", help="Where that ends.  [default: now]")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Of a backtest: CSV or FILE.parquet.")
def command(
    member: str,
    port: int | None,
    replay: Path | None,
    from_time: str | None,
    to_time: str | None,
    output: Path | None,
) -> None:
    """Make features, signals and alerts from the events that the nats role publishes.

    \b
      md.events.>  ──>  senpai.features.SYMBOL    eleven features, up to ten times a second
                        senpai.signals.SYMBOL     a rule of mdstream.toml came true
                        senpai.alerts             something is wrong, or no longer

    With USE_JETSTREAM=true it reads the stream of the nats role by a durable consumer, and stores what it makes in the
    stream SENPAI. Stop or kill it at any time: the next start goes on where it stopped, and nothing is lost or twice.
    Without, it is a live view: current events to current subscribers.

    \b
    Examples:
      USE_JETSTREAM=true mdstream senpai
      USE_JETSTREAM=true mdstream senpai --member 2/3 --port 8895      one of three
      mdstream schema senpai                                           what the messages look like

    A backtest writes the same rows and signals as fast as it can, and talks to no NATS. Parquet needs
    pip install 'mdstream[arrow]':

    \b
      mdstream senpai --replay monday.jsonl.gz --output monday.csv             (mdstream record)
      mdstream senpai --from-time 2h --to-time 1h --output hour.parquet        from Kafka

    Members share the symbols by a hash of their names. Start each number once: two of the same take the work from each
    other, though they store nothing twice.

    \b
    HTTP, on 127.0.0.1 unless HTTP_HOST says otherwise:
      /                         a chart of each symbol
      /features/latest?symbol=  the latest features, of all symbols without one
      /state/latest?symbol=     the latest trade and quote
      /stats                    events by outcome, open alerts, drops
      /health /live /ready      and /metrics for Prometheus

    The connection is that of the nats role (NATS_URL, NATS_CREDS, NATS_CA, ...): docs/sinks.md. More: docs/senpai.md.
    """
    set_up_logging()
    settings = config.load(http_port=port)
    share = share_of(member)
    if replay is None and from_time is None:
        if output is not None or to_time is not None:
            raise SettingsError("--output and --to-time are of a backtest: give --replay or --from-time")
        run(senpai(settings, share, port=settings.http.port or DEFAULT_PORT))
        return
    if output is None or (replay is None) == (from_time is None) or (replay is not None and to_time is not None):
        raise SettingsError("a backtest needs --output, and either --replay or --from-time (with --to-time)")
    _backtest(settings, _events(settings, replay, from_time, to_time, share), output)


def _events(
    settings: Settings, replay: Path | None, from_time: str | None, to_time: str | None, share: Share
) -> AsyncIterator[bytes] | Iterator[bytes]:
    if replay is not None:
        return events_of(settings, replay)
    now_s = time.time()
    assert from_time is not None
    begin_ns, end_ns = (timestamp_ns(text, now_s=now_s) if text else None for text in (from_time, to_time))
    if end_ns is not None and begin_ns is not None and end_ns <= begin_ns:
        raise SettingsError(f"--to-time {to_time} is not after --from-time {from_time}")
    return read(settings, begin_ns or 0, end_ns, share)


def _backtest(settings: Settings, events: AsyncIterator[bytes] | Iterator[bytes], output: Path) -> None:
    began_s = time.monotonic()
    with Table(output) as table:
        engine = run(backtest(settings, events, table))
        if engine is None:
            raise click.Abort
    took_s = time.monotonic() - began_s
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(engine.counts.items())) or "no event"
    click.echo(f"wrote {table.rows:,} rows with {table.signals:,} signals to {output} in {took_s:.1f} s; {counts}")
