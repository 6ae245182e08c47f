"""`mdstream nats`: the embedded NATS server in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from mdstream.embedded.nats import DEFAULT_PORT, EmbeddedNats
from mdstream.tools.serving import serve, server_options


@click.command(name="nats")
@server_options("nats", DEFAULT_PORT, "streams")
def command(port: int, folder: Path | None) -> None:
    """A NATS server with JetStream in the foreground, for trying things out. Ctrl-C stops it.

    It listens on 127.0.0.1 alone. Its streams are stored in MDSTREAM_DATA_DIR.

    \b
    mdstream nats                             at 127.0.0.1:4222, where the nats role looks by default
    USE_JETSTREAM=true mdstream worker nats
    """
    server = EmbeddedNats(port, folder=folder)
    kept = f"streams in {folder}" if folder else "nothing is kept"
    serve(server, f"NATS with JetStream at 127.0.0.1:{port}, {kept}\nexport NATS_URL={server.url}")
