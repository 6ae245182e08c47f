"""Servers as child processes that stop with their parent: for trying things out and for tests.

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
    """Whether a Kafka broker answers at the port: an open socket alone does not say that it is up."""
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
    """What a child has to run first so that it gets SIGTERM when its parent dies; None where the system cannot.

    Without it a parent killed with SIGKILL would leave the child behind, holding its port and its memory. To Linux the
    parent is the thread that starts the child: start children from one that lasts, the main thread at best.
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
    """A server that comes as a wheel, a child process. What is in its folder outlives `stop`, until `remove`."""

    _process: subprocess.Popen[bytes] | None = None
    _folder: Path | None = None
    _kept: Path | None = None
    """The folder that it was told to keep its data in."""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @abstractmethod
    def start(self) -> None:
        """Run it and wait until it answers. Raises MdstreamError where it cannot."""

    @abstractmethod
    def stop(self) -> None:
        """End it in order; what is stopped already stays so."""

    def remove(self) -> None:
        """Stop it and delete what it keeps, unless it was told where to keep it."""
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
    """One broker process on 127.0.0.1. `start` and `stop` may be called again; what it held is gone with a stop."""

    def __init__(self, port: int = DEFAULT_PORT) -> None:
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run it and wait until it answers. Raises BrokerError: port in use, or it ended at once."""
        check_free(self.port)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        self._process = subprocess.Popen(  # noqa: S603  our own module, no shell
            [sys.executable, "-m", "mdstream.broker", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._output,
            start_new_session=True,  # Ctrl-C in the terminal reaches us, and we stop it
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
        """End it, at once if it has to be: there is nothing to save."""
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
    """Raises BrokerError where the port of 127.0.0.1 cannot be had."""
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # sockets in TIME_WAIT do not hold a port
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            what = "a Kafka broker answers there already" if answers(port) else error.strerror
            raise BrokerError(
                f"port {port} on 127.0.0.1 cannot be used ({what}): choose another one with --port"
            ) from None
