"""Our own broker (mdstream/broker) as a process, in memory. Production runs Apache Kafka (docker-compose.kafka.yml)."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from mdstream.embedded.server import EmbeddedServer
from mdstream.errors import BrokerError

DEFAULT_PORT = 9092

_API_VERSIONS, _CORRELATION_ID = 18, 7


class EmbeddedBroker(EmbeddedServer):
    """A stop loses its records."""

    name = "broker"
    start_limit_s, stop_limit_s = 15.0, 5.0

    @property
    def bootstrap(self) -> str:
        """The value for KAFKA_BOOTSTRAP_SERVERS."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run it and wait until it answers. Raises BrokerError if the port is in use, or it ended."""
        check_free(self.port)
        super().start()

    def _command(self, folder: Path) -> Sequence[str | Path]:  # noqa: ARG002  all is in memory
        return [sys.executable, "-m", "mdstream.broker", str(self.port)]

    def _is_up(self) -> bool:
        return answers(self.port)

    def _failure(self, reason: str) -> BrokerError:
        return BrokerError(f"the embedded broker at {self.bootstrap}: {reason}")


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
