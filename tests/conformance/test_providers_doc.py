"""docs/providers.md is true: its example is a provider that keeps the contract, and says what the page says."""

from __future__ import annotations

import doctest
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdstream import providers
from mdstream.errors import FrameError
from mdstream.ingest.plan import plan
from mdstream.providers.base import Provider, Route
from mdstream.ticks import Control

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
