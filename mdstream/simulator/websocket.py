"""One client's socket: the sans-I/O protocol of `websockets` on an asyncio transport.

Market data bypasses the protocol object: a frame is encoded once for all clients, and a client's frames of one turn go
out in one write. Everything else (handshake, pings, closing) is the library's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple, cast
from typing import Protocol as TypingProtocol

from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from mdstream.simulator.exchange import Action, Close, Ping, Send, Session, Subscribe, Topic, Unsubscribe

HANDSHAKE_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
MAX_MESSAGE_BYTES = 256 * 1024

_log = logging.getLogger(__name__)
_quiet = logging.getLogger("mdstream.simulator.websockets")
_quiet.setLevel(logging.WARNING)


def text_frame(text: str) -> bytes:
    """A whole text frame as a server sends it (RFC 6455, 5.2): ten times cheaper than Frame.serialize."""
    data = text.encode()
    size = len(data)
    if size < 126:
        return b"\x81%c%b" % (size, data)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2), data)
    return b"\x81\x7f%b%b" % (size.to_bytes(8), data)


def frame_of(payload: str | bytes) -> bytes:
    """A whole frame: text as text, bytes as binary."""
    return text_frame(payload) if isinstance(payload, str) else Frame(Opcode.BINARY, payload).serialize(mask=False)


class Gate(NamedTuple):
    """How to treat a handshake: answer after `wait_s`, or refuse with HTTP status `refusal` (0: cut off)."""

    wait_s: float = 0.0
    refusal: int | None = None


class Host(TypingProtocol):
    """What a client's socket needs from the server."""

    def now_ns(self) -> int: ...
    def gate(self, target: str) -> Gate:
        """How to treat a handshake with this path and query."""

    def session(self, target: str) -> tuple[str, Session] | None:
        """The venue's name and a new session for a websocket's path and query; None if there is none."""

    def joined(self, client: Client) -> None:
        """The handshake is done."""

    def left(self, client: Client) -> None:
        """No more frames for this client; may be called again."""

    def lost(self, client: Client) -> None:
        """The connection is gone."""

    def subscribe(self, topic: Topic, client: Client) -> None: ...
    def unsubscribe(self, topic: Topic, client: Client) -> None: ...
    def tell(self, topic: Topic, text: str, client: Client) -> bool:
        """Send a client the topic's current state; False if the client's socket has to send it."""


class Client(asyncio.Protocol):
    """A connection. `out` holds the frames that the next `flush` writes; `venue` is set once the handshake is done."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._protocol = ServerProtocol(max_size=MAX_MESSAGE_BYTES, logger=_quiet)
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._parts: list[bytes] = []
        self._sent_ns = host.now_ns()
        self.topics: dict[Topic, None] = {}
        self.out: list[bytes] = []
        self.venue = ""

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A slow client is cut off, never waited for: the server polls the buffered bytes and needs no signal to pause.
        self._transport = cast(asyncio.Transport, transport)  # uvloop's derives from no class of asyncio's
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._handle_events()

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        self._handle_events()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  a lost client needs no reason
        self._cancel_timer()
        self._transport = self._session = None
        self._host.left(self)
        self._host.lost(self)

    # the server's side

    @property
    def is_open(self) -> bool:
        """Whether frames may be sent."""
        return self._protocol.state is State.OPEN and self._session is not None

    @property
    def waiting_bytes(self) -> int:
        """Bytes written that the operating system has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def flush(self, now_ns: int) -> None:
        """Write what is in `out`."""
        if self.out and self._transport is not None:
            self._transport.write(b"".join(self.out))
            self._sent_ns = now_ns
        self.out.clear()

    def tick(self, now_ns: int) -> None:
        """Run the session's timed actions."""
        if self.is_open and self._session is not None:
            self._do(self._session.tick(now_ns, self._sent_ns))

    def abort(self) -> None:
        """Cut the connection at once, without a closing handshake."""
        if self._transport is not None:
            self._transport.abort()
        self._session = None
        self._host.left(self)

    def cut_off(self) -> None:
        """Close as the venue does for a client that does not read."""
        if self._session is not None:
            self._do(self._session.too_slow())

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the connection ends with it, or CLOSE_TIMEOUT_S later."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
        elif self._transport is not None:
            self._transport.close()
        self._write()

    # the protocol object's side

    def _handle_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._knock(event)
            elif isinstance(event, Frame):
                self._receive(event)
        self._write()

    def _knock(self, request: Request) -> None:
        gate = self._host.gate(request.path)
        if not gate.wait_s:
            self._open(request, gate.refusal)
            return
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(gate.wait_s, self._open, request, gate.refusal)

    def _open(self, request: Request, refusal: int | None) -> None:
        if refusal == 0 and self._transport is not None:
            self._transport.abort()
            return
        found = None if refusal else self._host.session(request.path)
        if refusal:
            response = self._protocol.reject(HTTPStatus(refusal), "The venue takes no connections now.\n")
        else:
            response = self._protocol.accept(request) if found else self._no_such_path(request.path)
        self._protocol.send_response(response)
        self._write()
        if found and self._protocol.state is State.OPEN:
            self._cancel_timer()
            self.venue, self._session = found
            self._host.joined(self)
            self._do(self._session.opened(self._host.now_ns()))

    def _no_such_path(self, path: str) -> Response:
        return self._protocol.reject(HTTPStatus.NOT_FOUND, f"No venue has a websocket at {path}.\n")

    def _receive(self, frame: Frame) -> None:
        session, now_ns = self._session, self._host.now_ns()
        if session is None or self._protocol.state is not State.OPEN:
            return
        if frame.opcode is Opcode.PING:
            self._do(session.ping_received(now_ns))
        elif frame.opcode is Opcode.PONG:
            self._do(session.pong_received(bytes(frame.data), now_ns))
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._parts.append(bytes(frame.data))
            if frame.fin:
                message, self._parts = b"".join(self._parts), []
                self._do(session.received(message.decode(errors="replace"), now_ns))

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send(text, of):
                    if of is None or not self._host.tell(of, text, self):
                        self._protocol.send_text(text.encode())
                        self._sent_ns = self._host.now_ns()
                case Ping(payload):
                    self._protocol.send_ping(payload)
                case Subscribe(topic):
                    self.topics[topic] = None
                    self._host.subscribe(topic, self)
                case Unsubscribe(topic):
                    self.topics.pop(topic, None)
                    self._host.unsubscribe(topic, self)
                case Close(code, reason):
                    _log.info("closing a connection to %s: %d %s", self.venue, code, reason)
                    self.close(code, reason)
                    return
        self._write()

    def _write(self) -> None:
        """Send the protocol object's data, and check whether the connection is ending."""
        transport = self._transport
        if transport is None:
            return
        for data in self._protocol.data_to_send():
            if data:
                transport.write(data)
            else:
                transport.close()  # which first flushes the buffer
        if self._protocol.state is not State.OPEN and self._session is not None:
            self._end(transport)
        elif self._protocol.close_expected():
            self._limit(transport)

    def _end(self, transport: asyncio.Transport) -> None:
        """No more frames for this client."""
        self._session = None
        self._host.left(self)
        self._limit(transport)

    def _limit(self, transport: asyncio.Transport) -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, transport.abort)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
