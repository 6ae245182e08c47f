"""`python -m mdstream.broker PORT`: a broker without topics, until it is told to stop."""

from __future__ import annotations

import asyncio

import click

from mdstream.broker.process import DEFAULT_LIMIT_MIB, serve


@click.command()
@click.argument("port", type=int)
@click.option("--advertise", type=int, help="The port that clients connect to.  [default: PORT]")
@click.option("--keep-mb", type=int, default=DEFAULT_LIMIT_MIB)
def main(port: int, advertise: int | None, keep_mb: int) -> None:
    """See mdstream.broker.process.serve."""
    asyncio.run(serve(port, advertise=advertise, limit_mib=keep_mb))


main()
