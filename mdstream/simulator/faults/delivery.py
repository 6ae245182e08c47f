"""Frames on their way to the clients, through the faults: frames in, frames out. Pure: time is an argument.

    market ──> drop ──> malformed ──> duplicate ──> reorder ──> delay ──> stall ──> clients

One Pipe a venue, with a stage for each active fault, always in this order (stages.py). A stage lets the frames of other
symbols pass. What it holds when its fault ends is released at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

ORDER = ("drop", "malformed", "duplicate", "reorder", "delay", "stall")
"""Kinds of faults that act on frames, in their order."""


class Frame(NamedTuple):
    """One frame for some clients. `payload`: text, or bytes for a binary frame.

    `first_id`..`last_id` (both included) are the fills it reports; `last_id` 0: it reports none. `about` is the
    caller's own data. `corrupt`: it can no longer be parsed.
    """

    payload: str | bytes
    to: Sequence[Any]
    symbol: str
    first_id: int = 0
    last_id: int = 0
    about: Any = None
    corrupt: bool = False


class Stage(ABC):
    """One active fault; counts what it affects."""

    def __init__(self, symbols: frozenset[str] | None, counts: Counter[str]) -> None:
        self._symbols, self._counts = symbols, counts

    def push(self, frame: Frame, now_ns: int) -> Iterable[Frame]:
        """The frames to pass on when a frame arrives."""
        if self._symbols is not None and frame.symbol not in self._symbols:
            return (frame,)
        return self.handle(frame, now_ns)

    @abstractmethod
    def handle(self, frame: Frame, now_ns: int) -> Iterable[Frame]:
        """The frames to pass on when a frame arrives that the fault applies to."""

    def due(self, now_ns: int) -> Iterable[Frame]:  # noqa: ARG002  a hook: the default holds nothing
        """Held frames that are due now."""
        return ()

    def end(self) -> Iterable[Frame]:
        """Frames still held when the fault is over."""
        return ()

    def touched(self, frame: Frame) -> None:
        """Count a frame that the fault affected."""
        self._counts["frames"] += 1
        if frame.last_id:
            self._counts["trades"] += 1


class Pipe:
    """The stages that a venue's frames go through."""

    def __init__(self) -> None:
        self._stages: dict[str, tuple[int, Stage]] = {}
        """By fault id: position in ORDER, stage; sorted by position."""

    def __bool__(self) -> bool:
        return bool(self._stages)

    def add(self, fault_id: str, kind: str, new: Stage) -> None:
        """Insert a stage at its kind's position."""
        self._stages[fault_id] = (ORDER.index(kind), new)
        self._stages = dict(sorted(self._stages.items(), key=lambda item: item[1][0]))

    def remove(self, fault_id: str, now_ns: int) -> list[Frame]:
        """Remove a stage; the frames it held pass through the stages behind it."""
        behind = list(self._stages).index(fault_id) + 1
        held = self._through(behind, list(self._stages[fault_id][1].end()), now_ns)
        del self._stages[fault_id]
        return held

    def push(self, frames: Iterable[Frame], now_ns: int) -> list[Frame]:
        """Pass frames through all stages; the frames that come out now."""
        return self._through(0, list(frames), now_ns)

    def due(self, now_ns: int) -> list[Frame]:
        """The frames that come out because time has passed."""
        out: list[Frame] = []
        for _, each in self._stages.values():
            # Frames held here are older than those that earlier stages release only now.
            out = [*each.due(now_ns), *(passed for frame in out for passed in each.push(frame, now_ns))]
        return out

    def _through(self, first: int, frames: list[Frame], now_ns: int) -> list[Frame]:
        for _, each in list(self._stages.values())[first:]:
            frames = [passed for frame in frames for passed in each.push(frame, now_ns)]
        return frames
