"""Corrupt frames: no provider takes one for a trade, a quote or a book."""

from __future__ import annotations

import json
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.errors import FrameError
from mdstream.simulator.faults.corrupt import HOW, corrupt
from mdstream.simulator.market import Market
from mdstream.simulator.venues import EXCHANGES
from mdstream.ticks import BookTick, QuoteTick, TradeTick
from mdstream.venues.binance import simulated as binance
from mdstream.venues.coinbase import simulated as coinbase
from mdstream.venues.okx import simulated as okx
from mdstream.venues.providers import provider

NOW_NS = 1_767_625_200_123_456_789
CHANNELS = {
    ("binance", "BTCUSDT"): [binance.COMBINED[name] for name in ("trade", "aggTrade", "bookTicker", "depth20@100ms")],
    ("okx", "BTC-USDT"): [okx.CHANNELS[name] for name in ("trades", "bbo-tbt", "books5")],
    ("coinbase", "BTC-USD"): [coinbase.CHANNELS[name] for name in ("matches", "ticker")],
}


def frames() -> list[tuple[str, str]]:
    """(venue, text) of a frame of every kind."""
    found = []
    for (name, symbol), channels in CHANNELS.items():
        listing = EXCHANGES[name](Market(1, 1000)).listing(symbol, NOW_NS)
        assert listing is not None
        of = listing.instrument
        events = {"trade": of.order(NOW_NS), "quote": of.quote(NOW_NS), "book": of.book(NOW_NS)}
        found += [(name, channel.encode(listing, events[channel.kind.value])[0]) for channel in channels]
    return found


@pytest.mark.parametrize(("venue", "text"), frames())
@pytest.mark.parametrize("how", [*HOW, "any"])
@given(st.integers(0, 2**32))
def test_corrupt_frame_says_nothing(venue: str, text: str, how: str, seed: int) -> None:
    """It cannot be decoded, or holds no market data."""
    junk = corrupt(text, how, Random(seed))
    data = junk.encode() if isinstance(junk, str) else junk
    try:
        ticks = provider(venue).decode(data)
    except (FrameError, msgspec.MsgspecError):
        return
    assert not [tick for tick in ticks if isinstance(tick, TradeTick | QuoteTick | BookTick)]


@given(st.integers(0, 2**32), st.sampled_from(frames()))
def test_corrupt_frames_are_what_they_are_called(seed: int, frame: tuple[str, str]) -> None:
    """Cut and json are invalid JSON, types is JSON of the same shape, binary is not text."""
    text, rng = frame[1], Random(seed)
    for how in ("cut", "json"):
        junk = corrupt(text, how, rng)
        assert isinstance(junk, str)
        with pytest.raises(ValueError, match=r".*"):
            json.loads(junk)
    junk = corrupt(text, "types", rng)
    assert isinstance(junk, str)
    assert list(json.loads(junk)) == list(json.loads(text))
    assert json.loads(junk) != json.loads(text)
    junk = corrupt(text, "binary", rng)
    assert isinstance(junk, bytes)
    with pytest.raises(UnicodeDecodeError):
        junk.decode()
