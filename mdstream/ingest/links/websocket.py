"""A websocket: a message is a frame."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxy, InvalidStatus, InvalidURI
from websockets.frames import CloseCode

from mdstream.errors import HandshakeError, LinkError, OversizedError
from mdstream.ingest.links.link import CLOSE_TIMEOUT_S, MAX_SIZE_BYTES, OPEN_TIMEOUT_S, Link, Receive
from mdstream.net.redact import scrubbed

PING_INTERVAL_S = 20.0
PONG_TIMEOUT_S = 10.0
FRAMES_AHEAD = 64
"""Frames the websocket buffers before it stops reading; one read of the socket may add some thousand."""


class WebsocketLink(Link):
    """A websocket to `url`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket: ClientConnection | None = None

    async def open(self) -> None:
        try:
            self._socket = await self._connect()
        except InvalidStatus as refused:
            raise HandshakeError(refused.response.status_code) from None
        except (OSError, EOFError, InvalidHandshake, InvalidProxy, InvalidURI) as error:  # OSError: TimeoutError, too
            # libraries quote the address, also a proxy's
            raise LinkError(scrubbed(str(error)) or type(error).__name__) from None

    async def _connect(self) -> ClientConnection:
        return await connect(
            self._url,
            compression=None,
            max_size=MAX_SIZE_BYTES,
            max_queue=FRAMES_AHEAD,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            # Pings keep the path through firewalls open. Silence decides, not pongs (mdstream/venues/session.py).
            ping_interval=PING_INTERVAL_S,
            ping_timeout=None,
        )

    @contextmanager
    def reading(self) -> Iterator[Receive]:
        assert self._socket is not None
        try:
            # By position: a partial with keywords costs as much as another coroutine.
            yield partial(self._socket.recv, False)  # type: ignore[misc]  # mypy takes the first overload
        except ConnectionClosed as closed:
            raise _lost(closed) from None

    async def send(self, frame: str | bytes) -> None:
        assert self._socket is not None
        try:
            await self._socket.send(frame)
        except ConnectionClosed as closed:
            raise _lost(closed) from None

    async def answers(self) -> bool:
        assert self._socket is not None
        try:
            async with asyncio.timeout(PONG_TIMEOUT_S):
                await (await self._socket.ping())
        except (TimeoutError, ConnectionClosed):
            return False
        return True

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()


def _lost(closed: ConnectionClosed) -> LinkError:
    too_big = closed.sent is not None and closed.sent.code == CloseCode.MESSAGE_TOO_BIG
    return (OversizedError if too_big else LinkError)(str(closed))
