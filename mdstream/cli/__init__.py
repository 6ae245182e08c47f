"""The `mdstream` command. Each subcommand is a module of its own, imported on use, so `--help` stays fast."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import click

from mdstream.errors import MdstreamError, SettingsError

COMMANDS = {
    "api": "mdstream.tools.api",
    "audit": "mdstream.tools.audit",
    "backfill": "mdstream.tools.backfill",
    "broker": "mdstream.tools.broker",
    "db": "mdstream.tools.db",
    "demo": "mdstream.tools.demo",
    "export": "mdstream.tools.export",
    "ingest": "mdstream.ingest.command",
    "instruments": "mdstream.tools.instruments",
    "nats": "mdstream.tools.nats",
    "postgres": "mdstream.tools.postgres",
    "record": "mdstream.tools.record",
    "repair": "mdstream.tools.repair",
    "replay": "mdstream.tools.replay",
    "reprocess": "mdstream.tools.reprocess",
    "run": "mdstream.tools.run",
    "schema": "mdstream.tools.schema",
    "senpai": "mdstream.tools.senpai",
    "simulate": "mdstream.simulator.command",
    "status": "mdstream.tools.status",
    "tail": "mdstream.tools.tail",
    "topics": "mdstream.tools.topics",
    "worker": "mdstream.tools.worker",
}
"""Command name to the module that defines it as `command`."""


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  the signature is click's
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(COMMANDS[name]).command
        return found


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
