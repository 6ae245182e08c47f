"""Servers as child processes that stop with their parent, for trials and tests.

The broker is our own (mdstream/broker), in memory; production runs Apache Kafka (docker-compose.kafka.yml).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import IO, Self

from mdstream.errors import BrokerError

DEFAULT_PORT = 9092
START_LIMIT_S = 15.0
STOP_LIMIT_S = 5.0

_API_VERSIONS, _CORRELATION_ID = 18, 7
_PR_SET_PDEATHSIG = 1


def answers(port: int, *, host: str = "127.0.0.1", timeout_s: float = 0.5) -> bool:
    """Whether a Kafka broker answers on the port: an open socket alone does not mean that it is up."""
    # ApiVersions v0: length, key, version, correlation id, null client id (kafka.apache.org/protocol).
    request = struct.pack(">ihhih", 10, _API_VERSIONS, 0, _CORRELATION_ID, -1)
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(request)
            head = b""
            while len(head) < 8 and (more := connection.recv(8 - len(head))):
                head += more
    except OSError:
        return False
    return len(head) == 8 and struct.unpack(">ii", head)[1] == _CORRELATION_ID


def die_with_parent() -> Callable[[], None] | None:
    """What a child must run first so that it gets SIGTERM when its parent dies; None if the system does not support it.

    Without it a parent killed with SIGKILL would leave the child behind, holding its port and its memory. For Linux the
    parent is the thread that starts the child: start children from a long-lived one, ideally the main thread.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded here: after the fork nothing may be imported
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return ask


class EmbeddedServer(ABC):
    """A server as a child process. What is in its folder survives `stop`, until `remove`."""

    port: int
    _process: subprocess.Popen[bytes] | None = None
    _folder: Path | None = None
    _kept: Path | None = None
    """The folder given to keep its data in."""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @abstractmethod
    def start(self) -> None:
        """Run it and wait until it answers. Raises MdstreamError if that fails."""

    @abstractmethod
    def stop(self) -> None:
        """Shut it down cleanly; a stopped server stays stopped."""

    def remove(self) -> None:
        """Stop it and delete its data, unless it was given a folder."""
        self.stop()
        if self._folder is not None and self._kept is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class EmbeddedBroker(EmbeddedServer):
    """One broker process on 127.0.0.1. `start` and `stop` may be called again; a stop loses its records."""

    def __init__(self, port: int = DEFAULT_PORT) -> None:
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run it and wait until it answers. Raises BrokerError if the port is in use or it ended at once."""
        check_free(self.port)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        self._process = subprocess.Popen(  # noqa: S603  our own module, no shell
            [sys.executable, "-m", "mdstream.broker", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._output,
            start_new_session=True,  # Ctrl-C in the terminal reaches only us, and we stop it
            preexec_fn=die_with_parent(),
        )
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while not answers(self.port):
            if not self.running:
                raise BrokerError(f"the embedded broker ended at once: {self._last_words() or 'it says nothing'}")
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the embedded broker does not answer at {self.bootstrap} after {START_LIMIT_S:.0f} s"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it, with SIGKILL if necessary: there is nothing to save."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._output is not None:
            self._output.close()
            self._output = None

    def _last_words(self) -> str:
        if self._output is None:
            return ""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - 2000))
        lines = self._output.read().decode("utf-8", "replace").split("\n")
        return " ".join(line.strip() for line in lines if line.strip())[-500:]


def check_free(port: int) -> None:
    """Raises BrokerError if the port of 127.0.0.1 is not available."""
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # sockets in TIME_WAIT do not hold a port
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            what = "a Kafka broker answers there already" if answers(port) else error.strerror
            raise BrokerError(
                f"port {port} on 127.0.0.1 cannot be used ({what}): choose another one with --port"
            ) from None
