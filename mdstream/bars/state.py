"""The bars' state on md.state, as records: what is written at a checkpoint and what is read back.

A checkpoint is one record batch: the symbols' last seq, the bars and memories that changed, then the progress, so a log
read to its end always ends in a complete checkpoint. The progress holds the input position that all of it is as of, and
the bars to publish after it: a worker that takes over publishes them (again), and no revision is ever published with
two contents.

Names, each prefixed with the input topic's:

    |SYMBOL             last seq
    |SYMBOL|1m|SLOT     one bar; later bars reuse a slot, so compaction bounds the topic
    |SYMBOL|#           a stock's memory: its floor, and the rest of the bars around it
    |SYMBOL|#|NUMBER    and one block of it; later ones reuse a number
    (empty)             progress

ledger.py decides whose checkpoints count.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from mdstream import events
from mdstream.bars.bars import Bars, Collected
from mdstream.bars.memory import Block, Floor
from mdstream.bars.rules import Rules
from mdstream.bars.tally import Tally
from mdstream.stream import ledger
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import NO_HEADERS, Out

MS = 1_000_000
LAYOUT: Final = "bars/2"
"""The layout of the structs in a record. Change it with the place or meaning of a field. Records with another layout
are ignored: the state starts empty."""


class Seen(msgspec.Struct, array_like=True, tag="seen"):
    """A symbol's last seq."""

    symbol: str
    seq: int


class Progress(msgspec.Struct, array_like=True, tag="progress"):
    """The progress of a partition. `outbox`: values of the bars to publish once this is written."""

    position: int
    latest_ns: int
    closed_ns: int
    outbox: list[bytes] = []


class Restored(msgspec.Struct):
    """The state of one partition; `progress` is None without a checkpoint."""

    progress: Progress | None = None
    seen: dict[str, int] = msgspec.field(default_factory=dict)
    tallies: dict[tuple[str, str, int], Tally] = msgspec.field(default_factory=dict)
    floors: dict[str, Floor] = msgspec.field(default_factory=dict)
    blocks: dict[str, list[Block]] = msgspec.field(default_factory=dict)

    def bars(self, rules: Rules) -> Bars:
        """The `Bars` as they were at the checkpoint."""
        progress = self.progress or Progress(0, 0, 0)
        bars = Bars(rules, latest_ns=progress.latest_ns, closed_ns=progress.closed_ns)
        for symbol, seq in self.seen.items():
            bars.put_seen(symbol, seq)
        for tally in self.tallies.values():
            bars.put(tally)
        for symbol in self.seen:
            bars.put_memory(symbol, self.floors.get(symbol), self.blocks.get(symbol, []))
        return bars


_encode = msgspec.msgpack.Encoder().encode
_decode_state = msgspec.msgpack.Decoder(Tally | Seen | Block | Floor | Progress).decode


def changes(topic: str, claim: int, rules: Rules, collected: Collected, now_ms: int) -> Out:
    """The records of the changes, without the progress that completes a checkpoint."""
    states = [(f"|{symbol}".encode(), _encode(Seen(symbol, seq))) for symbol, seq in collected.seen.items()]
    for tally, packed in collected.states:
        slot = rules.intervals[rules.levels[tally.interval]].slot(tally.ts_open)
        states.append((f"|{tally.symbol}|{tally.interval}|{slot}".encode(), packed))
    states += [(f"|{symbol}|{name}".encode(), packed) for symbol, name, packed in collected.memories]
    return ledger.records(LAYOUT, topic, claim, states, now_ms)


def progress(topic: str, claim: int, made: Progress, now_ms: int) -> Out:
    """The record that ends a checkpoint."""
    return ledger.records(LAYOUT, topic, claim, [(ledger.END, _encode(made))], now_ms)


def published(outbox: Iterable[bytes], rules: Rules) -> Out:
    """Bars as records for md.bars, with the bar's end as timestamp."""
    out: Out = []
    for value in outbox:
        bar = events.decode(value)
        assert isinstance(bar, events.Bar)
        level = rules.levels.get(bar.interval)
        length_ns = 0 if level is None else rules.intervals[level].ns
        out.append((bar.symbol.encode(), value, (bar.ts_open + length_ns) // MS, NO_HEADERS))
    return out


def read(found: Ledger) -> Restored:
    """The state in a ledger that has read the log to its end."""
    restored = Restored()
    for _, packed in found:
        state = _decode_state(packed)
        if isinstance(state, Tally):
            restored.tallies[state.symbol, state.interval, state.ts_open] = state
        elif isinstance(state, Seen):
            restored.seen[state.symbol] = state.seq
        elif isinstance(state, Floor):
            restored.floors[state.symbol] = state
        elif isinstance(state, Block):
            restored.blocks.setdefault(state.symbol, []).append(state)
        else:
            restored.progress = state
    return restored
