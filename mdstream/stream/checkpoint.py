"""The canonical state on md.state, as records: what is written at a checkpoint and what is read back.

A checkpoint is one record batch: the instruments that changed, then the input position that all of it is as of, so a
log that was read to its end always ends in a whole checkpoint. Names are the instruments, and the empty one for the
position and what belongs to no instrument, so compaction keeps the last of each. Whose checkpoints count, ledger.py
says. A state of another LAYOUT is passed over: it begins anew where the group's offset is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from mdstream.stream import ledger
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Out
from mdstream.stream.state import Instrument, LogState

LAYOUT: Final = "canonical/3"
"""Of the structs in state.py: to be changed when a field's place or meaning changes. New fields at their ends need
none."""
_MARK = b"|"


class _End(msgspec.Struct, array_like=True):
    """What ends a checkpoint."""

    position: int
    log: LogState


class Restored(msgspec.Struct):
    """The state of one raw partition; `position` is the next offset to process, None where there is no checkpoint."""

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
    """The records of one checkpoint of a partition of `topic`; `position` is the first offset not in it."""
    states = [(_MARK + symbol.encode(), _encode(instrument)) for symbol, instrument in changed]
    states.append((ledger.END, _encode(_End(position, log))))
    return ledger.records(LAYOUT, topic, claim, states, now_ms)


def opened(topic: str) -> Ledger:
    """A reader of this state that has read nothing yet."""
    return Ledger(topic, LAYOUT)


def read(found: Ledger) -> Restored:
    """The state in a ledger that was read to its end."""
    restored = Restored()
    for name, state in found:
        if name == ledger.END:
            end = _decode_end(state)
            restored.position, restored.log = end.position, end.log
        else:
            restored.instruments[name[len(_MARK) :].decode()] = _decode_instrument(state)
    return restored
