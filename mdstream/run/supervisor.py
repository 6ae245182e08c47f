"""Runs the parts of a deployment as processes: restarts those that end, and leaves none behind, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Self

from mdstream.embedded.child import Child, last_lines
from mdstream.errors import MdstreamError
from mdstream.run.restart import Restarts, meaning

STOP_LIMIT_S = 15.0
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Say = Callable[[str], None]
Show = Callable[[str, str], None]


class PartError(MdstreamError):
    """A part ended, and a restart would not help."""

    def __init__(self, name: str, status: int, log: Path) -> None:
        super().__init__(name, status, log)
        self.name, self.status, self.log = name, status, log

    def __str__(self) -> str:
        return f"{self.name} {meaning(self.status)}; the end of {self.log}:\n{_end_of(self.log)}"


@dataclass
class Part:
    """A process `mdstream ARGS`. Parts of a higher `stage` stop before those of a lower one."""

    name: str
    args: tuple[str, ...]
    stage: int
    log: Path
    child: Child | None = None
    shown: int = 0
    """Bytes of the log that were shown."""
    started_at: float = 0.0
    due_at: float | None = None
    """When it is restarted, while it does not run."""
    restarts: Restarts = field(default_factory=Restarts)


class Supervisor:
    """Starts `mdstream` subcommands with `environment` on top of ours, and stops them on leaving the block.

    Use it from the longest-lived thread: parts end with the thread that started them. A part's output is in its file in
    `logs`; `restart_ended` and `wait` pass its new lines to `show`.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str], *, say: Say, show: Show | None = None) -> None:
        self._logs, self._say, self._show = logs, say, show
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self.parts: dict[str, Part] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with _uninterrupted():
            with contextlib.suppress(BrokenPipeError):  # Ctrl-C ends the other side of a pipe at once
                self._say("stopping")
            self.stop()

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
        assert part.child is not None
        is_up = part.child.wait_until(up, limit_s)
        self._show_new()
        if is_up:
            return
        if (status := part.child.status) is not None:
            raise PartError(part.name, status, part.log)
        raise MdstreamError(f"{part.name} is not up after {limit_s:.0f} s; its log is {part.log}")

    def restart_ended(self) -> None:
        """Restart parts that have ended and are due. Call about once a second. Raises PartError."""
        self._show_new()
        for part in self.parts.values():
            if part.child is not None and (status := part.child.status) is not None:
                self._ended(part, status)
            if part.due_at is not None and time.monotonic() >= part.due_at:
                self._run(part)

    def _ended(self, part: Part, status: int) -> None:
        part.child = None
        self._show_new()
        now = time.monotonic()
        wait_s = part.restarts.after(status, now - part.started_at)
        if wait_s is None:
            raise PartError(part.name, status, part.log)
        part.due_at = now + wait_s
        words = "" if self._show else f"; the end of {part.log}:\n{_end_of(part.log)}"
        when = f"in {wait_s:.0f} s" if wait_s else "now"
        self._say(f"{part.name} {meaning(status)}, and is started again {when}{words}")

    def _run(self, part: Part) -> None:
        part.due_at, part.started_at = None, time.monotonic()
        part.child = Child([sys.executable, "-m", "mdstream", *part.args], part.log, env=self._environment)

    def _show_new(self) -> None:
        """Show the complete lines that the parts have written since the last call."""
        if self._show is None:
            return
        for part in self.parts.values():
            # Old logs may be deleted.
            with contextlib.suppress(FileNotFoundError), part.log.open("rb") as log:
                log.seek(part.shown)
                for line in log:
                    if line.endswith(b"\n"):
                        part.shown += len(line)
                        self._show(part.name, line.decode(errors="replace").rstrip())

    def stop(self) -> None:
        """Stop the parts, highest stage first, and wait for them; those that do not stop are killed."""
        for stage in sorted({part.stage for part in self.parts.values()}, reverse=True):
            _stop([part.child for part in self.parts.values() if part.stage == stage and part.child is not None])
            with contextlib.suppress(BrokenPipeError):
                self._show_new()
        self.parts.clear()


def _stop(children: list[Child]) -> None:
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_LIMIT_S
    for child in children:
        child.wait(max(0.0, deadline - time.monotonic()))
        child.kill()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Stopping takes some seconds, and whoever presses Ctrl-C again would leave parts behind, each to end as it can."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt_on_signals() -> None:
    """Turn SIGTERM, and SIGINT even if a background shell has it ignored, into a KeyboardInterrupt."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the signature is signal's
        raise KeyboardInterrupt

    for number in STOPPING_SIGNALS:
        signal.signal(number, interrupt)


def timed_say() -> Say:
    """A printer of messages that start with the seconds since this call."""
    began = time.monotonic()

    def say(text: str) -> None:
        # Not by click.echo, which goes past the demo's live table: that would erase the line.
        print(f"{time.monotonic() - began:5.1f} s  {text}", flush=True)

    return say


def _end_of(log: Path) -> str:
    return "\n".join(f"    {line}" for line in last_lines(log))
