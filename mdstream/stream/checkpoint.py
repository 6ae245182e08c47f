"""The canonical state on md.state, as records: what is written at a checkpoint and what is read back.

A checkpoint is one record batch: the instruments that changed, then the input position they are all as of, so a log
read to its end always ends in a complete checkpoint. A record's name is the instrument, or empty for the position and
what belongs to no instrument, so compaction keeps the last of each. ledger.py decides whose checkpoints count. A state
with another LAYOUT is ignored: processing starts with an empty state at the group's offset.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from mdstream.stream import ledger
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Out
from mdstream.stream.state import Instrument, LogState

LAYOUT: Final = "canonical/4"
"""The layout of the structs in state.py. Change it when a field's place or meaning changes; fields added at the end
need no change."""
_MARK = b"|"


class _End(msgspec.Struct, array_like=True):
    """The end of a checkpoint."""

    position: int
    log: LogState


class Restored(msgspec.Struct):
    """The state of one raw partition; `position` is the next offset to process, None without a checkpoint."""

    instruments: dict[str, Instrument] = msgspec.field(default_factory=dict)
    position: int | None = None
    log: LogState = msgspec.field(default_factory=LogState)


_encode = msgspec.msgpack.Encoder().encode
_decode_instrument = msgspec.msgpack.Decoder(Instrument).decode
_decode_end = msgspec.msgpack.Decoder(_End).decode


def write(
    topic: str,
    claim: int,
    changed: Iterable[tuple[str, Instrument]],
    position: int,
    log: LogState,
    now_ms: int,
) -> Out:
    """The records of one checkpoint of a partition of `topic`; `position` is the first offset not included."""
    states = [(_MARK + symbol.encode(), _encode(instrument)) for symbol, instrument in changed]
    states.append((ledger.END, _encode(_End(position, log))))
    return ledger.records(LAYOUT, topic, claim, states, now_ms)


def read(found: Ledger) -> Restored:
    """The state in a ledger that has read the log to its end."""
    restored = Restored()
    for name, state in found:
        if name == ledger.END:
            end = _decode_end(state)
            restored.position, restored.log = end.position, end.log
        else:
            restored.instruments[name[len(_MARK) :].decode()] = _decode_instrument(state)
    return restored
