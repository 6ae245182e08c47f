"""Frames that are JSON arrays, whose elements concern several instruments. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

import msgspec

from mdstream.errors import FrameError
from mdstream.venues.feed import MAX_HEAD_BYTES, OTHER, UNREADABLE, Route

T = TypeVar("T")

_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


def head(names: bytes, characters: bytes) -> re.Pattern[bytes]:
    """The head of an array: `names` matches the first fields of its first element up to the name of the one with the
    symbol, which consists of `characters`."""
    return re.compile(rb'\s*\[\s*\{\s*%b\s*:\s*"(?P<symbol>%b{1,30})"' % (names, characters))


def start(frame: bytes, first: int, mark: bytes) -> bytes:
    """The first bytes of an array, and its symbol after `mark`; b"" if there is none near. What is between them, such
    as a trade's id, is left out: so all frames of a channel and symbol begin alike, and are matched once."""
    begin = frame.find(mark, first, MAX_HEAD_BYTES)
    end = frame.find(b'"', begin + len(mark), MAX_HEAD_BYTES) + 1
    return frame[:first] + frame[begin:end] if 0 < begin < end else b""


def first(elements: Sequence[T], symbol_of: Callable[[T], str]) -> T:
    """The first element of a part: the only one, or one of an instrument like the others. Raises FrameError."""
    if len(elements) != 1 and (len(set(map(symbol_of, elements))) != 1 or not symbol_of(elements[0])):
        raise FrameError(f"{len(elements)} messages, where one was expected")
    return elements[0]


def of_one(elements: Sequence[T], symbol_of: Callable[[T], str]) -> Sequence[T]:
    """The elements of a frame, which is routed by the first. Raises FrameError if they are not of one instrument."""
    if len(elements) > 1 and len(set(map(symbol_of, elements))) > 1:
        raise FrameError("a frame of several instruments")
    return elements


def split(frame: bytes, route: Callable[[bytes], Route]) -> Sequence[bytes]:
    """The parts of an array, each an array: consecutive elements of one route, and any other element by itself.

    What is no array, or needs no splitting, is returned whole. An element is routed as an array of its own.
    """
    try:
        elements = _elements(frame)
    except (msgspec.MsgspecError, *UNREADABLE):
        return (frame,)
    if len(elements) < 2:
        return (frame,)
    alone = [b"[%b]" % element for element in elements]
    parts: list[bytes] = []
    for found, same in groupby(alone, route):
        if found.kind is OTHER:
            parts += same
        else:
            parts.append(b"[%b]" % b",".join([part[1:-1] for part in same]))
    return parts if len(parts) > 1 else (frame,)
