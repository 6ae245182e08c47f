"""The canonical state on md.state, as records: what is written at a checkpoint and what is read back.

A checkpoint is one record batch: the instruments that changed, then the input position that all of it is as of, so a
log that was read to its end always ends in a whole checkpoint. Keys are the instruments, and "@" + raw topic for the
position and what belongs to no instrument, so compaction keeps the last of each. `epoch` rises with every owner of the
partition: a record of an older owner that comes after a newer one's was written by a worker that no longer was a
member, and is passed over. So is a record of another LAYOUT: the state begins anew where the group's offset is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from mdstream.stream.output import NO_HEADERS, Out
from mdstream.stream.state import Instrument, LogState

POSITION_MARK = b"@"
LAYOUT: Final = 2
"""Of the structs in state.py: to be raised when a field's place or meaning changes. New fields at their ends need
none."""


class _Entry(msgspec.Struct, array_like=True):
    layout: Literal[2]
    topic: str
    epoch: int
    instrument: Instrument | None = None
    position: int | None = None
    log: LogState | None = None


class Restored(msgspec.Struct):
    """The state of one raw partition; `position` is the next offset to process, None where there is no checkpoint."""

    instruments: dict[str, Instrument] = msgspec.field(default_factory=dict)
    position: int | None = None
    epoch: int = 0
    log: LogState = msgspec.field(default_factory=LogState)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode


def write(
    topic: str,
    epoch: int,
    changed: Iterable[tuple[str, Instrument]],
    position: int,
    log: LogState,
    now_ms: int,
) -> Out:
    """The records of one checkpoint of a partition of `topic`; `position` is the first offset not in it."""
    records: Out = [
        (symbol.encode(), _encode(_Entry(LAYOUT, topic, epoch, instrument)), now_ms, NO_HEADERS)
        for symbol, instrument in changed
    ]
    end = _Entry(LAYOUT, topic, epoch, None, position, log)
    records.append((POSITION_MARK + topic.encode(), _encode(end), now_ms, NO_HEADERS))
    return records


def read(found: dict[str, Restored], records: Iterable[tuple[bytes | None, bytes | None]]) -> int:
    """Take (key, value) pairs of one md.state partition, in log order, into the state of each raw topic in `found`.

    How many of them are not of this LAYOUT, or not of the canonical stream.
    """
    others = 0
    for key, value in records:
        if key is None or value is None:
            continue
        try:
            entry = _decode(value)
        except msgspec.DecodeError:
            others += 1
            continue
        restored = found.get(entry.topic)
        if restored is None or entry.epoch < restored.epoch:
            continue
        restored.epoch = entry.epoch
        if entry.instrument is not None:
            restored.instruments[key.decode()] = entry.instrument
        else:
            restored.position, restored.log = entry.position, entry.log or LogState()
    return others
