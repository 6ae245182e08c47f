"""What every link can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from topics import MAX_FRAME_BYTES

MAX_SIZE_BYTES = MAX_FRAME_BYTES - 65_536
"""A larger frame would not fit into a record batch with its headers: it ends the connection."""
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0

Receive = Callable[[], Awaitable[bytes]]


class Link(ABC):
    """One connection, opened once. Every failure is a LinkError."""

    @abstractmethod
    async def open(self) -> None:
        """Connect. Raises LinkError; HandshakeError if the server answers with an HTTP status."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Receive]:
        """For a `with` block: the function that returns the next frame, and suspends only without one.

        LinkError leaves the block at the end of the link, after the last frame received. (A `recv` method around the
        library's would cost a tenth of a microsecond per frame.)
        """

    @abstractmethod
    async def send(self, frame: str | bytes) -> None:
        """Send a frame. Raises LinkError if the connection is lost."""

    async def answers(self) -> bool:
        """Whether the other end answers a ping of the link's own. A hook: most links have none."""
        return False

    @abstractmethod
    async def close(self) -> None:
        """Close, open or not, as often as wanted. Frames that have arrived can still be received."""
