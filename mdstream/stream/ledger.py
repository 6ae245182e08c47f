"""Who owns the state of a partition, and what the state is: md.state decides, by the order of its records.

    owner A   claim@100  checkpoint  checkpoint ............... checkpoint (refused: B claimed before it)
    owner B                                      claim@200 ...................... checkpoint

A worker that takes a partition over writes a claim. Its identity is its offset, which the broker gives out once, in
order. Every other record names the claim that it was written under, and counts as long as no later claim stands before
it. So all readers agree on what the state is, whoever wrote and whenever it arrives:

- of two workers that take over at the same time the one whose claim comes later is the owner;
- what is read is of one line of owners, each of which has read all that the one before it could write;
- an owner knows from the offset of its own checkpoint whether it counts: only a record of somebody else may stand
  between it and the last one, and then it looks (mdstream/roles/state_log.py).

Keys are the same under every claim, so that compaction bounds the topic. A record that was refused may therefore take
the place of one that counts. Its key is `shadowed`: the next owner writes what counts again with its first checkpoint.
Until then the topic's compaction lag keeps both (topics.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from mdstream.stream.output import NO_HEADERS, Out

UNCLAIMED = -1
END = b""
"""The name of the record that ends a checkpoint. One record batch holds all of it: it is there as a whole or not at
all."""
_LAYOUT = "claim/1"
_CLAIM_MARK = b"@"


class _Entry(msgspec.Struct, array_like=True):
    """A record's value. `claim`: the offset of the claim that it was written under; of a claim itself UNCLAIMED."""

    layout: str
    topic: str
    claim: int
    state: msgspec.Raw = msgspec.Raw(b"\xc0")


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode
_NOTHING = _encode(None)


def claim_of(topic: str, now_ms: int) -> Out:
    """The record that claims a partition of `topic`; its offset is the claim."""
    return [(topic.encode() + _CLAIM_MARK, _encode(_Entry(_LAYOUT, topic, UNCLAIMED)), now_ms, NO_HEADERS)]


def records(layout: str, topic: str, claim: int, states: Iterable[tuple[bytes, bytes]], now_ms: int) -> Out:
    """Records of packed states by name, written under a claim. A name is unique within the topic."""
    prefix = topic.encode()
    return [
        (prefix + name, _encode(_Entry(layout, topic, claim, msgspec.Raw(state))), now_ms, NO_HEADERS)
        for name, state in states
    ]


class Ledger:
    """The state of one partition of `topic`, as a reader of the log has it so far: packed, by name.

    `claim` is the last owner's. States of another `layout` than ours are passed over, their writers' claims are not.
    """

    def __init__(self, topic: str, layout: str) -> None:
        self.topic, self.layout = topic, layout
        self.claim = UNCLAIMED
        self.states: dict[bytes, bytes] = {}
        self.shadowed: set[bytes] = set()
        """Names whose last record does not count: compaction may take the one that does."""
        self._prefix = len(topic.encode())

    def take(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Take in a record of the log, in order. What is none of this topic's, or cannot be read, changes nothing."""
        entry = _entry(value)
        if key is None or entry is None or entry.topic != self.topic:
            return
        name = key[self._prefix :]
        if entry.layout == _LAYOUT:
            self.claim = offset
        elif entry.claim < self.claim:
            self.shadowed.add(name)
        else:
            self.claim = entry.claim
            self.shadowed.discard(name)
            self.states[name] = bytes(entry.state) if entry.layout == self.layout else _NOTHING

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """The states that count, by name."""
        return ((name, state) for name, state in self.states.items() if state != _NOTHING)

    def repairs(self, claim: int, now_ms: int) -> Out:
        """What counts, for each shadowed name, to be written with the next checkpoint; nothing, where nothing does."""
        states = ((name, self.states.get(name, _NOTHING)) for name in sorted(self.shadowed))
        return records(self.layout, self.topic, claim, states, now_ms)


class Tenure:
    """What a worker knows of one partition of md.state: its own claims in it, and whether others have written since.

    Its own records follow one another as long as nobody else writes. What stands between two of them is to be looked
    at before the second one is taken to count.
    """

    def __init__(self) -> None:
        self._claims: dict[str, int] = {}
        self._contested: set[str] = set()
        self._seen: int | None = None  # whose the records before this offset are is known

    def claimed(self, topic: str, claim: int) -> None:
        """The partition was claimed for a topic: what was written before is the business of its ledger."""
        self._claims[topic] = claim
        self._contested.discard(topic)

    def let_go(self, topic: str) -> None:
        """Hold the topic no more."""
        self._claims.pop(topic, None)
        if not self._claims:
            self._seen = None

    def wrote(self, first: int, count: int) -> range:
        """So many records of ours stand from offset `first` on; the offsets before them to be looked at now."""
        unseen = range(first if self._seen is None else self._seen, first)
        self._seen = first + count
        return unseen

    def look(self, offset: int, value: bytes | None) -> None:
        """One of the records that stand between ours."""
        entry = _entry(value)
        if entry is not None and entry.topic in self._claims:
            claim = offset if entry.layout == _LAYOUT else entry.claim
            if claim != self._claims[entry.topic]:
                self._contested.add(entry.topic)

    def owns(self, topic: str, claim: int) -> bool:
        """Whether all that was written for the topic since `claim` is known to be ours."""
        return self._claims.get(topic) == claim and topic not in self._contested


def _entry(value: bytes | None) -> _Entry | None:
    """What a record holds; None where it is none of ours: a tombstone, or of a layout before there were claims."""
    if value is None:
        return None
    try:
        return _decode(value)
    except msgspec.DecodeError:
        return None
