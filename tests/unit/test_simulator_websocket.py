"""Frames on the wire."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from mdstream.simulator.websocket import text_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_text_frame_is_what_the_library_would_send(size: int) -> None:
    """Byte for byte, on both sides of each limit where the form of the length changes."""
    text = "x" * size
    assert text_frame(text) == Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


def test_text_frame_counts_bytes_not_characters() -> None:
    """The length is that of the UTF-8."""
    assert text_frame("é" * 100) == Frame(Opcode.TEXT, ("é" * 100).encode()).serialize(mask=False)
