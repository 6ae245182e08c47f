"""docs/providers.md is true: its example is a provider that keeps the contract, and says what the page says."""

from __future__ import annotations

import doctest
import json
import re
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdstream.errors import FrameError
from mdstream.ingest.plan import plan
from mdstream.stream.canonical import Canonical
from mdstream.stream.rules import Policy, Rules
from mdstream.ticks import Control
from mdstream.venues import providers
from mdstream.venues.feed import Provider, Route


class Raw(NamedTuple):
    """A record as the transport hands it over."""

    offset: int
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    key: bytes | None = b"BTCUSDT"
    timestamp: int = 0


PAGE = Path(__file__).resolve().parents[2] / "docs" / "providers.md"


def blocks(language: str) -> list[str]:
    """The page's code blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def tern() -> Iterator[types.ModuleType]:
    """The example, as a module."""
    (source,) = blocks("python")
    module = types.ModuleType("tern")
    sys.modules["tern"] = module  # msgspec resolves the annotations of its structs there
    exec(compile(source, f"{PAGE}, the example", "exec"), module.__dict__)
    yield module
    del sys.modules["tern"]


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
    said: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(test, out=said.append).failed == 0, "".join(said)


def test_the_example_understands_every_frame_that_the_page_shows(venue: Provider, frames: list[bytes]) -> None:
    """The listing of the venue's frames: two of data, an ack, an error and a pong."""
    kinds = [t.kind if isinstance(t, Control) else type(t).__name__ for frame in frames for t in venue.decode(frame)]
    assert kinds == ["TradeTick", "QuoteTick", "ack", "error", "pong"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=12), start=st.integers(0, 100), length=st.integers(0, 30))
def test_the_example_keeps_the_contract_on_mangled_frames(
    venue: Provider, frames: list[bytes], junk: bytes, start: int, length: int
) -> None:
    """`route` never raises, and `decode` nothing but the two errors."""
    for frame in frames:
        mangled = frame[:start] + junk + frame[start + length :]
        assert isinstance(venue.route(mangled), Route)
        try:
            venue.decode(mangled)
        except (FrameError, msgspec.MsgspecError):
            continue


def test_the_example_once_registered_can_be_ingested(tern: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naming the class in the registry is all that the command needs."""
    monkeypatch.setitem(providers.PROVIDERS, "tern", tern.Tern)
    (wanted,) = plan("tern", "BTCUSDT, ETH_EUR,btcusdt")
    assert (wanted.provider.name, wanted.symbols) == ("tern", ("BTCUSDT", "ETHEUR"))


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
