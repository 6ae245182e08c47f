"""A venue that is reached by TCP: a port of its own, and its clients.

The venue's framer cuts what a client sends, its sessions say how a text goes over the wire.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import cast

from mdstream.errors import FrameError, SettingsError
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.injection import Injection
from mdstream.simulator.websocket import Client, Host
from mdstream.venues.framer import Framer

READ_BYTES = 65_536
MAX_REQUEST_BYTES = 256 * 1024


class TcpClient(Client):
    """A connection without a websocket: it has no pings, and its end has no reason."""

    def __init__(self, host: Host, venue: str, session: Session, transport: asyncio.Transport) -> None:
        super().__init__(host, venue, session, transport)
        self._wire = session.wire

    def frame(self, payload: str | bytes) -> bytes:
        return self._wire(payload if isinstance(payload, str) else payload.decode("latin-1"))

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002
        """Close, after what was written."""
        self._end()
        self._transport.close()

    async def read(self, stream: asyncio.StreamReader, framer: Framer) -> None:
        """Run the session until the connection ends."""
        self._host.joined(self)
        buffer = bytearray()
        try:
            self._do(self._session.opened(self._host.now_ns()) if self._session else [])
            while self._session is not None and (data := await stream.read(READ_BYTES)):
                buffer += data
                for request in framer.cut(buffer):
                    self._request(request)
                if len(buffer) > MAX_REQUEST_BYTES:
                    break
        finally:
            self.close(0, "")

    def _request(self, request: bytes) -> None:
        if self._session is not None:
            self._do(self._session.received(request.decode("latin-1"), self._host.now_ns()))


class TcpEndpoint:
    """Hands the clients of one venue to `host`."""

    def __init__(self, host: Host, exchange: Exchange, injection: Injection) -> None:
        self._host, self._exchange, self._injection = host, exchange, injection
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen. Returns the port. Raises SettingsError if the address is not available."""
        try:
            self._server = await asyncio.start_server(self._serve, host, port)
        except OSError as failure:
            reason = f"cannot listen on {host}:{port} for {self._exchange.name} ({failure.strerror or failure})"
            raise SettingsError(f"{reason}: choose another --port, or 0 for free ones") from None
        return int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Accept no more clients. Those that are there are closed with all others."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange, gate = self._exchange, self._injection.gate(self._exchange.name)
        transport = cast(asyncio.Transport, writer.transport)  # uvloop's is no subclass
        await asyncio.sleep(gate.wait_s)
        session = exchange.session(exchange.path, "", self._host.now_ns())
        if gate.refusal is not None or session is None or exchange.framer is None:
            transport.abort()
            return
        with suppress(OSError, FrameError):  # the client is gone, or sends what can be no request
            await TcpClient(self._host, exchange.name, session, transport).read(reader, exchange.framer)
