"""Is this process stuck? Pure: stepped with observations and the time that each counts for.

    ahead   there is unfinished input: the log's end, or the delivered offset, is beyond the position
    stuck   ahead, and the position does not move

                       ready_s                    exit_s
    position moves ──────┬──────────────────────────┬──────────>
                         │ /ready 503               │ /live 503, then exit

Time counts against a process only while Kafka answers: between two consecutive answers. An unreachable broker proves
nothing about the process, and a restart would not reach it either. Time during which the process was suspended does not
count. A process that holds its input back on purpose (its database is unreachable) is not ready, and never stuck.

Invariants: a position that moves, or has nothing ahead, is never stuck; any other is, once the counted time is exit_s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

from mdstream.records import Partition

K = TypeVar("K", bound=Hashable)
Status = Literal["ok", "starting", "holding", "unreachable", "stuck"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds: until /ready fails; until the process exits (0: never); until the first assignment is overdue."""

    ready_s: float = 10.0
    exit_s: float = 60.0
    start_s: float = 120.0


class PartitionProgress(NamedTuple):
    """The process's progress in a partition: all before `done` is safe, all before `delivered` was delivered to us.

    `epoch` changes when the partition is assigned again: its stalled time then restarts.
    """

    epoch: int
    done: int
    delivered: int


@dataclass(frozen=True)
class State:
    """What a process reports about itself. `settled`: no assignment is under way; `assignments`: how many there have
    been. `holding`: why it waits on purpose."""

    partitions: Mapping[Partition, PartitionProgress] = field(default_factory=dict)
    settled: bool = True
    assignments: int = 0
    holding: str | None = None


@dataclass(frozen=True)
class Verdict:
    """`live`: a restart would not help. `ready`: everything flows. `problems`: why not, for people."""

    status: Status
    live: bool
    ready: bool
    problems: tuple[str, ...] = ()


class Observation(NamedTuple):
    """A position, and how much is ahead of it."""

    position: Hashable
    ahead: int


class StallTimer(Generic[K]):
    """How long each of several positions has not moved with something ahead of it."""

    def __init__(self) -> None:
        self._seen: dict[K, Observation] = {}
        self.stalled_s: dict[K, float] = {}

    def step(self, seen: Mapping[K, Observation], counted_s: float) -> None:
        """Record what was seen, `counted_s` seconds after the last step; keys no longer in it are forgotten."""
        self.stalled_s = {
            key: self.stalled_s[key] + counted_s if self._stood_still(key, observation) else 0.0
            for key, observation in seen.items()
        }
        self._seen = dict(seen)

    def _stood_still(self, key: K, observation: Observation) -> bool:
        before = self._seen.get(key)
        return (
            before is not None and before.position == observation.position and bool(before.ahead and observation.ahead)
        )

    @property
    def worst(self) -> tuple[float, K | None]:
        """The longest stall and its key; (0, None) without any."""
        key = max(self.stalled_s, key=self.stalled_s.__getitem__, default=None)
        return (0.0, None) if key is None else (self.stalled_s[key], key)


class Rule:
    """Judges one process. `reads`: the logs of its partitions are its input, as for a worker."""

    def __init__(self, limits: Limits, *, reads: bool) -> None:
        self.limits = limits
        self._reads = reads
        self._partitions: StallTimer[Partition] = StallTimer()
        self._loop: StallTimer[str] = StallTimer()
        self._start: StallTimer[str] = StallTimer()
        self._quiet: StallTimer[str] = StallTimer()
        self._settled_once = False
        self._positions: Mapping[Partition, PartitionProgress] = {}
        self.ahead: dict[Partition, int] = {}
        """Unfinished records by partition at the last answer; never negative."""

    def pulsed(self, pulses: int, counted_s: float) -> None:
        """Record that the main loop has turned `pulses` times so far."""
        self._loop.step({"loop": Observation(pulses, 1)}, counted_s)

    def answered(self, state: State, ends: Mapping[Partition, int], counted_s: float) -> None:
        """Record Kafka's answer on the log ends of `state`'s partitions, `counted_s` seconds after its last answer.

        An end may be lower than the true one: below what was delivered it is ignored.
        """
        self._positions = state.partitions
        known = {
            tp: max(progress.delivered, ends.get(tp, 0) if self._reads else 0)
            for tp, progress in state.partitions.items()
        }
        self.ahead = {tp: max(0, known[tp] - progress.done) for tp, progress in state.partitions.items()}
        self._partitions.step(
            {
                tp: Observation((progress.epoch, progress.done), 0 if state.holding else self.ahead[tp])
                for tp, progress in state.partitions.items()
            },
            counted_s,
        )
        self._start.step({"start": Observation(state.assignments, not state.settled)}, counted_s)
        self._settled_once |= state.settled
        totals: dict[str, int] = defaultdict(int)
        for tp, end in known.items():
            totals[tp.topic] += end
        self._quiet.step({topic: Observation(total, 1) for topic, total in totals.items()}, counted_s)

    @property
    def stalled_s(self) -> Mapping[Partition, float]:
        """How long each partition has been stuck, at the last answer."""
        return self._partitions.stalled_s

    @property
    def quiet_s(self) -> Mapping[str, float]:
        """How long no record has been added to our partitions of each topic, at the last answer."""
        return self._quiet.stalled_s

    @property
    def frozen_s(self) -> float:
        """Seconds since the main loop last turned."""
        return self._loop.worst[0]

    def verdict(self, state: State, unanswered_s: float) -> Verdict:
        """The verdict on a process in `state`, `unanswered_s` seconds after Kafka's last answer."""
        limits, starting_s, (stalled_s, where) = self.limits, self._start.worst[0], self._partitions.worst
        start_s = min(limits.exit_s, limits.start_s) if self._settled_once else limits.start_s
        due = self.frozen_s >= limits.exit_s or stalled_s >= limits.exit_s or starting_s >= start_s
        live = not (limits.exit_s and due)
        found: list[tuple[Status, str]] = []
        if self.frozen_s >= limits.ready_s:
            found.append(("stuck", f"stuck: the event loop has not turned for {self.frozen_s:.0f} s"))
        if where is not None and stalled_s >= limits.ready_s:
            found.append(("stuck", self._stall(where, stalled_s)))
        if starting_s >= start_s:
            found.append(
                ("stuck", f"stuck: no partitions were assigned for {starting_s:.0f} s, although Kafka answers")
            )
        elif not state.settled:
            found.append(
                ("starting", "starting" + (f": waiting for partitions for {starting_s:.0f} s" if self._reads else ""))
            )
        if unanswered_s >= limits.ready_s:
            text = f"holding: Kafka has not answered for {unanswered_s:.0f} s"
            found.append(("unreachable", text))
        if state.holding is not None:
            found.append(("holding", f"holding: {state.holding}"))
        return Verdict(found[0][0] if found else "ok", live, live and not found, tuple(text for _, text in found))

    def _stall(self, where: Partition, stalled_s: float) -> str:
        others = sum(s >= self.limits.ready_s for s in self.stalled_s.values()) - 1
        kind = f"is at offset {self._positions[where].done}" if self._reads else "does not move"
        return (
            f"stuck: {where.topic}[{where.number}] {kind} with {self.ahead[where]} records waiting, "
            f"for {stalled_s:.0f} s" + (f"; {others} more are stuck too" if others else "")
        )
