"""Frames on the wire."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from mdstream.simulator.websocket import BINARY, CLOSE, PING, PONG, TEXT, encode, frame_of, joined

OPCODES = {
    TEXT: Opcode.TEXT,
    BINARY: Opcode.BINARY,
    CLOSE: Opcode.CLOSE,
    PING: Opcode.PING,
    PONG: Opcode.PONG,
}


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_frame_is_what_another_library_would_send(size: int) -> None:
    """Byte for byte, on both sides of each limit where the form of the length changes."""
    payload = b"x" * size
    for first in (TEXT, BINARY):
        assert encode(first, payload) == Frame(OPCODES[first], payload).serialize(mask=False)


@pytest.mark.parametrize("first", [CLOSE, PING, PONG])
def test_control_frame_is_what_another_library_would_send(first: int) -> None:
    """They carry at most 125 bytes (RFC 6455, 5.5)."""
    for payload in (b"", b"\x03\xe8Bye", b"x" * 125):
        assert encode(first, payload) == Frame(OPCODES[first], payload).serialize(mask=False)


def test_frame_counts_bytes_not_characters() -> None:
    """The length is that of the UTF-8; bytes go out as binary, whatever they are."""
    assert frame_of("é" * 100) == Frame(Opcode.TEXT, ("é" * 100).encode()).serialize(mask=False)
    assert frame_of(b"\xff\x00") == Frame(Opcode.BINARY, b"\xff\x00").serialize(mask=False)


@pytest.mark.parametrize("size", [0, 121, 122, 65531, 65532, 70_000])
def test_arrays_are_joined_to_one_frame(size: int) -> None:
    """Whatever the form of their lengths: the elements of all, in order."""
    first, second = f'["{"x" * size}",2]', "[3]"
    assert joined([frame_of(first), frame_of(second)]) == frame_of(f"{first[:-1]},3]")
