"""When faults begin and end. Pure: time is an argument, randomness comes from a seed.

    waiting ──its time──> active ──its length is over──> waiting (if it recurs) or ended
       └───────────────────────┴──ended on request────> ended

An instant fault goes from waiting to waiting or ended. Each beginning is a separate occurrence.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, NamedTuple

import msgspec

from mdstream.errors import SettingsError
from mdstream.simulator.faults.kinds import AT_ONCE, Spec
from mdstream.simulator.market import SECOND_NS

MAX_LIVE = 100
MAX_ENDED = 100
"""Ended faults that are still listed."""
MAX_SPANS = 100


@dataclass(eq=False)
class Fault:
    """One fault, from its request on. `next_ns`: when its state changes by itself, None: never."""

    fault_id: str
    spec: Spec
    rng: Random
    next_ns: int | None
    state: Literal["waiting", "active", "ended"] = "waiting"
    occurrences: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """What it has affected so far: frames, trades, connections, ..."""
    spans: deque[list[int | None]] = field(default_factory=lambda: deque(maxlen=MAX_SPANS))
    """Beginning and end of its last occurrences, in ns since 1970."""

    def describe(self) -> dict[str, Any]:
        """The fault as the control endpoint shows it."""
        spec = self.spec
        return {
            "id": self.fault_id,
            "venue": spec.venue,
            "kind": spec.kind,
            "state": self.state,
            "symbols": None if spec.symbols is None else sorted(spec.symbols),
            "parameters": msgspec.to_builtins(spec.parameters),
            "at_s": spec.at_s,
            "for_s": spec.for_s,
            "every_s": spec.every_s,
            "occurrences": self.occurrences,
            "spans": [list(span) for span in self.spans],
            "counts": dict(self.counts),
        }


class Change(NamedTuple):
    """A fault began, or ended; an instant one only begins."""

    fault: Fault
    began: bool


class Faults:
    """All faults of a simulation."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._faults: dict[str, Fault] = {}
        self._made = 0
        self._next_ns: int | None = None

    def add(self, spec: Spec, now_ns: int) -> Fault:
        """A new fault that waits for its time. Raises SettingsError if there are too many."""
        if sum(fault.state != "ended" for fault in self._faults.values()) >= MAX_LIVE:
            raise SettingsError(f"{MAX_LIVE} faults are waiting or active, which is the limit: end one first")
        self._made += 1
        seed = self._seed if spec.seed is None else spec.seed
        rng = Random(f"{seed}:{spec.venue}:{spec.kind}")
        wait_s = spec.at_s
        if wait_s is None:
            wait_s = 0.0 if spec.every_s is None else rng.expovariate(1 / spec.every_s)
        fault = Fault(f"f{self._made}", spec, rng, now_ns + int(wait_s * SECOND_NS))
        self._faults[fault.fault_id] = fault
        self._set_next_ns()
        return fault

    def get(self, fault_id: str) -> Fault | None:
        """The fault of an id, while it is listed."""
        return self._faults.get(fault_id)

    def all(self) -> list[Fault]:
        """The waiting and active faults and the last ended ones, in order of request."""
        return list(self._faults.values())

    def end(self, fault: Fault, now_ns: int) -> Change | None:
        """End it for good. Returns the change if it was active."""
        was_active = fault.state == "active"
        if was_active:
            fault.spans[-1][1] = now_ns
        fault.state, fault.next_ns = "ended", None
        self._forget()
        self._set_next_ns()
        return Change(fault, False) if was_active else None

    def due(self, now_ns: int) -> Iterator[Change]:
        """What begins and ends now. A fault that begins late keeps its full length."""
        if self._next_ns is None or now_ns < self._next_ns:
            return
        for fault in list(self._faults.values()):
            if fault.next_ns is not None and fault.next_ns <= now_ns:
                yield self._step(fault, now_ns)
        self._forget()
        self._set_next_ns()

    def _step(self, fault: Fault, now_ns: int) -> Change:
        if fault.state == "active":
            fault.spans[-1][1] = now_ns
            self._end_occurrence(fault, now_ns)
            return Change(fault, False)
        fault.occurrences += 1
        if fault.spec.kind in AT_ONCE:
            fault.spans.append([now_ns, now_ns])
            self._end_occurrence(fault, now_ns)
        else:
            fault.spans.append([now_ns, None])
            fault.state = "active"
            fault.next_ns = None if fault.spec.for_s is None else now_ns + int(fault.spec.for_s * SECOND_NS)
        return Change(fault, True)

    def _end_occurrence(self, fault: Fault, now_ns: int) -> None:
        """An occurrence is over: wait for the next one, if any."""
        if fault.spec.every_s is None:
            fault.state, fault.next_ns = "ended", None
        else:
            pause_ns = max(1, int(fault.rng.expovariate(1 / fault.spec.every_s) * SECOND_NS))
            fault.state, fault.next_ns = "waiting", now_ns + pause_ns

    def _set_next_ns(self) -> None:
        self._next_ns = min((f.next_ns for f in self._faults.values() if f.next_ns is not None), default=None)

    def _forget(self) -> None:
        ended = [fault_id for fault_id, fault in self._faults.items() if fault.state == "ended"]
        for fault_id in ended[: max(0, len(ended) - MAX_ENDED)]:
            del self._faults[fault_id]
