"""Frames that are JSON arrays, whose elements concern several instruments. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import msgspec

from mdstream.venues.feed import OTHER, UNREADABLE, Route

_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


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
