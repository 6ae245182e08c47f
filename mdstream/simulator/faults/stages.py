"""What each fault does to frames. Pure: time is an argument, randomness comes from a seed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from hashlib import blake2b
from random import Random
from typing import cast

from mdstream.simulator.faults import kinds
from mdstream.simulator.faults.corrupt import corrupt
from mdstream.simulator.faults.delivery import Frame, Stage

MS = 1_000_000
MAX_HELD = 200_000
"""Most frames that a stage holds: about 100 MB."""
DEFAULT_SHARE_DROPPED = 0.01


class DropStage(Stage):
    """The choice is made from the fills' ids, so that all forms of a trade are dropped or kept together."""

    def __init__(
        self,
        spec: kinds.Drop,
        symbols: frozenset[str] | None,
        counts: Counter[str],
        *,
        seed: str,
        lose: Callable[[Frame], None],
    ) -> None:
        super().__init__(symbols, counts)
        self._share = DEFAULT_SHARE_DROPPED if spec.share is None and spec.run is None else spec.share
        self._run, self._seed = spec.run or 1, seed
        self._lose = lose if spec.unrecoverable else None
        self._runs: dict[str, range] = {}
        """Without a share: the ids that are dropped, by symbol."""

    def handle(self, frame: Frame, now_ns: int) -> Iterable[Frame]:  # noqa: ARG002
        if not frame.last_id or not self._drops(frame):
            return (frame,)
        self.touched(frame)
        if self._lose is not None:
            self._lose(frame)
        return ()

    def _drops(self, frame: Frame) -> bool:
        if self._share is None:
            run = self._runs.setdefault(frame.symbol, range(frame.first_id, frame.first_id + self._run))
            return frame.first_id in run
        key = f"{self._seed}:{frame.symbol}:{frame.last_id // self._run}".encode()
        return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") < self._share * 2**64


class MalformedStage(Stage):
    def __init__(
        self, spec: kinds.Malformed, symbols: frozenset[str] | None, counts: Counter[str], *, rng: Random
    ) -> None:
        super().__init__(symbols, counts)
        self._spec, self._rng = spec, rng

    def handle(self, frame: Frame, now_ns: int) -> Iterable[Frame]:  # noqa: ARG002
        if frame.corrupt or isinstance(frame.payload, bytes) or self._rng.random() >= self._spec.share:
            return (frame,)
        self.touched(frame)
        payload = corrupt(frame.payload, self._spec.how, self._rng)
        junk = frame._replace(payload=payload, first_id=0, last_id=0, corrupt=True)
        return (junk,) if self._spec.replace else (frame, junk)


class DuplicateStage(Stage):
    def __init__(
        self, spec: kinds.Duplicate, symbols: frozenset[str] | None, counts: Counter[str], *, rng: Random
    ) -> None:
        super().__init__(symbols, counts)
        self._share, self._late_ns, self._rng = spec.share, int(spec.late_ms * MS), rng
        self._copies: deque[tuple[int, Frame]] = deque(maxlen=MAX_HELD)

    def handle(self, frame: Frame, now_ns: int) -> Iterable[Frame]:
        if self._rng.random() >= self._share:
            return (frame,)
        self.touched(frame)
        if not self._late_ns:
            return (frame, frame)
        self._copies.append((now_ns + self._late_ns, frame))
        return (frame,)

    def due(self, now_ns: int) -> Iterable[Frame]:
        return _until(self._copies, now_ns)

    def end(self) -> Iterable[Frame]:
        return _all(self._copies)


class ReorderStage(Stage):
    def __init__(
        self, spec: kinds.Reorder, symbols: frozenset[str] | None, counts: Counter[str], *, rng: Random
    ) -> None:
        super().__init__(symbols, counts)
        self._window, self._longest_ns, self._rng = spec.window, int(spec.ms * MS), rng
        self._held: list[Frame] = []
        self._since_ns = 0

    def handle(self, frame: Frame, now_ns: int) -> Iterable[Frame]:
        if not self._held:
            self._since_ns = now_ns
        self.touched(frame)
        self._held.append(frame)
        return self.end() if len(self._held) >= self._window else ()

    def due(self, now_ns: int) -> Iterable[Frame]:
        return self.end() if self._held and now_ns - self._since_ns >= self._longest_ns else ()

    def end(self) -> Iterable[Frame]:
        shuffled, self._held = self._held, []
        self._rng.shuffle(shuffled)
        return shuffled


class DelayStage(Stage):
    """Frames beyond MAX_HELD push the oldest ones out early, which is counted."""

    def __init__(self, spec: kinds.Delay, symbols: frozenset[str] | None, counts: Counter[str]) -> None:
        super().__init__(symbols, counts)
        self._late_ns = int(spec.ms * MS)
        self._held: deque[tuple[int, Frame]] = deque()

    def handle(self, frame: Frame, now_ns: int) -> Iterable[Frame]:
        self.touched(frame)
        self._held.append((now_ns + self._late_ns, frame))
        if len(self._held) <= MAX_HELD:
            return ()
        self._counts["early"] += 1
        return (self._held.popleft()[1],)

    def due(self, now_ns: int) -> Iterable[Frame]:
        return _until(self._held, now_ns)

    def end(self) -> Iterable[Frame]:
        return _all(self._held)


class StallStage(Stage):
    """With `replay`, frames beyond MAX_HELD are never sent, which is counted; their trades stay in REST."""

    def __init__(self, spec: kinds.Stall, symbols: frozenset[str] | None, counts: Counter[str]) -> None:
        super().__init__(symbols, counts)
        self._replay = spec.replay
        self._held: list[Frame] = []

    def handle(self, frame: Frame, now_ns: int) -> Iterable[Frame]:  # noqa: ARG002
        self.touched(frame)
        if self._replay and len(self._held) < MAX_HELD:
            self._held.append(frame)
        elif self._replay:
            self._counts["lost"] += 1
        return ()

    def end(self) -> Iterable[Frame]:
        held, self._held = self._held, []
        return held


def stage(spec: kinds.Spec, counts: Counter[str], *, seed: str, lose: Callable[[Frame], None]) -> Stage:
    """The stage of a fault whose kind is one of ORDER. `lose` is called for each frame whose trades are to be lost."""
    parameters, symbols, rng = spec.parameters, spec.symbols, Random(seed)
    match parameters:
        case kinds.Drop():
            return DropStage(parameters, symbols, counts, seed=seed, lose=lose)
        case kinds.Malformed():
            return MalformedStage(parameters, symbols, counts, rng=rng)
        case kinds.Duplicate():
            return DuplicateStage(parameters, symbols, counts, rng=rng)
        case kinds.Reorder():
            return ReorderStage(parameters, symbols, counts, rng=rng)
        case kinds.Delay():
            return DelayStage(parameters, symbols, counts)
        case _:
            return StallStage(cast(kinds.Stall, parameters), symbols, counts)


def _until(held: deque[tuple[int, Frame]], now_ns: int) -> list[Frame]:
    found = []
    while held and held[0][0] <= now_ns:
        found.append(held.popleft()[1])
    return found


def _all(held: deque[tuple[int, Frame]]) -> list[Frame]:
    found = [frame for _, frame in held]
    held.clear()
    return found
