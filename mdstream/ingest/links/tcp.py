"""A TCP connection, cut into frames by the framer that its venue declares."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from mdstream.errors import FrameError, LinkError, OversizedError, SettingsError
from mdstream.ingest.links.link import CLOSE_TIMEOUT_S, MAX_SIZE_BYTES, OPEN_TIMEOUT_S, Link, Receive
from mdstream.net.redact import redacted
from mdstream.venues.framer import Framer

READ_BYTES = 65_536


class TcpLink(Link):
    """A connection to tcp://HOST:PORT. Raises SettingsError if `url` lacks either."""

    def __init__(self, url: str, framer: Framer) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or not port:
            raise SettingsError(f"{redacted(url)!r}: expected tcp://HOST:PORT")
        self._host, self._port, self._framer = host, port, framer
        self._buffer = bytearray()
        self._frames: deque[bytes] = deque()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                self._streams = await asyncio.open_connection(self._host, self._port, limit=READ_BYTES)
        except OSError as error:  # TimeoutError, too
            raise LinkError(str(error) or "timed out") from None

    @contextmanager
    def reading(self) -> Iterator[Receive]:
        yield self._recv

    async def _recv(self) -> bytes:
        while not self._frames:
            await self._fill()
        return self._frames.popleft()

    async def _fill(self) -> None:
        assert self._streams is not None
        try:
            data = await self._streams[0].read(READ_BYTES)
            self._buffer += data
            self._frames.extend(self._framer.cut(self._buffer))
        except (OSError, FrameError) as error:
            raise LinkError(str(error)) from None
        if not data:
            raise LinkError("the connection was closed")
        if len(self._buffer) > MAX_SIZE_BYTES:
            raise OversizedError(f"a frame above {MAX_SIZE_BYTES} bytes")

    async def send(self, frame: str | bytes) -> None:
        assert self._streams is not None
        writer = self._streams[1]
        try:
            writer.write(frame.encode() if isinstance(frame, str) else frame)
            await writer.drain()
        except OSError as error:
            raise LinkError(str(error)) from None

    async def close(self) -> None:
        if self._streams is not None:
            writer = self._streams[1]
            writer.close()
            with suppress(OSError):  # TimeoutError, too
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    # A wait that is cancelled would cancel that of the next call, too.
                    await asyncio.shield(writer.wait_closed())
