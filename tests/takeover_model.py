"""Two or three workers and one partition, in small: every step that another worker may come between is a `yield`.

    input log ─ step ─> output log                 numbered: what canonical trades are
        └── sums ─ checkpoint, then ─> bars        revised: what bars are, closed by a clock that is in no log

`owner` is the member that the group last gave the partition to. A worker may hear of that late, or be stopped between
any two steps and go on later. `Claims` is the protocol of mdstream.stream.ledger. `Epochs` is the one before it:
it shows that this model finds what was wrong there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mdstream.stream import ledger
from mdstream.stream.ledger import END, Ledger, Tenure
from mdstream.stream.output import Out

Steps = Generator[None, None, None]
TOPIC, LAYOUT = "md.raw.crypto", "test/1"
INPUT = "ABAACBABCAABCBAAB"
"""The symbol of each input record."""

_pack, _unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


@dataclass
class State:
    """`numbers`: the next number of each symbol. `sums`, `revisions`: of its bar. `outbox`: bars to publish."""

    position: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    sums: dict[str, int] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    outbox: list[tuple[str, int, int]] = field(default_factory=list)

    def step(self) -> tuple[str, int, int]:
        """Take the next record in: its symbol, its number, and which record it is."""
        at, symbol = self.position, INPUT[self.position]
        number = self.numbers.get(symbol, 100 * at)  # as receive times do, it jumps where the state was lost
        self.numbers[symbol] = number + 1
        self.sums[symbol] = self.sums.get(symbol, 0) + 1
        self.position += 1
        return symbol, number, at

    def close(self, changed: Iterator[str]) -> None:
        for symbol in changed:
            self.revisions[symbol] = self.revisions.get(symbol, -1) + 1
            self.outbox.append((symbol, self.revisions[symbol], self.sums[symbol]))

    def packed(self, changed: set[str]) -> list[tuple[bytes, bytes]]:
        """A checkpoint: what changed, then the end."""
        states = [
            (symbol.encode(), _pack([self.numbers[symbol], self.sums[symbol], self.revisions.get(symbol, -1)]))
            for symbol in sorted(changed)
        ]
        return [*states, (END, _pack([self.position, self.outbox]))]

    @staticmethod
    def unpacked(states: dict[bytes, bytes]) -> State:
        state = State()
        for name, packed in states.items():
            made = _unpack(packed)
            if name == END:
                state.position, state.outbox = made[0], [tuple(bar) for bar in made[1]]
            else:
                symbol = name.decode()
                state.numbers[symbol], state.sums[symbol], state.revisions[symbol] = made
        return state


@dataclass
class World:
    """What outlives every worker."""

    log: Out = field(default_factory=list)
    events: list[tuple[str, int, int]] = field(default_factory=list)
    bars: list[tuple[str, int, int]] = field(default_factory=list)
    owner: int = -1

    def append(self, records: Out) -> int:
        """Write a batch; the offset of its first record."""
        self.log += records
        return len(self.log) - len(records)

    def faults(self) -> list[str]:
        """What must never be, whatever happened."""
        contents: dict[tuple[str, int], set[int]] = {}
        numbers: dict[int, set[int]] = {}
        for symbol, number, at in self.events:
            contents.setdefault((symbol, number), set()).add(at)
            numbers.setdefault(at, set()).add(number)
        revisions: dict[tuple[str, int], set[int]] = {}
        for symbol, revision, total in self.bars:
            revisions.setdefault((symbol, revision), set()).add(total)
        return [
            *(f"{k} names the records {v}" for k, v in contents.items() if len(v) > 1),
            *(f"record {k} has the numbers {v}" for k, v in numbers.items() if len(v) > 1),
            *(f"the bar {k} has the contents {v}" for k, v in revisions.items() if len(v) > 1),
        ]

    def lacks(self) -> list[str]:
        """What has to be once a worker went through to the end."""
        last = {symbol: max((r, total) for s, r, total in self.bars if s == symbol)[1] for symbol, _, _ in self.bars}
        found = {at for _, _, at in self.events}
        return [
            *(f"record {at} is missing" for at in range(len(INPUT)) if at not in found),
            *(f"the bar of {s} has {last.get(s)}" for s, n in Counter(INPUT).items() if last.get(s) != n),
        ]


class Claims:
    """A worker that owns what it can prove to own: the order of mdstream/roles/state_log.py and roles/bars.py."""

    def __init__(self, world: World, me: int) -> None:
        self.world, self.me = world, me
        self.tenure = Tenure()

    def take_over(self) -> Steps:
        """One assignment, from the claim on until it is lost."""
        world, found = self.world, Ledger(TOPIC, LAYOUT)
        read = len(world.log)
        self._read(found, range(read))
        yield
        claim = world.append(ledger.claim_of(TOPIC, 0))
        yield
        self._check(self.tenure.wrote(claim, 1))
        self.tenure.claimed(TOPIC, claim)
        self._read(found, range(read, claim + 1))
        yield
        state = State.unpacked(dict(found))
        if not (yield from self._write(claim, [*found.repairs(claim, 0), *self._records(claim, state, set())])):
            return
        yield
        world.bars += state.outbox
        yield from self._process(claim, state)

    def _process(self, claim: int, state: State) -> Steps:
        world = self.world
        while state.position < len(INPUT):
            changed = set()
            for _ in range(3):
                if state.position < len(INPUT):
                    event = state.step()
                    yield
                    world.events.append(event)
                    changed.add(event[0])
            yield
            state.outbox.clear()
            state.close(iter(sorted(changed)))
            if not (yield from self._write(claim, self._records(claim, state, changed))):
                return
            yield
            world.bars += state.outbox

    def _write(self, claim: int, records: Out) -> Generator[None, None, bool]:
        if not self.tenure.owns(TOPIC, claim):
            return False
        yield
        first = self.world.append(records)
        unseen = self.tenure.wrote(first, len(records))
        yield
        self._check(unseen)
        return self.tenure.owns(TOPIC, claim)

    @staticmethod
    def _records(claim: int, state: State, changed: set[str]) -> Out:
        return ledger.records(LAYOUT, TOPIC, claim, state.packed(changed), 0)

    def _read(self, found: Ledger, offsets: range) -> None:
        for offset in offsets:
            found.take(offset, *self.world.log[offset][:2])

    def _check(self, offsets: range) -> None:
        for offset in offsets:
            self.tenure.check(offset, self.world.log[offset][1])


class Epochs:
    """A worker whose epoch is one more than the highest that it saw, and who asks the group before it writes."""

    def __init__(self, world: World, me: int) -> None:
        self.world, self.me = world, me

    def take_over(self) -> Steps:
        epoch, states = self._restored()
        epoch += 1
        yield
        if END in states:
            self.world.append([(END, _pack([epoch, states[END]]), 0, [])])
        yield
        state = State.unpacked(states)
        self.world.bars += state.outbox
        yield from self._process(epoch, state)

    def _restored(self) -> tuple[int, dict[bytes, bytes]]:
        epoch, states = 0, {}
        for name, value, _, _ in self.world.log:
            at, packed = _unpack(value or b"")
            if at >= epoch:
                epoch, states[name or b""] = at, packed
        return epoch, states

    def _process(self, epoch: int, state: State) -> Steps:
        world = self.world
        while state.position < len(INPUT):
            changed = set()
            for _ in range(3):
                if state.position < len(INPUT):
                    event = state.step()
                    yield
                    world.events.append(event)
                    changed.add(event[0])
            yield
            if world.owner != self.me:
                return
            yield
            state.outbox.clear()
            state.close(iter(sorted(changed)))
            world.append([(name, _pack([epoch, packed]), 0, []) for name, packed in state.packed(changed)])
            yield
            world.bars += state.outbox


Plan = list[tuple[str, int]]
"""What happens, in order: (assign, worker), (step, tenure), (crash, worker)."""


def run(plan: Plan, protocol: Any, *, workers: int = 3) -> World:
    """Follow a plan, then let one worker take over and go through to the end undisturbed."""
    world = World()
    members = [protocol(world, n) for n in range(workers)]
    going: list[tuple[int, Steps]] = []
    for what, n in plan:
        if what == "assign":
            world.owner = n % workers
            going.append((world.owner, members[world.owner].take_over()))
        elif what == "step" and going:
            next(going[n % len(going)][1], None)
        elif what == "crash":
            going = [each for each in going if each[0] != n % workers]
            members[n % workers] = protocol(world, n % workers)
    world.owner = workers
    for _ in protocol(world, workers).take_over():
        pass
    return world
