"""A process's cost: CPU seconds and memory of it and its children, and the rate at which its output grows.

The clock starts when 5% of the output is there, so that start-up, imports and joining a group do not count, and stops
when all of it is there.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from processes import Process

from mdstream.cli.progress import Progress
from mdstream.errors import MdstreamError

WARM_UP = 0.05
POLL_S = 0.05
STALL_S = 60.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Count = Callable[[], Awaitable[int]]


class BenchmarkError(MdstreamError):
    """A contender that cannot be installed or run, or does not do the work; the text says why."""


@dataclass(frozen=True)
class Rate:
    """`frames` were processed in `wall_s` seconds with `cpu_s` CPU seconds."""

    frames: float
    wall_s: float
    cpu_s: float

    @property
    def per_second(self) -> float:
        return self.frames / self.wall_s

    @property
    def per_cpu_second(self) -> float:
        return self.frames / self.cpu_s


def middle(rates: Sequence[Rate], by: Callable[[Rate], float] = attrgetter("per_cpu_second")) -> Rate:
    """The median: other load on the machine makes single runs differ by half."""
    return sorted(rates, key=by)[(len(rates) - 1) // 2]


def rate_reported_by(process: Process, title: str, *, limit_s: float) -> Rate:
    """The rate that a process measures itself and prints as its only line.

    Raises BenchmarkError if it fails, AssertionError if it takes longer.
    """
    if process.wait(limit_s):
        raise BenchmarkError(f"{title} failed: {last_words(process.output())}")
    return Rate(**json.loads(process.output()))


def cpu_s(session: int) -> float:
    """CPU seconds, user and system, of a session's processes and their ended children."""
    return sum(sum(map(int, fields[11:15])) for _, fields in _members(session)) / _TICKS_PER_S


def peak_rss_bytes(session: int) -> int:
    """Peak resident memory, summed over a session's processes."""
    return sum(_status_bytes(folder, "VmHWM") for folder, _ in _members(session))


def own_peak_rss_bytes() -> int:
    """Peak resident memory of this process, since it runs this program: ru_maxrss would have the parent's in it."""
    return _status_bytes(Path("/proc/self"), "VmHWM")


def rss_bytes(pid: int) -> int:
    """Resident memory of one process."""
    return _status_bytes(Path(f"/proc/{pid}"), "VmRSS")


def _members(session: int) -> Iterator[tuple[Path, list[str]]]:
    """/proc folder and stat fields, from the third on (proc_pid_stat(5)), of each process in the session."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:  # the process has ended
            continue
        fields = stat.rpartition(")")[2].split()
        if int(fields[3]) == session:
            yield folder, fields


def _status_bytes(folder: Path, name: str) -> int:
    """A size in the status of a process (proc_pid_status(5)): VmRSS, resident memory, or VmHWM, its peak."""
    for line in (folder / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


async def rate(process: Process, count: Count, *, frames: int, outputs: int, title: str) -> Rate:
    """How fast `process` turns `frames` into the `outputs` that `count` sees.

    Raises BenchmarkError if the process ends, or its output does not grow for STALL_S.
    """
    began: tuple[int, float, float] | None = None
    seen, seen_at = 0, time.monotonic()
    with Progress(title, "records") as progress:
        while True:
            found, now = await count(), time.monotonic()
            if began is None and found > outputs * WARM_UP:
                began = found, now, cpu_s(process.pid)
            if found >= outputs:
                break
            if found > seen:
                seen, seen_at = found, now
            _check(process, found, now - seen_at)
            progress.show(found, found / outputs)
            await asyncio.sleep(POLL_S)
    used_s = cpu_s(process.pid)
    if began is None or began[0] >= outputs or used_s == began[2]:
        raise BenchmarkError("done before it could be measured: give it more with --frames")
    first, started, used_before_s = began
    return Rate((outputs - first) * frames / outputs, now - started, used_s - used_before_s)


def _check(process: Process, found: int, quiet_s: float) -> None:
    if not process.running:
        raise BenchmarkError(f"it ended with status {process.popen.returncode}: {last_words(process.output())}")
    if quiet_s > STALL_S:
        raise BenchmarkError(f"it wrote nothing for {STALL_S:.0f} s, after {found:,} records")


def last_words(output: str) -> str:
    """The last line that is not empty: of a traceback, the exception."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it says nothing"
