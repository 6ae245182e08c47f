"""The journal: one line per trade, as the venue reported it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdstream.errors import SettingsError
from mdstream.simulator.journal import Journal
from mdstream.simulator.listing import Channel, Topic
from mdstream.simulator.market import Market
from mdstream.simulator.venues import EXCHANGES
from mdstream.venues.alpaca import simulated as alpaca
from mdstream.venues.binance import simulated as binance
from mdstream.venues.coinbase import simulated as coinbase
from mdstream.venues.okx import simulated as okx

START_NS = 1_767_625_200_123_456_789


def topic(exchange: str, symbol: str, channel: Channel) -> Topic:
    listing = EXCHANGES[exchange](Market(1, 1000)).listing(symbol, START_NS)
    assert listing is not None
    return listing.topic(channel)


@pytest.mark.parametrize(
    ("of", "ts_exchange"),
    [
        (topic("binance", "BTCUSDT", binance.COMBINED["trade"]), 1_767_625_200_123_000_000),
        (topic("okx", "BTC-USDT", okx.CHANNELS["trades"]), 1_767_625_200_123_000_000),
        (topic("coinbase", "BTC-USDT", coinbase.CHANNELS["matches"]), 1_767_625_200_123_456_000),
    ],
)
def test_journal_holds_what_the_venue_sent(of: Topic, ts_exchange: int, tmp_path: Path) -> None:
    """Canonical symbol, aggressor's side, ids as text, and a time no finer than the venue's."""
    order = of.listing.instrument.order(START_NS, 1)
    trades = of.channel.trades(order) if of.channel.trades else []
    journal = Journal(tmp_path / "journal.jsonl")
    journal.add(of, order, trades)
    journal.close()
    assert json.loads((tmp_path / "journal.jsonl").read_text()) == {
        "provider": of.listing.exchange,
        "symbol": "BTCUSDT",
        "trade_id": "1000",
        "price": float(of.listing.price(order.fills[0].ticks)),
        "size": float(of.listing.size(order.fills[0].lots)),
        "side": "buy" if order.buy else "sell",
        "ts_exchange": ts_exchange,
    }


def test_journal_distinguishes_aggregates(tmp_path: Path) -> None:
    """A line of aggTrade names its id space, and a trade of several fills how many there were."""
    of = topic("binance", "BTCUSDT", binance.RAW["aggTrade"])
    journal = Journal(tmp_path / "journal.jsonl")
    orders = [of.listing.instrument.order(START_NS) for _ in range(50)]
    for order in orders:
        journal.add(of, order, order.aggregates)
    journal.close()
    rows = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert {row["view"] for row in rows} == {"aggTrade"}
    assert [row.get("count", 1) for row in rows] == [t.count for order in orders for t in order.aggregates]


def test_journal_marks_what_the_venue_lost(tmp_path: Path) -> None:
    """A trade that no endpoint serves is still one that was made."""
    of = topic("okx", "BTC-USDT", okx.CHANNELS["trades"])
    journal = Journal(tmp_path / "journal.jsonl")
    for lost in (False, True):
        order = of.listing.instrument.order(START_NS, 1)
        if lost:
            of.listing.instrument.tape.remove(order.fills[0].first_id, order.fills[0].last_id)
        journal.add(of, order, order.merged)
    journal.close()
    rows = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [row.get("unrecoverable", False) for row in rows] == [False, True]


def test_journal_appends(tmp_path: Path) -> None:
    """A restarted simulator goes on in the same file."""
    of, path = topic("okx", "BTC-USDT", okx.CHANNELS["trades"]), tmp_path / "journal.jsonl"
    for _ in range(2):
        journal, order = Journal(path), of.listing.instrument.order(START_NS, 1)
        journal.add(of, order, order.merged)
        journal.close()
    assert len(path.read_text().splitlines()) == 2


def test_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """The path and the reason, before anything is served."""
    with pytest.raises(SettingsError, match=r"cannot write the journal .*missing/j: No such file or directory"):
        Journal(tmp_path / "missing" / "j")


def test_journal_has_the_ids_and_the_sides_that_a_reader_can_know(tmp_path: Path) -> None:
    """An id of several parts as it is composed; no side where the venue tells none."""
    of = topic("alpaca", "AAPL", alpaca.CHANNELS["trades"])
    order = of.listing.instrument.order(START_NS, 1)
    journal = Journal(tmp_path / "journal.jsonl")
    journal.add(of, order, order.fills)
    journal.close()
    row = json.loads((tmp_path / "journal.jsonl").read_text())
    assert (row["trade_id"], row["side"]) == ("VC-1000-20260105", None)
