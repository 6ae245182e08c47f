"""When a part that ended is started again."""

from __future__ import annotations

from dataclasses import dataclass

from mdstream.watchdog.guard import EXIT_STUCK

MIN_S, MAX_S = 1.0, 30.0
STEADY_S = 60.0
"""Who ran for so long has not failed to start: its next wait is the least again."""
WRONG_SETTINGS = 2
"""The exit status of a part whose settings or arguments are wrong: started again it would say the same."""


@dataclass
class Restarts:
    """One part's ends, and how long to wait after each."""

    count: int = 0
    _failures: int = 0

    def after(self, status: int, ran_s: float) -> float | None:
        """Seconds to wait before it is started again; None: never.

        A process that was stuck (75) asks to be started again, so after a steady run it is at once.
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
