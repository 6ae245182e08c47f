"""The processes of the demo: each with a log file, none left when it ends, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from mdstream.embedded import die_with_parent
from mdstream.errors import MdstreamError

STOP_LIMIT_S = 12.0
LAST_LINES = 15


class ChildError(MdstreamError):
    """A process of the demo ended by itself."""

    def __init__(self, name: str, status: int, log: Path) -> None:
        super().__init__(name, status, log)
        self.name, self.status, self.log = name, status, log

    def __str__(self) -> str:
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_LINES:])
        return f"{self.name} ended with status {self.status}; the end of {self.log}:\n{tail}"


class Children:
    """Starts `mdstream` subcommands with `environment` on top of ours; stops them in the opposite order."""

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self._logs = logs
        self._environment = {**os.environ, **environment}
        self._children: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, *args: str) -> Path:
        """Run `mdstream ARGS` in the background; where its output goes."""
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            child = subprocess.Popen(  # noqa: S603  our own command, no shell
                [sys.executable, "-m", "mdstream", *args],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops them in order
                preexec_fn=die_with_parent(),
            )
        self._children.append((name, child, log))
        return log

    def set(self, environment: Mapping[str, str]) -> None:
        """Give the children that are started from now on these variables too."""
        self._environment |= environment

    def check(self) -> None:
        """Raises ChildError where one has ended."""
        for name, child, log in self._children:
            if (status := child.poll()) is not None:
                raise ChildError(name, status, log)

    def stop(self) -> None:
        """Ask each to stop, the last one first, and wait until it has; who does not is killed."""
        while self._children:
            _, child, _ = self._children.pop()
            child.terminate()
            deadline = time.monotonic() + STOP_LIMIT_S
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            if child.poll() is None:
                child.kill()
                child.wait()
