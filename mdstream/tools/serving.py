"""How the embedded servers run as commands: in the foreground, until told to stop, or until they end by themselves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FrameType

import click

from mdstream import config
from mdstream.embedded.broker import check_free
from mdstream.embedded.server import EmbeddedServer
from mdstream.errors import MdstreamError

POLL_S = 0.2


def server_options(
    name: str, port: int, keeps: str
) -> Callable[[Callable[[int, Path | None], None]], Callable[..., None]]:
    """--port, --data and --temporary, for a command that takes the port, and the folder to keep data in or None."""

    def decorate(command: Callable[[int, Path | None], None]) -> Callable[..., None]:
        @click.option(
            "--port", type=click.IntRange(1, 65535), default=port, show_default=True, help="Port on 127.0.0.1."
        )
        @click.option(
            "--data", type=click.Path(path_type=Path), help=f"Where it keeps {keeps}.  [default: DATA_DIR/{name}]"
        )
        @click.option("--temporary", is_flag=True, help="Delete the data at the end.")
        @wraps(command)
        def run(port: int, data: Path | None, temporary: bool) -> None:
            command(port, None if temporary else data or config.load().data_dir / name)

        return run

    return decorate


def serve(server: EmbeddedServer, message: str) -> None:
    """Run it and print `message`. Raises MdstreamError if its port is in use, it cannot start, or ends by itself."""
    check_free(server.port)
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the signature is signal's
        stopped.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    with server:
        click.echo(message)
        while not stopped.wait(POLL_S):
            if not server.running:
                raise MdstreamError("the server ended by itself")
    click.echo("stopped")
