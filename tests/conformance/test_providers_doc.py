"""docs/providers.md is true: its example is a venue that passes the conformance tests, and says what the page says."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from tern import PAGE, blocks, project_with_tern

from mdstream.stream.canonical import Canonical
from mdstream.stream.rules import Policy, Rules
from mdstream.ticks import Control
from mdstream.venues.feed import Provider


class Raw(NamedTuple):
    """A record as the transport hands it over."""

    offset: int
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    key: bytes | None = b"BTCUSDT"
    timestamp: int = 0


@pytest.fixture(scope="module")
def tern() -> Iterator[types.ModuleType]:
    """The example's feed, as a module."""
    module = types.ModuleType("tern_feed")
    sys.modules["tern_feed"] = module  # msgspec resolves the annotations of its structs there
    exec(compile(blocks("python")[0], f"{PAGE}, the example", "exec"), module.__dict__)
    yield module
    del sys.modules["tern_feed"]


@pytest.fixture(scope="module")
def venue(tern: types.ModuleType) -> Provider:
    made = tern.Tern()
    assert isinstance(made, Provider)
    return made


@pytest.fixture
def frames() -> list[bytes]:
    """The venue's frames that the page shows."""
    listing = next(block for block in blocks("") if '"ch":"trades"' in block)
    return [line.encode() for line in listing.splitlines()]


def test_the_example_session_prints_what_the_page_shows(tern: types.ModuleType) -> None:
    """Every line at the prompt, errors included."""
    (session,) = blocks("pycon")
    test = doctest.DocTestParser().get_doctest(session, dict(tern.__dict__), "session", str(PAGE), 0)
    message: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(test, out=message.append).failed == 0, "".join(message)


def test_the_example_understands_every_frame_that_the_page_shows(venue: Provider, frames: list[bytes]) -> None:
    """The listing of the venue's frames: two of data, an ack, an error and a pong."""
    kinds = [t.kind if isinstance(t, Control) else type(t).__name__ for frame in frames for t in venue.decode(frame)]
    assert kinds == ["TradeTick", "QuoteTick", "ack", "error", "pong"]


def test_the_example_passes_the_conformance_tests(tmp_path: Path) -> None:
    """A folder with the page's files is all that it takes: the tests find the venue by its name."""
    project = project_with_tern(tmp_path)
    args = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance", "-k", "tern"]
    env = {**os.environ, "PYTHONPATH": str(project)}
    env.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(args, cwd=project, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-5_000:]


def test_the_example_goes_through_the_core_worker(venue: Provider, frames: list[bytes]) -> None:
    """Trades and quotes come out, a repeat does not, and a number left out is a gap that is asked for."""
    core = Canonical("md.raw.crypto", 0, [venue], rules=Rules(Policy(("tern",))), announces=lambda _: True)
    after_a_gap = frames[0].replace(b"4711", b"4714")
    log = [*frames, frames[0], after_a_gap, after_a_gap.replace(b"4714", b"4715")]
    times = [((1_767_625_200 + n) * 10**9).to_bytes(8, "big") for n in range(len(log))]
    out = core.step([Raw(n, log[n], [("p", b"tern"), ("t", received), ("k", b"")]) for n, received in enumerate(times)])
    assert [json.loads(value or b"")["trade_id"] for _, value, _, _ in out.trades] == ["4711", "4714", "4715"]
    assert len(out.quotes) == 1
    assert out.dead == []
    (request,) = (json.loads(value or b"") for _, value, _, _ in out.gaps)
    assert (request["first_id"], request["last_id"]) == (4712, 4713)
