"""`mdstream postgres`: the embedded PostgreSQL in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from mdstream.embedded.postgres import DEFAULT_PORT, EmbeddedPostgres
from mdstream.tools.serving import serve, server_options


@click.command(name="postgres")
@server_options("postgres", DEFAULT_PORT, "the data")
def command(port: int, folder: Path | None) -> None:
    """PostgreSQL in the foreground, for trying things out. Ctrl-C stops it.

    It listens on 127.0.0.1 alone and takes local users without a password. Its data is stored in MDSTREAM_DATA_DIR.

    \b
    mdstream postgres                         prints the variable that points at it
    export MARKET_DATA_DATABASE_URL=postgresql://mdstream@127.0.0.1:5432/market_data
    mdstream db upgrade
    """
    server = EmbeddedPostgres(port, folder=folder)
    kept = f"data in {folder}" if folder else "nothing is kept"
    serve(server, f"PostgreSQL at 127.0.0.1:{port}, {kept}\nexport MARKET_DATA_DATABASE_URL={server.url}")
