"""Processes for the tests and benchmarks: started, watched and stopped; free ports; waiting for conditions.

Imports nothing heavy, so that unit tests, which share the conftest, stay fast. Everything started here runs in its own
process group and ends with its context manager, also when the test fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mdstream.embedded.child import die_with_parent

PROJECT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
"""Where the commands of this virtual environment are."""

LIMIT_S = 120.0
"""How long to wait for something that takes a second on an idle machine: it bounds failures and measures nothing."""
STOP_LIMIT_S = 60.0

T = TypeVar("T")


PORTS = range(12_000, 32_000)
"""Below the ephemeral ports: no outgoing connection can take one of these before its server starts."""
PORTS_EACH = 1_000

_handed_out: set[int] = set()


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on, and that no other call of this test run gets.

    Raises RuntimeError if there is none.
    """
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # workers cannot see each other's
    first = PORTS.start + share * PORTS_EACH % len(PORTS)
    left = [port for port in range(first, first + PORTS_EACH) if port not in _handed_out]
    random.shuffle(left)  # two runs at the same time have the same shares
    for port in left:
        _handed_out.add(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no free port on 127.0.0.1 from {first} to {first + PORTS_EACH - 1}")


def wait_until(condition: Callable[[], T], *, what: str, limit_s: float = LIMIT_S, every_s: float = 0.1) -> T:
    """The first true value of `condition`. Raises AssertionError naming `what` after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:.0f} s: {what}")
        time.sleep(every_s)
    return value


async def until(condition: Callable[[], object], what: str = "the condition", *, limit_s: float = LIMIT_S) -> None:
    """Return once the condition holds, while tasks of the test go on. Raises AssertionError naming `what`."""
    try:
        async with asyncio.timeout(limit_s):
            while not condition():  # noqa: ASYNC110  there is no event to wait for
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {limit_s:.0f} s: {what}") from None


# ------------------------------------------------------------------------------------------------------------ processes


@dataclass
class Process:
    """A process of ours with its output in `log`; `kill` kills its whole group."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL to the group and wait until it has ended."""
        _signal_group(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def stop(self, limit_s: float = STOP_LIMIT_S) -> int:
        """SIGTERM, then SIGKILL after `limit_s`; its exit status."""
        if self.running:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):  # the group is killed below
                self.popen.wait(limit_s)
        _signal_group(self.popen.pid, signal.SIGKILL)
        return self.popen.wait()

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Its exit status. Raises AssertionError with the end of its output if it does not end in time."""
        try:
            return self.popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {limit_s:.0f} s:\n{self.output()[-2000:]}") from None

    def wait_for(self, text: str, limit_s: float = LIMIT_S) -> None:
        """Return once `text` is in its output. Raises AssertionError at the limit, or when the process has ended."""

        def found() -> bool:
            if text in self.output():
                return True
            assert self.running, f"{self.name} ended with {self.popen.returncode}:\n{self.output()[-2000:]}"
            return False

        wait_until(found, what=f"{text!r} in the output of {self.name}, {self.log}", limit_s=limit_s)


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return  # the whole group has ended


@dataclass
class Processes:
    """Starts processes, each with a log file in `folder`; on exit all are stopped, the last one first."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    started: list[Process] = field(default_factory=list)

    def spawn(self, args: Sequence[object], *, name: str, env: Mapping[str, str] | None = None) -> Process:
        """Run a command line; `env` overrides this object's environment, which overrides ours."""
        log = self.folder / f"{name}-{len(self.started)}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [str(arg) for arg in args],
                cwd=self.folder,
                env={**os.environ, **self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        process = Process(name, popen, log)
        self.started.append(process)
        return process

    def mdstream(self, *args: object, env: Mapping[str, str] | None = None) -> Process:
        """Run an `mdstream` subcommand in the background."""
        return self.spawn([BIN / "mdstream", *args], name=f"mdstream-{args[0]}", env=env)

    def worker(self, role: str = "core", *, port: int, env: Mapping[str, str] | None = None) -> Process:
        """Run a worker as users do: `faust -A mdstream worker` with its web server on `port`."""
        args = [BIN / "faust", "-A", "mdstream", "worker", "-l", "info", "--web-port", port]
        return self.spawn(args, name=f"worker-{role}-{port}", env={"MDSTREAM_ROLE": role, **(env or {})})

    def stop_all(self) -> None:
        for process in reversed(self.started):
            process.stop()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()


def run_mdstream(
    *args: object, env: Mapping[str, str] | None = None, timeout: float = LIMIT_S, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run an `mdstream` subcommand to its end: exit status, stdout and stderr."""
    return subprocess.run(
        [str(BIN / "mdstream"), *(str(arg) for arg in args)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
