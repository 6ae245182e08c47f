"""uvicorn with the limits of all our HTTP endpoints (mdstream/http/listening.py), in a loop that is already running."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from mdstream.errors import SettingsError
from mdstream.http.listening import HEADERS, MAX_CONNECTIONS, REQUEST_LIMIT_S, Refusal

log = logging.getLogger(__name__)

_HEADERS = [(name, value) for name, value in HEADERS.items() if name != "Content-Security-Policy"]
"""The page /docs loads its scripts from elsewhere; all other answers are data."""
BACKLOG = 512
STOP_LIMIT_S = 5
MAX_MESSAGE_BYTES = 1024
"""Of a client of a websocket: there is nothing to say."""


class _Watched(asyncio.Protocol):
    """A connection that is looked at every REQUEST_LIMIT_S, and ended if its client has read nothing of an answer."""

    loop: asyncio.AbstractEventLoop
    transport: Any
    _later: asyncio.TimerHandle
    _read = False
    """Whether a full buffer was emptied since the last look: in a stream it may be as full again."""

    def __init__(self, slow: Counter[str], **others: Any) -> None:
        super().__init__(**others)
        self._slow = slow

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._look_again()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._later.cancel()
        super().connection_lost(exc)

    def _look_again(self, cycle: object = None, unread: int = 0) -> None:
        self._read = False
        self._later = self.loop.call_later(REQUEST_LIMIT_S, self._look, cycle, unread)

    def _look(self, before: object, unread_before: int) -> None:
        unread = self.transport.get_write_buffer_size()
        if 0 < unread_before <= unread and not self._read:
            self._slow["clients"] += 1
            log.warning("a client is disconnected: it read nothing of an answer for %g s", REQUEST_LIMIT_S)
            self.transport.abort()  # to close it would be to wait until all is read
        else:
            self._look_again(self._idle(before, unread), unread)

    def _idle(self, before: object, unread: int) -> object:  # noqa: ARG002  some have no requests
        """What to compare at the next look."""
        return before


class _Protocol(_Watched, H11Protocol):
    """Disconnects who sends no request, or reads nothing of an answer: uvicorn waits forever for either."""

    def _idle(self, before: object, unread: int) -> object:
        cycle = self.cycle
        if not unread and cycle is before and (cycle is None or cycle.response_complete):
            self.transport.close()
        return cycle

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._later.cancel()  # the connection is the socket's from here on
        super().handle_websocket_upgrade(event)


class _Socket(_Watched, WebSocketsSansIOProtocol):
    """Disconnects who reads nothing: uvicorn closes who answers no ping, and then waits until all is read."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.close_sent:  # a refusal is an answer, too: uvicorn logs an error for each, as if there were none
            self.handshake_complete = True


def _admit(server_state: ServerState, slow: Counter[str], **others: Any) -> asyncio.Protocol:
    """The protocol of a new connection: a refusal if there are too many."""
    if len(server_state.connections) >= MAX_CONNECTIONS:
        return Refusal()
    return _Protocol(slow, server_state=server_state, **others)


class _Server(uvicorn.Server):
    """Leaves signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve(application: ASGIApp, *, host: str, port: int, slow: Counter[str] | None = None) -> AsyncIterator[None]:
    """Listen while the block runs; `slow` counts the clients that were disconnected as they read nothing.

    Raises SettingsError if the port is taken or the address is not ours.
    """
    counted = Counter[str]() if slow is None else slow
    listening = _listen(host, port)
    server = _Server(
        uvicorn.Config(
            application,
            http=cast(Any, partial(_admit, slow=counted)),
            ws=cast(Any, partial(_Socket, counted)),
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            log_level="error",  # a line for each request that is no HTTP would only help to fill a disk
            access_log=False,  # a path may hold a secret
            server_header=False,
            headers=_HEADERS,
            proxy_headers=False,  # mdstream/api/access.py decides whom to believe
            timeout_keep_alive=int(REQUEST_LIMIT_S),
            timeout_graceful_shutdown=STOP_LIMIT_S,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Said to be TCP: else asyncio sets no TCP_NODELAY, and the body of an answer waits 40 ms behind its headers.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"port {port} of {host} is in use: choose another with --port or HTTP_PORT") from None
        raise SettingsError(f"cannot listen on port {port} of {host}: {error}") from None
    return listening
