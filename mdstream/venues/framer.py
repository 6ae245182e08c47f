"""How a byte stream is cut into frames. Pure: the buffer is the caller's.

b"Q,AAPL,246.55\\r\\nQ,MS"       Lines(b"\\r\\n")     ──> [b"Q,AAPL,246.55"]        left: b"Q,MS"
10 00 06 00 .. 08 00 07 00    LengthPrefixed()   ──> [10 00 06 00 ..]         left: 08 00 07 00
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from mdstream.errors import FrameError


class Framer(Protocol):
    """The framing that a venue declares."""

    def cut(self, buffer: bytearray) -> list[bytes]:
        """Remove the whole frames from the start of `buffer`. Raises FrameError if there cannot be any more."""


@dataclass(frozen=True)
class Lines:
    """Frames that end with `end`, which is not part of them."""

    end: bytes = b"\n"

    def cut(self, buffer: bytearray) -> list[bytes]:
        *frames, rest = bytes(buffer).split(self.end)
        buffer[:] = rest
        return frames


@dataclass(frozen=True)
class LengthPrefixed:
    """Frames that begin with their length, an unsigned integer of `size_bytes`, which stays part of them.

    The length counts itself if `inclusive`. The defaults are DTC's (Sierra Chart): u16, little-endian, inclusive.
    """

    size_bytes: int = 2
    order: Literal["little", "big"] = "little"
    inclusive: bool = True

    def cut(self, buffer: bytearray) -> list[bytes]:
        frames: list[bytes] = []
        at = 0
        while len(buffer) >= at + self.size_bytes:
            length = self._length(buffer[at : at + self.size_bytes])
            if len(buffer) < at + length:
                break
            frames.append(bytes(buffer[at : at + length]))
            at += length
        del buffer[:at]
        return frames

    def _length(self, prefix: bytearray) -> int:
        given = int.from_bytes(prefix, self.order)
        length = given if self.inclusive else given + self.size_bytes
        if length < self.size_bytes:
            raise FrameError(f"a frame that says it has {given} bytes: its length alone has {self.size_bytes}")
        return length
