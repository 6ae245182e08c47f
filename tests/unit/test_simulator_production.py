"""What is sent when: the rate, the mix, and the counting of trades."""

from __future__ import annotations

from collections import Counter

import pytest

from mdstream.simulator.exchange import Exchange
from mdstream.simulator.listing import Listing, Topic
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.simulator.production import Delivery, Pacer, Production, Timetable
from mdstream.simulator.venues import EXCHANGES
from mdstream.venues.binance import simulated as binance
from mdstream.venues.coinbase import simulated as coinbase
from mdstream.venues.okx import simulated as okx

START_NS = 1_767_625_200_000_000_000
TURN_NS = 5_000_000


def listing(exchange: str = "binance", symbol: str = "BTCUSDT") -> Listing:
    found = opened(exchange).listing(symbol, START_NS)
    assert found is not None
    return found


def opened(exchange: str) -> Exchange:
    return EXCHANGES[exchange](Market(1, 1000))


def production(rate: float, *topics: Topic, max_trades: int | None = None) -> Production:
    made = Production(rate, seed=1, now_ns=START_NS, max_trades=max_trades)
    for topic in topics:
        made.subscribe(topic, "somebody")
    return made


def run(of: Production, seconds: float) -> list[Delivery]:
    """All that is produced in a time, in turns as the server takes them."""
    turns = int(seconds * SECOND_NS / TURN_NS)
    return [delivery for i in range(1, turns + 1) for delivery in of.produce(START_NS + i * TURN_NS)]


def trade_and_quote() -> list[Topic]:
    of = listing()
    return [of.topic(binance.COMBINED[name]) for name in ("trade", "bookTicker")]


@pytest.mark.parametrize(("rate", "seconds"), [(1, 20.0), (7, 4.0), (300, 4.0), (50_000, 0.5)])
def test_production_keeps_its_rate(rate: int, seconds: float) -> None:
    """Frames a second are what was asked for, whatever number of frames one event makes."""
    of = production(rate, *trade_and_quote())
    run(of, seconds)
    assert of.frames == pytest.approx(seconds * rate, abs=12)
    assert of.given_up == 0


def test_production_makes_the_same_frames_for_the_same_seed() -> None:
    """Two simulations with one seed and the same subscriptions at the same times send the same."""
    first, second = (run(production(500, *trade_and_quote()), 1.0) for _ in range(2))
    assert [d.frames for d in first] == [d.frames for d in second]


def test_market_without_subscribers_produces_nothing() -> None:
    """It stops, and has no backlog when the first one subscribes."""
    of = production(1000)
    assert run(of, 10.0) == []
    assert of.given_up == 0


def test_production_stops_when_the_last_subscriber_left() -> None:
    """Topics without subscribers are not written to."""
    topics = trade_and_quote()
    of = production(1000, *topics)
    for topic in topics:
        of.unsubscribe(topic, "somebody")
    assert run(of, 1.0) == []


def test_production_lingers_after_the_last_subscriber() -> None:
    """
    s       0         1         2         3
            [ somebody ]                          linger 2 s
            [ trades ......................]      nobody gets those after 1 s, and they are reported all the same
    """
    (topic, _) = trade_and_quote()
    of = Production(100, seed=1, now_ns=START_NS, linger_s=2.0)
    of.subscribe(topic, "somebody")
    seconds = []
    for turn in range(1, 1000):
        now_ns = START_NS + turn * TURN_NS
        if turn == 200:
            of.unsubscribe(topic, "somebody")
        seconds += [turn * TURN_NS / SECOND_NS for delivery in of.produce(now_ns) if delivery.trades]
    assert 2.8 < max(seconds) <= 3.0
    assert of.trades["binance"] == pytest.approx(300, abs=15)


def test_production_continues_if_a_subscriber_returns_in_time() -> None:
    """A client that subscribes again while the market lingers has missed trades, and the market does not stop when the
    time is over."""
    (topic, _) = trade_and_quote()
    of = Production(100, seed=1, now_ns=START_NS, linger_s=1.0)
    of.subscribe(topic, "somebody")
    for turn in range(1, 601):
        if turn in (100, 200):
            (of.unsubscribe if turn == 100 else of.subscribe)(topic, "somebody")
        list(of.produce(START_NS + turn * TURN_NS))
    assert of.trades["binance"] == pytest.approx(300, abs=15)


def test_restart_reports_small_ids_again() -> None:
    """After a reset the trades are reported under their new ids."""
    topic = listing().topic(binance.COMBINED["trade"])
    of = production(100, topic)
    run(of, 1.0)
    of.restart(topic.listing, 1)
    ids = [t.trade_id for i in range(201, 401) for d in of.produce(START_NS + i * TURN_NS) for t in d.trades]
    assert ids == list(range(1, 1 + len(ids)))
    assert ids


def test_production_gives_books_a_fifth_of_the_rate_at_most() -> None:
    """Each book comes every 100 ms, unless there are too many of them for the rate."""
    exchange = opened("binance")
    symbols = [f"A{i}USDT" for i in range(40)]
    listings = [found for symbol in symbols if (found := exchange.listing(symbol, START_NS))]
    topics = [of.topic(binance.RAW[name]) for of in listings for name in ("trade", "depth20@100ms")]
    books = [d for d in run(production(100, *topics), 5.0) if d.topic.channel is binance.RAW["depth20@100ms"]]
    assert len(books) == pytest.approx(0.2 * 100 * 5, abs=len(listings))


def test_production_sends_a_book_ten_times_a_second() -> None:
    """depth20@100ms comes every 100 ms and depth20 every second, of the same market."""
    of = listing()
    topics = [of.topic(binance.RAW[name]) for name in ("depth20@100ms", "depth20", "trade")]
    sent = Counter(d.topic.channel for d in run(production(1000, *topics), 5.0))
    assert sent[binance.RAW["depth20@100ms"]] == pytest.approx(50, abs=1)
    assert sent[binance.RAW["depth20"]] == pytest.approx(5, abs=1)


def test_production_sends_heartbeats_while_it_is_paused() -> None:
    """A pause stops market data, not signs of life; afterwards nothing is made up for."""
    of = listing("coinbase", "BTC-USD")
    made = production(1000, *(of.topic(coinbase.CHANNELS[name]) for name in ("matches", "heartbeat")))
    made.paused = True
    assert {d.topic.channel for d in run(made, 5.0)} == {coinbase.CHANNELS["heartbeat"]}
    assert made.frames == pytest.approx(5, abs=1)
    made.paused = False
    assert len(list(made.produce(START_NS + 5 * SECOND_NS + TURN_NS))) <= 10


@pytest.mark.parametrize(
    ("exchange", "symbol", "channel"),
    [("binance", "BTCUSDT", "trade"), ("okx", "BTC-USDT", "trades"), ("coinbase", "BTC-USD", "matches")],
)
@pytest.mark.parametrize("max_trades", [1, 2, 137])
def test_production_stops_at_exactly_the_trades_asked_for(
    exchange: str, symbol: str, channel: str, max_trades: int
) -> None:
    """--trades N: N trades are reported, whatever number of fills their orders would have had."""
    channels = {"binance": binance.RAW, "okx": okx.CHANNELS, "coinbase": coinbase.CHANNELS}[exchange]
    of = production(10_000, listing(exchange, symbol).topic(channels[channel]), max_trades=max_trades)
    sent = run(of, 1.0)
    assert sum(len(d.trades) for d in sent) == sum(len(d.frames) for d in sent) == max_trades
    assert of.finished
    assert of.trades == {exchange: max_trades}


def test_production_reports_a_trade_once_for_all_its_forms() -> None:
    """Combined and raw streams carry the same trades, which are reported once; those of aggTrade have other ids."""
    of = listing()
    topics = [of.topic(channels["trade"]) for channels in (binance.RAW, binance.COMBINED)]
    topics.append(of.topic(binance.RAW["aggTrade"]))
    reported = [(d.topic.channel.id_space, t.trade_id) for d in run(production(1000, *topics), 1.0) for t in d.trades]
    assert len(reported) == len(set(reported))
    for id_space in ("", "aggTrade"):
        ids = [trade_id for v, trade_id in reported if v == id_space]
        assert ids == list(range(1000, 1000 + len(ids)))


def test_report_last_returns_only_unreported_trades() -> None:
    """A last_match is history the first time, and new after the market moved without a subscriber to matches."""
    of_one = listing("coinbase", "BTC-USD")
    matches, ticker = (of_one.topic(coinbase.CHANNELS[name]) for name in ("matches", "ticker"))
    of = production(1000, matches, ticker)
    assert list(of.report_last(matches)) == []
    run(of, 0.1)
    assert list(of.report_last(matches)) == []
    for subscriber in list(matches.subscribers):
        of.unsubscribe(matches, subscriber)
    run(of, 0.2)
    assert [t.trade_id for t in of.report_last(matches)] == [of_one.instrument.last_order.fills[-1].trade_id]
    assert list(of.report_last(matches)) == []


def test_pacer_gives_up_what_it_cannot_make_up_for() -> None:
    """After a stall the frames of one second are made up for, in small portions; the rest is counted as given up."""
    pacer = Pacer(1000, START_NS)
    now_ns, made = START_NS + 10 * SECOND_NS, 0
    while (due := pacer.due(now_ns)) > 0:
        assert due <= 50
        pacer.spend(due)
        made += due
    assert made == 1000
    assert pacer.given_up == pytest.approx(9000)


def test_timetable_spreads_and_repeats() -> None:
    """
    s  0    1    2    3
       a b  a b  a b  a      two listings, each once a second, half a second apart
    """
    table, of = Timetable(SECOND_NS), [listing(symbol=symbol) for symbol in ("AUSDT", "BUSDT")]
    table.set(of, START_NS)
    seen = [(i / 2, due.symbol) for i in range(7) for due in table.due(START_NS + i * SECOND_NS // 2)]
    assert seen == [
        (0.0, "AUSDT"),
        (0.5, "BUSDT"),
        (1.0, "AUSDT"),
        (1.5, "BUSDT"),
        (2.0, "AUSDT"),
        (2.5, "BUSDT"),
        (3.0, "AUSDT"),
    ]


def test_timetable_keeps_the_times_of_those_that_stay() -> None:
    """A new subscription does not make the others start over."""
    table, (a, b) = Timetable(SECOND_NS), [listing(symbol=symbol) for symbol in ("AUSDT", "BUSDT")]
    table.set([a], START_NS)
    assert list(table.due(START_NS)) == [a]
    table.set([a, b], START_NS + 1)
    assert list(table.due(START_NS + SECOND_NS - 1)) == [b]
    assert list(table.due(START_NS + SECOND_NS)) == [a]
