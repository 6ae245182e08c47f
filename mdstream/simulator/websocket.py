"""One client's websocket: aiohttp does the handshake and reads, frames are written here.

A frame is encoded once for all clients, and a client's frames of one turn go out in one write: aiohttp's writer would
take a coroutine and a write for each frame and client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple, Protocol

from aiohttp import WSMsgType, web

from mdstream.simulator.actions import Action, Close, Ping, Send, Subscribe, Unsubscribe
from mdstream.simulator.exchange import Session
from mdstream.simulator.listing import Topic

CLOSE_TIMEOUT_S = 5.0
MAX_MESSAGE_BYTES = 256 * 1024
NO_STATUS = 0
"""A close frame without code and reason."""

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
"""The first byte of a frame that is a whole message (RFC 6455, 5.2)."""

_head, _head_16, _head_64 = Struct("BB").pack, Struct(">BBH").pack, Struct(">BBQ").pack
_log = logging.getLogger(__name__)


def encode(first: int, payload: bytes) -> bytes:
    """A whole frame as a server sends it, unmasked (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return _head(first, size) + payload
    if size < 65536:
        return _head_16(first, 126, size) + payload
    return _head_64(first, 127, size) + payload


def frame_of(payload: str | bytes) -> bytes:
    """A whole frame: text as text, bytes as binary."""
    return encode(TEXT, payload.encode()) if isinstance(payload, str) else encode(BINARY, payload)


def joined(frames: Sequence[bytes]) -> bytes:
    """Whole frames whose payloads are arrays, as one."""
    arrays = [frame[{126: 4, 127: 10}.get(frame[1], 2) :] for frame in frames]
    return encode(TEXT, b"[%b]" % b",".join([array[1:-1] for array in arrays]))


class Gate(NamedTuple):
    """How to treat a handshake: answer after `wait_s`, or refuse with HTTP status `refusal` (0: cut off)."""

    wait_s: float = 0.0
    refusal: int | None = None


class Host(Protocol):
    """What a client's socket needs from the server."""

    def now_ns(self) -> int: ...
    def joined(self, client: Client) -> None:
        """The handshake is done."""

    def left(self, client: Client) -> None:
        """No more frames for this client."""

    def subscribe(self, topic: Topic, client: Client) -> None: ...
    def unsubscribe(self, topic: Topic, client: Client) -> None: ...
    def send_current(self, topic: Topic, text: str, client: Client) -> bool:
        """Send a client the topic's current state; False if the client's socket has to send it."""


class Client:
    """A connection to `venue`. `out` holds the frames that the next `flush` writes."""

    def __init__(self, host: Host, venue: str, session: Session, transport: asyncio.Transport) -> None:
        self._host, self.venue, self._transport = host, venue, transport
        self._session: Session | None = session
        """None once the connection is ending."""
        self._sent_ns = host.now_ns()
        self.topics: dict[Topic, None] = {}
        self.out: list[bytes] = []

    async def serve(self, socket: web.WebSocketResponse) -> None:
        """Run the session until the connection ends."""
        self._host.joined(self)
        try:
            if self._session is not None:
                self._do(self._session.opened(self._host.now_ns()))
            async for message in socket:
                self._receive(message.type, message.data)
            self.close(socket.close_code or NO_STATUS, "")
        finally:
            self._end()
            self._transport.close()

    def frame(self, payload: str | bytes) -> bytes:
        """A payload as it goes over the wire."""
        return frame_of(payload)

    # the server's side

    @property
    def waiting_bytes(self) -> int:
        """Bytes written that the operating system has not taken yet."""
        return self._transport.get_write_buffer_size()

    def flush(self, now_ns: int, *, faulty: bool = False) -> None:
        """Write what is in `out`; what a fault may have made of a frame stays a frame of its own."""
        if self.out:
            shared = self._session is not None and self._session.shares_frames and not faulty
            self._write(joined(self.out) if shared and len(self.out) > 1 else b"".join(self.out))
            self._sent_ns = now_ns
            self.out.clear()

    def tick(self, now_ns: int) -> None:
        """Run the session's timed actions."""
        if self._session is not None:
            self._do(self._session.tick(now_ns, self._sent_ns))

    def abort(self) -> None:
        """Cut the connection at once, without a closing handshake."""
        self._end()
        self._transport.abort()

    def cut_off(self) -> None:
        """Close as the venue does for a client that does not read."""
        if self._session is not None:
            self._do(self._session.too_slow)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; the connection ends with the client's answer, or CLOSE_TIMEOUT_S later."""
        if self._session is not None:
            self._end()
            self._write(encode(CLOSE, code.to_bytes(2) + reason.encode() if code else b""))
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    # the session's side

    def _receive(self, kind: WSMsgType, data: bytes) -> None:
        session, now_ns = self._session, self._host.now_ns()
        if session is None:
            return
        if kind is WSMsgType.PING:
            self._write(encode(PONG, data))
            self._do(session.ping_received(now_ns))
        elif kind is WSMsgType.PONG:
            self._do(session.pong_received(data, now_ns))
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY):
            self._do(session.received(data.decode(errors="replace"), now_ns))

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send(text, of):
                    if of is None or not self._host.send_current(of, text, self):
                        self._write(self.frame(text))
                        self._sent_ns = self._host.now_ns()
                case Ping(payload):
                    self._write(encode(PING, payload))
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

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _end(self) -> None:
        """No more frames for this client."""
        if self._session is not None:
            self._session.closed()
            self._session = None
            self._host.left(self)
