"""How much of a venue's rate limit is left: a token bucket. Pure: the time is an argument, in seconds of any clock.

    burst ┤████████▁▁▁▁▁▁▁▁▁▂▂▃▃▄▄▅▅▆▆      spent at once, then filled again at `per_s`
          └──────────────────────────> time

In any span of t seconds no more than burst + per_s * t units are spent.
"""

from __future__ import annotations

from mdstream.venues.past import Limits


class Budget:
    """What may be spent now. Starts full; time must not go backwards."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._units = limits.burst
        self._at_s: float | None = None
        self._held_until_s = float("-inf")

    def wait_s(self, cost: float, now_s: float) -> float:
        """Seconds until `cost` may be spent, 0 for now. What costs more than the burst waits for a full bucket."""
        self._fill(now_s)
        short = min(cost, self._limits.burst) - self._units
        return max(0.0, short / self._limits.per_s, self._held_until_s - now_s)

    def spend(self, cost: float, now_s: float) -> None:
        """Take `cost` out; the balance may go negative, and refills over time."""
        self._fill(now_s)
        self._units -= cost

    def hold(self, until_s: float) -> None:
        """Nothing may be spent before `until_s`; the latest of several counts."""
        self._held_until_s = max(self._held_until_s, until_s)

    def _fill(self, now_s: float) -> None:
        if self._at_s is not None:
            self._units = min(self._limits.burst, self._units + (now_s - self._at_s) * self._limits.per_s)
        self._at_s = now_s
