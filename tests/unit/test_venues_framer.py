"""Framers: frames come out whole and in order, however the stream was cut on its way."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.errors import FrameError
from mdstream.venues.framer import Framer, LengthPrefixed, Lines

LOGON = bytes.fromhex("10000600 08000000 02000000 44544300")
"""A DTC ENCODING_REQUEST of 16 bytes, as its documentation shows it."""


def cut(framer: Framer, stream: bytes, places: list[int]) -> tuple[list[bytes], bytes]:
    """The frames of a stream that arrives cut at `places`, and what is left."""
    buffer, frames = bytearray(), list[bytes]()
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    for start, end in pairwise(edges):
        buffer += stream[start:end]
        frames += framer.cut(buffer)
    return frames, bytes(buffer)


PLACES = st.lists(st.integers(0, 10_000), max_size=12)


@given(lines=st.lists(st.binary(max_size=30).filter(lambda line: b"\r" not in line), max_size=20), places=PLACES)
def test_lines_come_out_as_they_were_sent(lines: list[bytes], places: list[int]) -> None:
    """Without their ends, also where the stream was cut within one."""
    stream = b"".join(line + b"\r\n" for line in lines)
    assert cut(Lines(b"\r\n"), stream + b"Q,MS", places) == (lines, b"Q,MS")


@given(bodies=st.lists(st.binary(max_size=30), max_size=20), places=PLACES, inclusive=st.booleans(), big=st.booleans())
def test_length_prefixed_frames_come_out_as_they_were_sent(
    bodies: list[bytes], places: list[int], inclusive: bool, big: bool
) -> None:
    """With their length, whatever its order of bytes, and whether or not it counts itself."""
    framer = LengthPrefixed(2, "big" if big else "little", inclusive)
    frames = [(len(body) + 2 * inclusive).to_bytes(2, framer.order) + body for body in bodies]
    assert cut(framer, b"".join(frames) + b"\x09", places) == (frames, b"\x09")


def test_length_prefixed_frames_are_by_default_those_of_dtc() -> None:
    """u16, little-endian, counting itself."""
    assert cut(LengthPrefixed(), LOGON + LOGON[:5], []) == ([LOGON], LOGON[:5])


def test_a_length_shorter_than_itself_is_refused() -> None:
    """The stream can never be in step again."""
    with pytest.raises(FrameError, match="a frame that says it has 1 bytes: its length alone has 2"):
        LengthPrefixed().cut(bytearray(b"\x01\x00\x00"))
