"""A queue that a client library fills: for venues that are reached only through their own library."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from mdstream.errors import LinkError, OversizedError
from mdstream.ingest.links.link import MAX_SIZE_BYTES, Link, Receive

FRAMES_AHEAD = 10_000


class QueueLink(Link):
    """Frames given to `put`, on the loop of the reader. A subclass starts its library in `open`, and passes it requests
    in `send`.

    A library cannot be held back, so the link is lost when the reader is `ahead` frames behind: what is not received
    has to show as a new connection, not as silence.
    """

    def __init__(self, ahead: int = FRAMES_AHEAD) -> None:
        self._ahead = ahead
        self._frames: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._lost: LinkError | None = None

    def put(self, frame: bytes) -> None:
        """Queue a frame. After the end it is ignored."""
        if self._lost is not None:
            return
        if len(frame) > MAX_SIZE_BYTES:
            self.end(OversizedError(f"a frame above {MAX_SIZE_BYTES} bytes"))
        elif len(self._frames) >= self._ahead:
            self.end(LinkError(f"the reader is {self._ahead} frames behind"))
        else:
            self._frames.append(frame)
            self._changed.set()

    def end(self, error: LinkError) -> None:
        """End the link for the reason of `error`, behind the frames put before."""
        self._lost = self._lost or error
        self._changed.set()

    async def open(self) -> None:
        """Nothing to connect."""

    @contextmanager
    def reading(self) -> Iterator[Receive]:
        yield self._recv

    async def _recv(self) -> bytes:
        while not self._frames:
            if self._lost is not None:
                raise self._lost
            self._changed.clear()
            await self._changed.wait()
        return self._frames.popleft()

    async def send(self, frame: str | bytes) -> None:  # noqa: ARG002  a hook for the library
        """Discard it: only a subclass knows a library that takes requests."""
        if self._lost is not None:
            raise self._lost

    async def close(self) -> None:
        self.end(LinkError("closed"))
