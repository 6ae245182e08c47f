"""The canonical state on md.state, as records: what is written at a checkpoint and what is read back.

A checkpoint is one record batch: the instruments that changed, then the input position that all of it is as of, so a
log that was read to its end always ends in a whole checkpoint. Keys are the instruments, and "@" + raw topic for the
position, so compaction keeps the last of each. `epoch` rises with every owner of the partition: a record of an older
owner that comes after a newer one's was written by a worker that no longer was a member, and is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mdstream.stream.canonical import NO_HEADERS, Instrument, Out

POSITION_MARK = b"@"


class _Entry(msgspec.Struct, array_like=True):
    topic: str
    epoch: int
    instrument: Instrument | None = None
    position: int | None = None


class Restored(msgspec.Struct):
    """The state of one raw partition; `position` is the next offset to process, None where there is no checkpoint."""

    instruments: dict[str, Instrument] = msgspec.field(default_factory=dict)
    position: int | None = None
    epoch: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode


def write(topic: str, epoch: int, changed: Iterable[tuple[str, Instrument]], position: int, now_ms: int) -> Out:
    """The records of one checkpoint of a partition of `topic`; `position` is the first offset not in it."""
    records: Out = [
        (symbol.encode(), _encode(_Entry(topic, epoch, instrument)), now_ms, NO_HEADERS)
        for symbol, instrument in changed
    ]
    records.append((POSITION_MARK + topic.encode(), _encode(_Entry(topic, epoch, None, position)), now_ms, NO_HEADERS))
    return records


def read(found: dict[str, Restored], records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
    """Take (key, value) pairs of one md.state partition, in log order, into the state of each raw topic in `found`."""
    for key, value in records:
        if key is None or value is None:
            continue
        entry = _decode(value)
        restored = found.get(entry.topic)
        if restored is None or entry.epoch < restored.epoch:
            continue
        restored.epoch = entry.epoch
        if entry.instrument is None:
            restored.position = entry.position
        else:
            restored.instruments[key.decode()] = entry.instrument
