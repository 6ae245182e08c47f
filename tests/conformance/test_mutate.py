"""The command that checks a million mutated frames: what it finds, and how it says so."""

from __future__ import annotations

from collections.abc import Sequence

import mutate
import pytest
from click.testing import CliRunner
from mutation import fault, mutant, smallest

from mdstream.errors import FrameError
from mdstream.ticks import Tick, TradeTick
from mdstream.venues.binance.feed import Binance
from mdstream.venues.feed import Provider

PLAIN = b'{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","t":1,"p":"1","q":"1","T":1,"m":true}}'


class Careless(Binance):
    """A parser with a fault of each sort, by what is in the frame."""

    def decode(self, frame: bytes, contract_size: bytes = b"") -> Sequence[Tick]:
        if b"raise" in frame:
            raise KeyError("p")
        if b"nan" in frame:
            return (TradeTick("BTCUSDT", "1", float("nan"), 1.0, None, None),)
        if b"damaged" in frame:
            return (TradeTick("BTCUSDT", "1", 1.0, 1.0, None, None),)
        raise FrameError("no frame")


@pytest.mark.parametrize(("frame", "reason"), [
    (b'{"raise":1}', "KeyError: 'p'"),
    (b'{"nan":1}', "Out of range float values"),
    (b'{"damaged":1', "market data of a damaged frame"),
])  # fmt: skip
def test_each_sort_of_fault_is_found(monkeypatch: pytest.MonkeyPatch, frame: bytes, reason: str) -> None:
    """Another exception, a number that is none, market data of a frame that the format shows to be damaged."""

    def careless(_name: str) -> Provider:
        return Careless()

    monkeypatch.setattr("mutation._venue", careless)
    assert str(fault("binance", PLAIN, frame)).startswith(reason)
    assert fault("binance", PLAIN, PLAIN) is None


def test_number_of_a_seed_is_the_same_frame_each_time() -> None:
    """So that what was found is found once more."""
    assert mutant("okx", 7, 11) == mutant("okx", 7, 11) != mutant("okx", 7, 12)


def test_smallest_frame_has_no_piece_too_many() -> None:
    assert smallest(b"abcXdefgYhij", lambda frame: b"X" in frame and b"Y" in frame) == b"XY"


def test_command_shows_the_smallest_frame_and_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """And exits with 1; its processes have the fault too, as they are forked."""

    def careless(_name: str) -> Provider:
        return Careless()

    monkeypatch.setattr("mutation._venue", careless)
    monkeypatch.setattr("mutation.NUMBERS", (b"raise",))
    ended = CliRunner().invoke(mutate.command, ["--venue", "binance", "--frames", "200", "--seed", "3"])
    assert ended.exit_code == 1
    assert "the smallest frame: b'raise'" in ended.stderr
    assert "--venue binance --seed 3 --first " in ended.stderr


def test_command_reads_every_frame_of_the_venues_that_it_is_given() -> None:
    ended = CliRunner().invoke(mutate.command, ["--venue", "dtc, kraken", "--frames", "50", "--jobs", "1"])
    assert ended.exit_code == 0
    assert ended.stdout.startswith("100 frames, 50 of each of 2 venues, seed 0")


def test_unknown_venue_is_refused() -> None:
    ended = CliRunner().invoke(mutate.command, ["--venue", "okx,nowhere"])
    assert ended.exit_code == 2
    assert "nowhere: choose from all, alpaca" in ended.stderr
