"""Runs the parts of a deployment as processes: restarts those that end, and leaves none behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

import click

from mdstream.embedded.server import die_with_parent
from mdstream.errors import MdstreamError
from mdstream.run.restart import Restarts, meaning

STOP_LIMIT_S = 15.0
LAST_LINES = 15
LOOK_S = 0.05

Say = Callable[[str], None]
Show = Callable[[str, str], None]


class PartError(MdstreamError):
    """A part ended, and a restart would not help."""

    def __init__(self, name: str, status: int, log: Path) -> None:
        super().__init__(name, status, log)
        self.name, self.status, self.log = name, status, log

    def __str__(self) -> str:
        return f"{self.name} {meaning(self.status)}; the end of {self.log}:\n{last_lines(self.log)}"


@dataclass
class Part:
    """A process `mdstream ARGS`. Parts of a higher `stage` stop before those of a lower one."""

    name: str
    args: tuple[str, ...]
    stage: int
    log: Path
    process: subprocess.Popen[bytes] | None = None
    reader: threading.Thread | None = None
    started_at: float = 0.0
    due_at: float | None = None
    """When it is restarted, while it does not run."""
    restarts: Restarts = field(default_factory=Restarts)


class Supervisor:
    """Starts `mdstream` subcommands with `environment` on top of ours. Use it from the longest-lived thread: parts end
    with the thread that started them.

    A part's output goes to its file in `logs` and, line by line, to `show`.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str], *, say: Say, show: Show | None = None) -> None:
        self._logs, self._say, self._show = logs, say, show
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self.parts: dict[str, Part] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, *args: str, stage: int) -> Part:
        """Run `mdstream ARGS` from now on, with restarts. Raises ValueError for a name that is taken."""
        if name in self.parts:
            raise ValueError(f"there is a part {name} already")
        part = self.parts[name] = Part(name, args, stage, self._logs / f"{name}.log")
        part.log.write_bytes(b"")
        self._run(part)
        return part

    def set(self, environment: Mapping[str, str]) -> None:
        """Add variables for the parts started from now on."""
        self._environment |= environment

    def wait(self, up: Callable[[], bool], part: Part, limit_s: float) -> None:
        """Wait until `up` is true. Raises PartError if the part ends, MdstreamError after `limit_s`."""
        deadline = time.monotonic() + limit_s
        while not up():
            if part.process is not None and (status := part.process.poll()) is not None:
                _finish(part.reader)
                raise PartError(part.name, status, part.log)
            if time.monotonic() > deadline:
                raise MdstreamError(f"{part.name} is not up after {limit_s:.0f} s; its log is {part.log}")
            time.sleep(LOOK_S)

    def look(self) -> None:
        """Restart parts that have ended and are due. Call about once a second. Raises PartError."""
        for part in self.parts.values():
            if part.process is not None and (status := part.process.poll()) is not None:
                self._ended(part, status)
            if part.due_at is not None and time.monotonic() >= part.due_at:
                self._run(part)

    def _ended(self, part: Part, status: int) -> None:
        part.process = None
        _finish(part.reader)
        now = time.monotonic()
        wait_s = part.restarts.after(status, now - part.started_at)
        if wait_s is None:
            raise PartError(part.name, status, part.log)
        part.due_at = now + wait_s
        words = "" if self._show else f"; the end of {part.log}:\n{last_lines(part.log)}"
        when = f"in {wait_s:.0f} s" if wait_s else "now"
        self._say(f"{part.name} {meaning(status)}, and is started again {when}{words}")

    def _run(self, part: Part) -> None:
        part.due_at, part.started_at = None, time.monotonic()
        part.process = process = subprocess.Popen(  # noqa: S603  our own command, no shell
            [sys.executable, "-m", "mdstream", *part.args],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only the supervisor, which then stops them in order
            preexec_fn=die_with_parent(),
        )
        assert process.stdout is not None
        part.reader = threading.Thread(target=self._copy, args=(part, process.stdout), daemon=True)
        part.reader.start()

    def _copy(self, part: Part, output: IO[bytes]) -> None:
        with output, part.log.open("ab", buffering=0) as log:
            for line in output:
                log.write(line)
                if self._show is not None:
                    self._show(part.name, line.decode(errors="replace").rstrip())

    def stop(self) -> None:
        """Stop the parts, highest stage first, and wait for them; those that do not stop are killed."""
        for stage in sorted({part.stage for part in self.parts.values()}, reverse=True):
            _stop([part.process for part in self.parts.values() if part.stage == stage and part.process is not None])
        for part in self.parts.values():
            _finish(part.reader)
        self.parts.clear()


def _stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    processes = list(processes)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_LIMIT_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _finish(reader: threading.Thread | None) -> None:
    """Wait for the last lines of a part that ended; a child of the part may hold the pipe open."""
    if reader is not None:
        reader.join(timeout=1.0)


def interrupt_on_signals() -> None:
    """Turn SIGTERM, and SIGINT even if a background shell has it ignored, into a KeyboardInterrupt."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the signature is signal's
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def timed_say() -> Say:
    """A printer of messages that start with the seconds since this call."""
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - began:5.1f} s  {text}")

    return say


def last_lines(log: Path) -> str:
    """The end of a part's log."""
    return "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-LAST_LINES:])
