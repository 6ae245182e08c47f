"""The `mdstream` command. Each subcommand is a module of its own, imported on use, so `--help` stays fast."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any, NamedTuple

import click

from mdstream.errors import MdstreamError, SettingsError


class _Command(NamedTuple):
    module: str
    """Defines it as `command`."""
    summary: str


COMMANDS = {
    "api": _Command("mdstream.tools.api", "history, charts, live streams and TradingView's alerts"),
    "audit": _Command("mdstream.tools.audit", "compare the hops trade by trade: what is missing or doubled"),
    "backfill": _Command("mdstream.tools.backfill", "fetch past trades or bars from a venue"),
    "broker": _Command("mdstream.tools.broker", "a Kafka-compatible broker, for trying things out"),
    "db": _Command("mdstream.tools.db", "create and upgrade the database's tables"),
    "demo": _Command("mdstream.tools.demo", "everything on this machine, with simulated venues"),
    "export": _Command("mdstream.tools.export", "write stored events to Parquet files"),
    "ingest": _Command("mdstream.ingest.command", "read a venue, and write its frames to the raw topic"),
    "instruments": _Command("mdstream.tools.instruments", "what venues list: ticks, lots, contracts"),
    "nats": _Command("mdstream.tools.nats", "a NATS server with JetStream, for trying things out"),
    "postgres": _Command("mdstream.tools.postgres", "a PostgreSQL server, for trying things out"),
    "record": _Command("mdstream.tools.record", "record raw frames to a file"),
    "repair": _Command("mdstream.tools.repair", "fetch trades that got lost from the venues"),
    "replay": _Command("mdstream.tools.replay", "publish a recorded file to the raw topics again"),
    "reprocess": _Command("mdstream.tools.reprocess", "run the raw log through today's code"),
    "run": _Command("mdstream.tools.run", "everything between a venue and your database"),
    "schema": _Command("mdstream.tools.schema", "print the JSON Schema of the public events"),
    "senpai": _Command("mdstream.tools.senpai", "features, signals and alerts from the events on NATS"),
    "simulate": _Command("mdstream.simulator.command", "simulated venues, with faults on demand"),
    "status": _Command("mdstream.tools.status", "brokers, topics, lag, feeds, the API and SenpAI"),
    "tail": _Command("mdstream.tools.tail", "print canonical events as they arrive"),
    "topics": _Command("mdstream.tools.topics", "show or create the topics of this deployment"),
    "worker": _Command("mdstream.tools.worker", "run a worker: core, files, nats or timescale"),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  the signature is click's
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(COMMANDS[name].module).command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Without importing any: all of them together take more than a second."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in sorted(COMMANDS)])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mdstream")
def cli() -> None:
    """Raw exchange frames in, one clean stream of trades and quotes out.

    \b
    Try it all on this machine:   make demo
    From a venue to a database:   mdstream run --provider binance --symbols BTCUSDT,ETHUSDT
    Step by step:                 mdstream broker
                                  mdstream worker core
                                  mdstream ingest --provider binance --symbols BTCUSDT,ETHUSDT
                                  mdstream tail trades

    Settings come from options, the environment, .env and mdstream.toml, in that order.
    """


def set_up_logging(level: int = logging.INFO) -> None:
    """Log to stderr, in one format for all commands."""
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S"
    )
    # aiokafka logs each failed connection attempt; our own errors report it once, with what to do.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # Alembic logs each of its plugins, and logs the failures that it also prints: our own messages cover it.
    logging.getLogger("alembic").setLevel(logging.CRITICAL)


def main(args: list[str] | None = None) -> Any:
    """Run the command line. Exits 0, 1 on an mdstream error, 2 on wrong settings or arguments."""
    set_up_logging()
    try:
        return cli.main(args=args, prog_name="mdstream")
    except MdstreamError as error:
        click.echo(f"mdstream: {error}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
