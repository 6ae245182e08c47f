"""When a part that ended is restarted."""

from __future__ import annotations

from dataclasses import dataclass

from mdstream.watchdog.guard import EXIT_STUCK

MIN_S, MAX_S = 1.0, 30.0
STEADY_S = 60.0
"""A part that ran this long did start: its next wait is the shortest again."""
WRONG_SETTINGS = 2
"""The exit status of a part with wrong settings or arguments: a restart would not help."""


@dataclass
class Restarts:
    """One part's exits, and how long to wait after each."""

    count: int = 0
    _failures: int = 0

    def after(self, status: int, ran_s: float) -> float | None:
        """Seconds to wait before the restart; None: never.

        A process that was stuck (75) asks for a restart, so after a steady run there is no wait.
        """
        if status == WRONG_SETTINGS:
            return None
        if ran_s >= STEADY_S:
            self._failures = 0
        wait_s = min(MIN_S * 2**self._failures, MAX_S)
        self._failures += 1
        self.count += 1
        return 0.0 if status == EXIT_STUCK and ran_s >= STEADY_S else wait_s


def meaning(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"was ended by signal {-status}"
    return f"ended with status {status}" + (", as it was stuck" if status == EXIT_STUCK else "")
