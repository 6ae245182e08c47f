"""`mdstream run`: a feed, the stream and its sinks, with one command."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from mdstream import config
from mdstream.config import Settings
from mdstream.db import migrate
from mdstream.errors import SettingsError
from mdstream.ingest.selection import Selection
from mdstream.run import pipeline
from mdstream.run.pipeline import SINKS, Pipeline
from mdstream.run.services import Services, find_or_start
from mdstream.run.supervisor import Say, Supervisor, interrupt_on_signals, timed_say
from mdstream.venues.providers import FEEDS

POLL_S = 0.2


def _sinks(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name for name in value.replace(" ", "").split(",") if name)
    if wrong := [name for name in names if name not in SINKS]:
        raise click.BadParameter(f"{', '.join(wrong)}: choose from {', '.join(SINKS)}")
    return names


@click.command(name="run")
@click.option(
    "--provider", "providers", multiple=True, required=True, help=f"{', '.join(FEEDS)} or all; may be repeated."
)
@click.option(
    "--symbols", "symbols", multiple=True, required=True, help="Its symbols, comma-separated; once for each --provider."
)
@click.option(
    "--sinks", default=",".join(SINKS), show_default=True, callback=_sinks, help="Sinks to write to; empty: none."
)
def command(providers: tuple[str, ...], symbols: tuple[str, ...], sinks: tuple[str, ...]) -> None:
    """Everything between a venue and your database, with one command. Ctrl-C stops all of it.

    Runs an ingestor for each provider, a core worker, gap repair and the requested sinks. Broker, database and NATS are
    those of KAFKA_BOOTSTRAP_SERVERS, MARKET_DATA_DATABASE_URL and NATS_URL; for each that is not set an embedded one is
    started. The tables of the database are created or upgraded.

    \b
    mdstream run --provider binance --symbols BTCUSDT,ETHUSDT
    mdstream run --provider binance --symbols BTCUSDT --provider okx --symbols BTCUSDT --sinks files
    MARKET_DATA_DATABASE_URL=postgresql://... mdstream run --provider all --symbols BTCUSDT --sinks timescale

    A part that ends is started again; one that is stuck exits with 75 to be started again. Each log line begins with
    the name of its part, and is also in MDSTREAM_DATA_DIR/logs. The embedded PostgreSQL and NATS store their data in
    MDSTREAM_DATA_DIR; the embedded broker is in memory, so its topics are empty at each start.
    """
    if len(providers) != len(symbols):
        raise SettingsError("every --provider needs its own --symbols")
    wanted = list(zip(providers, symbols, strict=True))
    settings = config.load()
    for each in wanted:  # errors are reported before anything starts
        asyncio.run(Selection(*each).plan(settings.symbol_groups, settings.venue_addresses()))
    interrupt_on_signals()
    say = timed_say()
    try:
        with _running(settings, wanted, sinks, say) as parts:
            while True:
                parts.restart_ended()
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        say("stopped")


@contextmanager
def _running(
    settings: Settings, wanted: list[tuple[str, str]], sinks: tuple[str, ...], say: Say
) -> Iterator[Supervisor]:
    with Supervisor(settings.data_dir / "logs", {}, say=say, show=_show) as parts:
        services = find_or_start(parts, settings, sinks=sinks)
        parts.set(services.environment)
        if "timescale" in sinks:
            migrate.upgrade(config.load(database_url=services.database_url))
        running = pipeline.start(parts, wanted, sinks)
        for line in _addresses(services, running, settings, sinks):
            say(line)
        yield parts


def _addresses(services: Services, running: Pipeline, settings: Settings, sinks: tuple[str, ...]) -> Iterator[str]:
    """The addresses to open, and where data goes."""
    yield f"latest prices {running.page}   venues {running.page}feeds   health {running.page}health"
    yield from (f"ingest {name} http://127.0.0.1:{port}/health" for name, port in running.ingestors.items())
    yield from (f"{role} http://127.0.0.1:{port}/health" for role, port in running.sinks.items())
    yield from services.descriptions
    if "files" in sinks:
        yield f"files {settings.data_dir}/market_data.db, {settings.data_dir}/events.jsonl"


def _show(part: str, line: str) -> None:
    sys.stdout.write(f"{part:<15} | {line}\n")
    sys.stdout.flush()
