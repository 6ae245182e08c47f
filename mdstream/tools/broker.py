"""`mdstream broker`: the embedded broker in the foreground."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import click

from mdstream import config
from mdstream.broker.process import DEFAULT_LIMIT_MIB, MIB, serve
from mdstream.broker.store import Store
from mdstream.embedded.broker import DEFAULT_PORT, check_free
from topics import Topics


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="Port on 127.0.0.1."
)
@click.option(
    "--keep-mb",
    type=click.IntRange(min=16),
    default=DEFAULT_LIMIT_MIB,
    show_default=True,
    help="MiB to keep; beyond that the oldest records are deleted.",
)
@click.option(
    "--report-every",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds between memory reports.",
)
def command(port: int, keep_mb: int, report_every: float) -> None:
    """A Kafka-compatible broker in the foreground, for trying things out. Ctrl-C stops it.

    Everything is in memory and is lost when it stops. It creates mdstream's topics, and keeps their records for the
    topics' retention, within --keep-mb: a reader that falls further behind loses records. For data that must last, use
    Apache Kafka (`make up`).

    \b
    mdstream broker                           at 127.0.0.1:9092, where every command looks by default
    mdstream broker --port 19092              then: export KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:19092
    kcat -b 127.0.0.1:9092 -C -t md.trades    any Kafka client reads it
    """
    settings = config.load()
    check_free(port)

    def started(store: Store) -> None:
        click.echo(f"Kafka-compatible broker at 127.0.0.1:{port}, in memory only: its records are lost when it stops")
        report(store)

    def report(store: Store) -> None:
        held = f"holds {store.size / MIB:.0f} of {keep_mb} MiB"
        click.echo(f"{time.strftime('%H:%M:%S')} {held}, resident memory {_resident_mib()} MiB")
        asyncio.get_running_loop().call_later(report_every, report, store)

    serving = serve(port, limit_mib=keep_mb, topics=Topics(settings), partitions=settings.partitions, started=started)
    asyncio.run(serving)
    click.echo("stopped")


def _resident_mib() -> str:
    """The process's memory now; a question mark if the system does not show it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return "?"
    return f"{pages * os.sysconf('SC_PAGE_SIZE') / MIB:.0f}"
