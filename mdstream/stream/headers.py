"""The headers of a raw record: p (provider), t (receive time, ns), k (kind)."""

from __future__ import annotations

import struct

from mdstream.errors import FrameError
from mdstream.stream.output import MS
from mdstream.transport.batch import Record

LAST_NS = 9_000_000_000_000_000_000
"""Times are before the year 2255, so that a `seq`, which starts at a time in us, stays below 2**53."""

_int64 = struct.Struct(">q")


def read_headers(record: Record) -> tuple[bytes, int, bytes]:
    """Provider, receive time in ns and kind of a raw record. Raises FrameError for an invalid time.

    `seq` starts at a receive time: a wrong one would spoil `seq` and the checkpoint for good.
    """
    headers = record.headers
    if len(headers) == 4:
        (n0, provider), (n1, received), (n2, kind), _ = headers
        if not (n0 == "p" and n1 == "t" and n2 == "k"):  # the order in which every ingestor writes them
            provider, received, kind = _find_headers(record)
    else:
        provider, received, kind = _find_headers(record)
    try:
        (recv_ns,) = _int64.unpack(received)
    except (struct.error, TypeError):
        raise FrameError(f"no receive time in ns: header t is {received!r:.60}") from None
    if not 0 <= recv_ns < LAST_NS:
        raise FrameError(f"no receive time in ns: {recv_ns}")
    return provider or b"", recv_ns, kind or b""  # a header's value may be null


def _find_headers(record: Record) -> tuple[bytes, bytes, bytes]:
    """Provider, time and kind in any order; without a time, the record's timestamp."""
    found = dict(record.headers)
    received = found["t"] if "t" in found else _int64.pack(max(-1, min(record.timestamp * MS, LAST_NS)))
    return found.get("p", b""), received, found.get("k", b"")
