"""`mdstream nats`: the embedded NATS server in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from mdstream import config
from mdstream.embedded.nats import EmbeddedNats
from mdstream.tools.serving import serve

DEFAULT_PORT = 4222


@click.command(name="nats")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="Port on 127.0.0.1."
)
@click.option("--data", type=click.Path(path_type=Path), help="Where it keeps streams.  [default: DATA_DIR/nats]")
@click.option("--temporary", is_flag=True, help="Keep nothing after the end.")
def command(port: int, data: Path | None, temporary: bool) -> None:
    """A NATS server with JetStream in the foreground, for trying things out. Ctrl-C stops it.

    It listens on 127.0.0.1 alone. What its streams hold stays in MDSTREAM_DATA_DIR.

    \b
    mdstream nats                             at 127.0.0.1:4222, where the nats role looks by default
    USE_JETSTREAM=true mdstream worker nats
    """
    folder = None if temporary else data or config.load().data_dir / "nats"
    server = EmbeddedNats(port, folder=folder)
    kept = f"streams in {folder}" if folder else "nothing is kept"
    serve(server, f"NATS with JetStream at 127.0.0.1:{port}, {kept}\nexport NATS_URL={server.url}")
