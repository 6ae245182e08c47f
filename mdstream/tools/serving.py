"""How the embedded servers run as commands: in the foreground, until told to stop, or until they end by themselves."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import click

from mdstream.embedded.server import EmbeddedServer, check_free
from mdstream.errors import MdstreamError

LOOK_S = 0.2


def serve(server: EmbeddedServer, said: str) -> None:
    """Run it and print `said`. Raises MdstreamError if its port is in use, it cannot start, or ends by itself."""
    check_free(server.port)
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the signature is signal's
        stopped.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    with server:
        click.echo(said)
        while not stopped.wait(LOOK_S):
            if not server.running:
                raise MdstreamError("the server ended by itself")
    click.echo("stopped")
