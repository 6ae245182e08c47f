"""A child process that ends with its parent, in a session of its own, with its output in a file."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

POLL_S = 0.02

_PR_SET_PDEATHSIG = 1


class Child:
    """Started by this call; `log` is appended to. `options` are those of subprocess.Popen, such as `env`.

    Start it from a long-lived thread: it ends with the thread that started it (`die_with_parent`).
    """

    def __init__(self, command: Sequence[str | Path], log: Path, **options: Any) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  our own commands, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in the terminal reaches only the parent, which stops it
                preexec_fn=die_with_parent(),
                **options,
            )
        self.pid = self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        self._process.send_signal(number)

    def wait_until(self, up: Callable[[], bool], limit_s: float) -> bool:
        """Wait until `up` is true. Returns whether it is; False once the process has ended, or after `limit_s`."""
        deadline = time.monotonic() + limit_s
        while not up():
            if self.status is not None or time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def wait(self, limit_s: float) -> None:
        """Wait until it has ended, `limit_s` at the most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(limit_s)

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self._process.kill()
        self._process.wait()


def die_with_parent() -> Callable[[], None] | None:
    """What a child must run first so that it gets SIGTERM when its parent dies; None if the system does not support it.

    Without it a parent killed with SIGKILL would leave the child behind, holding its port and its memory. For Linux the
    parent is the thread that starts the child.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded here: after the fork nothing may be imported
    parent = os.getpid()

    def check() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return check


def last_lines(log: Path, count: int = 15) -> list[str]:
    """The last lines of a child's output."""
    return log.read_text(errors="replace").splitlines()[-count:]
