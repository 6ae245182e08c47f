"""Every venue against its own simulated one: its requests are accepted, and it reads what the market was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from venue_symbols import SETTINGS, symbols_of, ticks_of

from mdstream.events import Level
from mdstream.rest.listings import LISTINGS
from mdstream.simulator.actions import Action, Close, Send, Subscribe, Unsubscribe
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import HeartbeatEvent, Kind, Listing, Topic
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.simulator.rest import Budget
from mdstream.simulator.venues import EXCHANGES, RESTS
from mdstream.stream.book import Book as KeptBook
from mdstream.stream.book import UpdateResult
from mdstream.ticks import BookTick, BookUpdate, Control, QuoteTick, Tick, TradeTick
from mdstream.venues.contracts import contract_sizes_of
from mdstream.venues.feed import OTHER
from mdstream.venues.providers import FEEDS, PROVIDERS, provider

NOW_NS = 1_767_625_200_123_456_789
MS = 1_000_000
SIMULATED = sorted(name for name in PROVIDERS.keys() & EXCHANGES.keys() if EXCHANGES[name].framer is None)
"""Those whose sessions speak our frames; the others are tested over their sockets."""
UNANSWERED = {"coinapi"}
"""The venues that acknowledge no subscription."""


class Connection:
    """A venue's provider connected to its simulated exchange, without a socket."""

    def __init__(self, venue: str, listed: list[str] | None = None, *, contracts: bool = False) -> None:
        self.provider = provider(venue)
        self.exchange: Exchange = EXCHANGES[venue](Market(1, 1_000), listed)
        found = self.exchange.session(self.exchange.path, "", NOW_NS)
        assert found is not None
        self.session: Session = found
        self.replies: list[bytes] = []
        self.topics: list[Topic] = []
        self.now_ns = NOW_NS
        self.symbol, *_ = self.provider.default_symbols
        self.contract_size = ""
        if contracts:
            self.symbol += "-PERP"
            self.contract_size = contract_sizes(self)[self.symbol]
        login = self.provider.login(SETTINGS)
        if login is not None:
            assert not refuses(self, self.session.received(str(login.frame), NOW_NS))

    def subscribe(self, symbols: list[str]) -> None:
        """Send what the provider sends, at its pace."""
        for request in self.provider.subscribe(symbols):
            for action in self.session.received(str(request.frame), self.now_ns):
                assert not isinstance(action, Close), action
                if isinstance(action, Send):
                    self.replies.append(action.text.encode())
                if isinstance(action, Subscribe):
                    self.topics.append(action.topic)
            self.now_ns += int(self.provider.subscribe_interval_s * SECOND_NS)

    def read(self, text: str) -> list[Tick]:
        return ticks_of(self.provider, text, self.contract_size)

    def of(self, *kinds: Kind) -> Iterator[tuple[Topic, Callable[[Any], list[Tick]]]]:
        """All channels of these kinds, each with how its events are written and read."""
        listing = self.exchange.listing(self.provider.to_venue(self.symbol), NOW_NS)
        assert listing is not None
        for channel in self.exchange.channels.values():
            topic = listing.topic(channel)
            if channel.kind in kinds:
                yield topic, lambda e, t=topic: [k for x in t.channel.encode(t.listing, e) for k in self.read(x)]  # type: ignore[misc]


def contract_sizes(connection: Connection) -> dict[str, str]:
    """What the venue's contracts are worth, by the list that it serves."""
    name = connection.provider.name
    listing, rest = LISTINGS[name](), RESTS[name](connection.exchange, Budget(100, 1.0))
    requests = [target.partition("?") for target in listing.targets]
    bodies = [rest.get(path, query, NOW_NS).body for path, _, query in requests]
    return contract_sizes_of(listing.read(bodies, ts_recv=NOW_NS))


CONTRACTS = {f"{name} contracts": name for name in SIMULATED if PROVIDERS[name].sizes_in_contracts}
"""Venues whose sizes count contracts are tested twice."""


@pytest.fixture(params=[*SIMULATED, *CONTRACTS])
def connection(request: pytest.FixtureRequest) -> Connection:
    return Connection(CONTRACTS.get(request.param, request.param), contracts=request.param in CONTRACTS)


@pytest.fixture
def subscribed(connection: Connection) -> Connection:
    connection.subscribe([connection.symbol])
    return connection


def price(of: Listing, ticks: int) -> float:
    return float(ticks / 10**of.instrument.price_decimals)


def size(of: Listing, lots: int) -> float:
    return float(lots / 10**of.instrument.size_decimals)


def levels(of: Listing, book: list[tuple[int, int]]) -> list[Level]:
    return [(price(of, ticks), size(of, lots)) for ticks, lots in book]


def trades(ticks: list[Tick]) -> list[TradeTick]:
    """Without corrections of trades."""
    return [tick for tick in ticks if isinstance(tick, TradeTick) and tick.correction is None]


@pytest.mark.parametrize("venue", FEEDS)
def test_every_venue_with_a_feed_is_simulated(venue: str) -> None:
    """Or nothing here would say anything about it."""
    assert venue in EXCHANGES


def test_a_full_connection_is_subscribed_to_within_the_venue_s_limits(connection: Connection) -> None:
    """Most symbols, at the declared pace: no error, no close, and every symbol has its trades."""
    symbols = symbols_of(connection.provider.name, connection.provider.max_symbols)
    connection.subscribe(symbols)
    controls = [tick for reply in connection.replies for tick in ticks_of(connection.provider, reply)]
    assert [tick for tick in controls if isinstance(tick, Control) and tick.kind == "error"] == []
    traded = [topic.listing.canonical for topic in connection.topics if topic.channel.trades]
    assert sorted(traded) == sorted(symbols)


@pytest.mark.parametrize("venue", SIMULATED)
def test_a_symbol_that_does_not_exist_takes_no_other_with_it(venue: str) -> None:
    """What the venue does not list is refused or stays silent; its neighbour is subscribed to."""
    symbol, *_ = PROVIDERS[venue].default_symbols
    connection = Connection(venue, [symbol])
    connection.subscribe([*symbols_of(venue, 1), symbol])
    assert {topic.listing.canonical for topic in connection.topics} == {symbol}


def refuses(connection: Connection, actions: list[Action]) -> bool:
    """Whether the venue closes, or answers with an error."""
    texts = [action.text for action in actions if isinstance(action, Send)]
    kinds = [tick.kind for text in texts for tick in connection.read(text) if isinstance(tick, Control)]
    return "error" in kinds or any(isinstance(action, Close) for action in actions)


def test_a_request_is_acknowledged_before_any_data_comes(connection: Connection) -> None:
    """Then the present state of what it asked for follows, and its events."""
    for request in connection.provider.subscribe([connection.symbol]):
        answers = connection.session.received(str(request.frame), connection.now_ns)
        assert any(isinstance(action, Subscribe) for action in answers)
        if connection.provider.name in UNANSWERED:
            assert (request.names, request.id) == ((), "")
            continue
        ack = answers[0]
        assert isinstance(ack, Send)
        assert {tick.kind for tick in connection.read(ack.text) if isinstance(tick, Control)} == {"ack"}


def test_unsubscribing_ends_what_was_subscribed_to(subscribed: Connection) -> None:
    """Each topic once; a request to end what is not subscribed to is answered as well, by an error at some venues."""
    ended = []
    requests = subscribed.provider.subscribe([subscribed.symbol])
    for number, request in enumerate([*requests, *requests]):
        text = str(request.frame).replace('"subscribe"', '"unsubscribe"').replace('"SUBSCRIBE"', '"UNSUBSCRIBE"')
        if text == request.frame:
            return  # the venue has no such request
        subscribed.now_ns += SECOND_NS
        actions = subscribed.session.received(text, subscribed.now_ns)
        assert any(isinstance(action, Send) for action in actions) or subscribed.provider.name in UNANSWERED
        assert number >= len(requests) or not refuses(subscribed, actions)
        ended += [action.topic for action in actions if isinstance(action, Unsubscribe)]
    assert sorted(map(id, ended)) == sorted(map(id, subscribed.topics))


def test_requests_beyond_the_limit_are_refused(connection: Connection) -> None:
    """As many as the venue allows are accepted in its time; the next one is not, and is afterwards."""
    most, per_s = connection.session.request_limit
    symbols = symbols_of(connection.provider.name, most + 1)
    texts = [str(connection.provider.subscribe([symbol])[0].frame) for symbol in symbols]
    refused = [refuses(connection, connection.session.received(text, NOW_NS)) for text in texts]
    assert refused == [False] * most + [True]
    assert not refuses(connection, connection.session.received(texts[-1], NOW_NS + int(per_s * SECOND_NS)))


def test_a_client_that_does_not_read_is_closed(connection: Connection) -> None:
    """Whatever it is told first."""
    assert isinstance(connection.session.too_slow[-1], Close)


def test_every_reply_is_understood(subscribed: Connection) -> None:
    """Acks, and the present state that a channel begins with; none is routed to another instrument."""
    for reply in (part for each in subscribed.replies for part in subscribed.provider.split(each)):
        for tick in subscribed.provider.decode(reply):
            key = subscribed.provider.name if isinstance(tick, Control) else tick.symbol
            routed = subscribed.provider.route(reply)
            assert routed.key == key.encode() or (isinstance(tick, Control) and routed.kind == OTHER)


def test_trades_are_those_of_the_market(connection: Connection) -> None:
    """Each with its id, price, size, aggressor and time; ids go on without a hole if the venue promises so."""
    for topic, read in connection.of(Kind.TRADE):
        reported = topic.channel.trades or (lambda _: ())
        covered = None
        for _ in range(100):
            order = topic.listing.instrument.order(NOW_NS)
            for tick, trade in zip(trades(read(order)), reported(order), strict=True):
                trade_id = topic.channel.trade_id(trade, order.ts_ns)
                assert (tick.symbol, tick.trade_id) == (connection.symbol, trade_id)
                assert (tick.price, tick.size) == (price(topic.listing, trade.ticks), size(topic.listing, trade.lots))
                assert tick.side == (("buy" if order.buy else "sell") if topic.channel.sided else None)
                assert tick.ts_exchange == order.ts_ns - order.ts_ns % topic.channel.resolution_ns
                assert not connection.provider.contiguous_ids or covered in (None, tick.first_id - 1)
                covered = tick.last_id


def test_quotes_are_the_top_of_the_market(connection: Connection) -> None:
    """Whether the venue sends them by change, by trade or by the clock."""
    seen = 0
    for topic, read in connection.of(Kind.QUOTE, Kind.TRADE, Kind.BOOK):
        i = topic.listing.instrument
        events: dict[Kind, Callable[[int], Any]] = {Kind.QUOTE: i.quote, Kind.TRADE: i.order, Kind.BOOK: i.book}
        for tick in read(events[topic.channel.kind](NOW_NS)):
            if isinstance(tick, QuoteTick):
                seen += 1
                assert (tick.bid, tick.bid_size) == (
                    price(topic.listing, i.top.bid),
                    size(topic.listing, i.top.bid_lots),
                )
                assert (tick.ask, tick.ask_size) == (
                    price(topic.listing, i.top.ask),
                    size(topic.listing, i.top.ask_lots),
                )
    assert seen


def test_books_are_those_of_the_market(connection: Connection) -> None:
    """Whole ones as they are; snapshot and updates applied in turn give the same levels."""
    for topic, read in connection.of(Kind.BOOK):
        of, kept = topic.listing, KeptBook()
        firsts = topic.channel.first(of, NOW_NS) if topic.channel.first else []
        for tick in (tick for text in firsts for tick in connection.read(text)):
            assert not isinstance(tick, BookUpdate) or kept.apply(tick, 0) is UpdateResult.TOP
        for number in range(1, 50):
            book = of.instrument.book(NOW_NS + number * 100 * MS)
            for tick in read(book):
                if isinstance(tick, BookUpdate):
                    assert kept.apply(tick, number) is not UpdateResult.CROSSED
                    tick = kept.picture(connection.symbol)
                if isinstance(tick, BookTick):
                    assert len(tick.bids) == len(tick.asks) >= 5
                    assert tick.bids == levels(of, book.bids)[: len(tick.bids)]
                    assert tick.asks == levels(of, book.asks)[: len(tick.asks)]


def test_heartbeats_are_no_market_data(connection: Connection) -> None:
    """They are read as such."""
    for _, read in connection.of(Kind.HEARTBEAT):
        assert [getattr(tick, "kind", None) for tick in read(HeartbeatEvent(NOW_NS))] == ["heartbeat"]


def test_other_paths_are_not_there(connection: Connection) -> None:
    """An address that the venue does not have opens no session."""
    assert connection.exchange.session("/no/such/path", "", NOW_NS) is None
