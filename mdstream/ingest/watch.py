"""Is the connection alive? A rule over counts and times, evaluated about once a second.

    frames arrive          wait
    none for keepalive_s   ping: send the venue's keepalive frame, again after each further keepalive_s
    none for silence_s     dead: the socket may be up, the feed is not

While the reader waits for room in the backlog, the silence is our own and does not count.
"""

from __future__ import annotations

from typing import Literal


class Watch:
    """Times are seconds of one monotonic clock; `keepalive_s` None if the venue needs no keepalive frame."""

    def __init__(self, *, now_s: float, silence_s: float, keepalive_s: float | None) -> None:
        self._silence_s, self._keepalive_s = silence_s, keepalive_s
        self._frames = 0
        self._heard_s = self._pinged_s = now_s

    @property
    def interval_s(self) -> float:
        """The step interval, at which no limit is missed by more than a tenth."""
        return min(1.0, self._silence_s / 10, (self._keepalive_s or self._silence_s) / 10)

    def step(self, *, now_s: float, frames: int, blocked: bool) -> Literal["wait", "ping", "dead"]:
        """What to do at `now_s`, when `frames` have arrived so far."""
        if frames != self._frames or blocked:
            self._frames = frames
            self._heard_s = self._pinged_s = now_s
            return "wait"
        if now_s - self._heard_s >= self._silence_s:
            return "dead"
        if self._keepalive_s is not None and now_s - self._pinged_s >= self._keepalive_s:
            self._pinged_s = now_s
            return "ping"
        return "wait"
