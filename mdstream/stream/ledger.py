"""Who owns the state of a partition, and what the state is: md.state decides, by the order of its records.

    owner A   claim@100  checkpoint  checkpoint ............... checkpoint (refused: B claimed before it)
    owner B                                      claim@200 ...................... checkpoint

A worker that takes over a partition writes a claim. The claim's identity is its offset, which the broker assigns once,
in order. Every other record names the claim it was written under, and counts if no later claim precedes it. So all
readers agree on the state, whoever wrote and whenever a record arrives:

- if two workers take over at the same time, the one with the later claim is the owner;
- the state comes from a single sequence of owners, each of which has read all that its predecessor could write;
- an owner learns from the offset of its checkpoint whether it counts: if offsets between it and the owner's last record
  belong to others, it reads those records (mdstream/roles/state_log.py).

Keys are the same under every claim, so that compaction bounds the topic. A refused record may therefore replace one
that counts. Its key is `shadowed`: the next owner rewrites the valid value with its first checkpoint. Until then the
topic's compaction lag keeps both (topics.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from mdstream.stream.output import NO_HEADERS, Out

UNCLAIMED = -1
END = b""
"""The name of the record that ends a checkpoint. A checkpoint is one record batch: it is complete or absent."""
_LAYOUT = "claim/1"
_CLAIM_MARK = b"@"


class _Entry(msgspec.Struct, array_like=True):
    """A record's value. `claim`: the offset of the claim it was written under; UNCLAIMED in a claim itself."""

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
    """Records of packed states by name, under a claim. A name is unique within the topic."""
    prefix = topic.encode()
    return [
        (prefix + name, _encode(_Entry(layout, topic, claim, msgspec.Raw(state))), now_ms, NO_HEADERS)
        for name, state in states
    ]


class Ledger:
    """The state of one partition of `topic`, as read from the log so far: packed, by name.

    `claim` is the last owner's. States with another `layout` than ours are ignored, but their writers' claims count.
    """

    def __init__(self, topic: str, layout: str) -> None:
        self.topic, self.layout = topic, layout
        self.claim = UNCLAIMED
        self.states: dict[bytes, bytes] = {}
        self.shadowed: set[bytes] = set()
        """Names whose last record does not count: compaction may delete the one that does."""
        self._prefix = len(topic.encode())

    def take(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Read the next record of the log. Records of other topics, and unreadable ones, change nothing."""
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
        """The valid state of each shadowed name (nil if there is none), to be written with the next checkpoint."""
        states = ((name, self.states.get(name, _NOTHING)) for name in sorted(self.shadowed))
        return records(self.layout, self.topic, claim, states, now_ms)


class Tenure:
    """What a worker knows of one partition of md.state: its own claims in it, and whether others have written since.

    Its own records have consecutive offsets as long as nobody else writes. Records between two of them have to be
    checked before the second one counts.
    """

    def __init__(self) -> None:
        self._claims: dict[str, int] = {}
        self._contested: set[str] = set()
        self._seen: int | None = None  # the writers of all records before this offset are known

    def claimed(self, topic: str, claim: int) -> None:
        """The partition was claimed for a topic: the ledger covers everything written before."""
        self._claims[topic] = claim
        self._contested.discard(topic)

    def give_up(self, topic: str) -> None:
        """Give up the topic."""
        self._claims.pop(topic, None)
        if not self._claims:
            self._seen = None

    def wrote(self, first: int, count: int) -> range:
        """We wrote `count` records from offset `first` on; the offsets before them that have to be checked now."""
        unseen = range(first if self._seen is None else self._seen, first)
        self._seen = first + count
        return unseen

    def check(self, offset: int, value: bytes | None) -> None:
        """Check a record that lies between ours."""
        entry = _entry(value)
        if entry is not None and entry.topic in self._claims:
            claim = offset if entry.layout == _LAYOUT else entry.claim
            if claim != self._claims[entry.topic]:
                self._contested.add(entry.topic)

    def owns(self, topic: str, claim: int) -> bool:
        """Whether everything written for the topic since `claim` is known to be ours."""
        return self._claims.get(topic) == claim and topic not in self._contested


def _entry(value: bytes | None) -> _Entry | None:
    """A record's entry; None for others: a tombstone, or a layout from before there were claims."""
    if value is None:
        return None
    try:
        return _decode(value)
    except msgspec.DecodeError:
        return None
