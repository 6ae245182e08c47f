"""The bars' state on md.state, as records: what is written at a checkpoint and what is read back.

A checkpoint is one record batch: the bars that changed, the symbols' last seq, then the progress, so a log that was
read to its end always ends in a whole checkpoint. The progress holds the input position that all of it is as of, and
the bars that are published after it: whoever takes over publishes them (again), and no revision is given out twice with
different contents.

Keys begin with the input topic, so they are none of an instrument's canonical state, which is on md.state as well:

    TOPIC|SYMBOL             last seq
    TOPIC|SYMBOL|1m|SLOT     one bar; a slot is used again for later bars, so compaction bounds what is kept
    @TOPIC                   progress

`epoch` is as in checkpoint.py: it rises with every owner, and late records of an older one are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from mdstream import events
from mdstream.stream.bars import Bars, Collected
from mdstream.stream.bars_rules import Rules
from mdstream.stream.output import NO_HEADERS, Out
from mdstream.stream.tally import Tally

MS = 1_000_000
LAYOUT: Final = "bars/1"
"""Of the structs in a record: to be changed with the place or meaning of a field. Records of another one are passed
over: the state begins anew."""


class Seen(msgspec.Struct, array_like=True, tag="seen"):
    """A symbol's last seq."""

    symbol: str
    seq: int


class Progress(msgspec.Struct, array_like=True, tag="progress"):
    """How far a partition is. `outbox`: values of the bars that go out once this is written."""

    position: int
    latest_ns: int
    closed_ns: int
    outbox: list[bytes] = []


class _Head(msgspec.Struct, array_like=True):
    """Whose state a record on md.state is: that of bars where `layout` is ours. The canonical one's is a number."""

    layout: int | str
    topic: str
    epoch: int


class _Entry(msgspec.Struct, array_like=True):
    """A record's value; `state` is a Tally, a Seen or a Progress."""

    layout: str
    topic: str
    epoch: int
    state: msgspec.Raw


class Restored(msgspec.Struct):
    """The state of one partition; `progress` is None where there is no checkpoint."""

    epoch: int = 0
    progress: Progress | None = None
    seen: dict[str, int] = msgspec.field(default_factory=dict)
    tallies: dict[tuple[str, str, int], Tally] = msgspec.field(default_factory=dict)

    def bars(self, rules: Rules) -> Bars:
        """The machine as it was at the checkpoint."""
        progress = self.progress or Progress(0, 0, 0)
        bars = Bars(rules, latest_ns=progress.latest_ns, closed_ns=progress.closed_ns)
        for symbol, seq in self.seen.items():
            bars.put_seen(symbol, seq)
        for tally in self.tallies.values():
            bars.put(tally)
        return bars


_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_decode = msgspec.msgpack.Decoder(_Entry).decode
_decode_state = msgspec.msgpack.Decoder(Tally | Seen | Progress).decode


def changes(topic: str, epoch: int, rules: Rules, collected: Collected, now_ms: int) -> Out:
    """The records of what changed, without the progress that completes a checkpoint."""
    out: Out = [
        (f"{topic}|{symbol}".encode(), _value(topic, epoch, _encode(Seen(symbol, seq))), now_ms, NO_HEADERS)
        for symbol, seq in collected.seen.items()
    ]
    for tally, packed in collected.states:
        slot = rules.intervals[rules.levels[tally.interval]].slot(tally.ts_open)
        key = f"{topic}|{tally.symbol}|{tally.interval}|{slot}".encode()
        out.append((key, _value(topic, epoch, packed), now_ms, NO_HEADERS))
    return out


def progress(topic: str, epoch: int, made: Progress, now_ms: int) -> Out:
    """The record that ends a checkpoint."""
    return [(b"@" + topic.encode(), _value(topic, epoch, _encode(made)), now_ms, NO_HEADERS)]


def published(outbox: Iterable[bytes], rules: Rules) -> Out:
    """Bars as records for md.bars, stamped with the bar's end."""
    out: Out = []
    for value in outbox:
        bar = events.decode(value)
        assert isinstance(bar, events.Bar)
        level = rules.levels.get(bar.interval)
        length_ns = 0 if level is None else rules.intervals[level].ns
        out.append((bar.symbol.encode(), value, (bar.ts_open + length_ns) // MS, NO_HEADERS))
    return out


def read(found: dict[str, Restored], records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
    """Take (key, value) pairs of one md.state partition, in log order, into the state of each topic in `found`."""
    for key, value in records:
        entry = None if key is None or value is None else _entry(value)
        restored = None if entry is None else found.get(entry.topic)
        if entry is None or restored is None or entry.epoch < restored.epoch:
            continue
        restored.epoch = entry.epoch
        state = _decode_state(entry.state)
        if isinstance(state, Tally):
            restored.tallies[state.symbol, state.interval, state.ts_open] = state
        elif isinstance(state, Seen):
            restored.seen[state.symbol] = state.seq
        else:
            restored.progress = state


def _entry(value: bytes) -> _Entry | None:
    """What a record holds; None where it is no state of bars, or not of this LAYOUT."""
    try:
        return _decode(value) if _decode_head(value).layout == LAYOUT else None
    except msgspec.DecodeError:
        return None


def _value(topic: str, epoch: int, state: bytes) -> bytes:
    return _encode(_Entry(LAYOUT, topic, epoch, msgspec.Raw(state)))
