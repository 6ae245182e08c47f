"""`mdstream postgres`: the embedded PostgreSQL in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from mdstream import config
from mdstream.embedded.postgres import EmbeddedPostgres
from mdstream.tools.serving import serve

DEFAULT_PORT = 5432


@click.command(name="postgres")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="Port on 127.0.0.1."
)
@click.option("--data", type=click.Path(path_type=Path), help="Where it keeps the data.  [default: DATA_DIR/postgres]")
@click.option("--temporary", is_flag=True, help="Keep nothing after the end.")
def command(port: int, data: Path | None, temporary: bool) -> None:
    """PostgreSQL in the foreground, for trying things out. Ctrl-C stops it.

    It listens on 127.0.0.1 alone and takes local users without a password. What it holds stays in MDSTREAM_DATA_DIR.

    \b
    mdstream postgres                         prints the variable that points at it
    export MARKET_DATA_DATABASE_URL=postgresql://mdstream@127.0.0.1:5432/market_data
    mdstream db upgrade
    """
    folder = None if temporary else data or config.load().data_dir / "postgres"
    server = EmbeddedPostgres(port, folder=folder)
    kept = f"data in {folder}" if folder else "nothing is kept"
    serve(server, f"PostgreSQL at 127.0.0.1:{port}, {kept}\nexport MARKET_DATA_DATABASE_URL={server.url}")
