"""The simulated IQConnect, line by line, and what the provider reads of it."""

from __future__ import annotations

import pytest

from mdstream.errors import FrameError
from mdstream.simulator.actions import Action, Close, Send, Subscribe, Unsubscribe
from mdstream.simulator.listing import Topic
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.ticks import Control, QuoteTick, Tick, TradeTick
from mdstream.venues.feed import QUOTE, TRADE
from mdstream.venues.iqfeed.feed import FIELDS
from mdstream.venues.iqfeed.feed import Iqfeed as Feed
from mdstream.venues.iqfeed.simulated import Iqfeed, IqfeedSession

NOW_NS = 1_767_625_200_123_456_789
FEED = Feed()


@pytest.fixture
def exchange() -> Iqfeed:
    return Iqfeed(Market(1, 1000))


@pytest.fixture
def session(exchange: Iqfeed) -> IqfeedSession:
    return connected(exchange)


def connected(exchange: Iqfeed) -> IqfeedSession:
    session = IqfeedSession(exchange, NOW_NS)
    session.opened(NOW_NS)
    return session


def logged_in(exchange: Iqfeed) -> IqfeedSession:
    session = connected(exchange)
    login = FEED.login({})
    assert login is not None
    for line in str(login.frame).splitlines():
        session.received(line, NOW_NS)
    return session


def lines(session: IqfeedSession, actions: list[Action]) -> list[str]:
    """What the client is sent, without its end."""
    return [session.wire(action.text).decode().removesuffix("\r\n") for action in actions if isinstance(action, Send)]


def topics(actions: list[Action]) -> list[Topic]:
    return [action.topic for action in actions if isinstance(action, Subscribe)]


def said(session: IqfeedSession, text: str) -> list[str]:
    return lines(session, session.received(text, NOW_NS))


def parts(line: str) -> list[tuple[bytes, list[Tick]]]:
    """The kind and the ticks of each part of a line."""
    return [(FEED.route(part).kind, list(FEED.decode(part))) for part in FEED.split(line.encode())]


def test_a_client_is_greeted_and_told_the_time_each_second(exchange: Iqfeed) -> None:
    """New York's; nothing between the seconds, and nothing after TIMESTAMPSOFF."""
    session = IqfeedSession(exchange, NOW_NS)
    greeting = lines(session, session.opened(NOW_NS))
    assert [line.split(",")[1] for line in greeting] == ["KEY", "SERVER CONNECTED", "CUST", "20260105 10:00:00"]
    assert session.tick(NOW_NS + SECOND_NS // 2, 0) == []
    assert lines(session, session.tick(NOW_NS + SECOND_NS, 0)) == ["T,20260105 10:00:01"]
    assert said(session, "S,TIMESTAMPSOFF") == []
    assert session.tick(NOW_NS + 2 * SECOND_NS, 0) == []


def test_the_customer_s_password_is_nothing_for_the_raw_topic(session: IqfeedSession) -> None:
    """Its line goes on without."""
    _, _, customer, _ = lines(session, session.opened(NOW_NS))
    ((part),) = FEED.split(customer.encode())
    assert b"password" in customer.encode()
    assert b"password" not in part
    assert FEED.decode(part) == (Control("ignored", "CUST"),)


def test_our_selection_is_granted(session: IqfeedSession) -> None:
    """In its order; a field that there is not is left out; without a selection there are the default ones."""
    assert said(session, "S,REQUEST CURRENT UPDATE FIELDNAMES")[0].startswith(
        "S,CURRENT UPDATE FIELDNAMES,Symbol,Most Recent Trade,"
    )
    assert said(session, "S,SELECT UPDATE FIELDS,Bid,Foo") == ["S,CURRENT UPDATE FIELDNAMES,Symbol,Bid"]
    (answer,) = said(session, f"S,SELECT UPDATE FIELDS,{','.join(FIELDS)}\r")
    assert FEED.decode(answer.encode()) == (Control("ack", "CURRENT UPDATE FIELDNAMES", ("update fields",)),)


def test_a_watch_begins_with_fundamentals_and_summary(exchange: Iqfeed) -> None:
    """The first acknowledges it, the second is a quote; then trades and quotes come until it ends."""
    session = logged_in(exchange)
    actions = session.received("wAAPL", NOW_NS)
    ack, summary = lines(session, actions)
    assert FEED.decode(ack.encode()) == (Control("ack", "AAPL", ("AAPL",)),)
    ((kind, (quote,)),) = parts(summary)
    assert (kind, type(quote), len(topics(actions))) == (QUOTE, QuoteTick, 2)
    assert said(session, "S,REQUEST WATCHES") == ["S,WATCHES,AAPL,"]
    ended = session.received("rAAPL", NOW_NS)
    assert [action.topic for action in ended if isinstance(action, Unsubscribe)] == topics(actions)


def test_trades_and_quotes_are_those_of_the_market(exchange: Iqfeed) -> None:
    """Each trade once, by its own line; a quote repeats the last trade, and is none."""
    session = logged_in(exchange)
    trades, quotes = topics(session.received("w@ESH26", NOW_NS))
    of = trades.listing.instrument
    for number in range(50):
        now_ns = NOW_NS + number * 7_000_000
        order = of.order(now_ns)
        found = [p for text in trades.channel.encode(trades.listing, order) for p in parts(wired(session, text))]
        ticks = [tick for kind, (tick,) in found if kind == TRADE]
        assert [(t.trade_id, t.price, t.size, t.side, t.ts_exchange) for t in ticks if isinstance(t, TradeTick)] == [
            (
                trades.channel.trade_id(fill, now_ns),
                float(trades.listing.price(fill.ticks)),
                fill.lots,
                "buy" if order.buy else "sell",
                now_ns // 1_000 * 1_000,
            )
            for fill in order.fills
        ]
        assert [kind for kind, _ in found] == [TRADE] * len(order.fills) + [QUOTE]
        top = of.quote(now_ns)
        (text,) = quotes.channel.encode(quotes.listing, top)
        ((_, (quote,)),) = parts(wired(session, text))
        price = trades.listing.price
        assert quote == QuoteTick(
            "@ESH26.IQFEED", float(price(top.bid)), top.bid_lots, float(price(top.ask)), top.ask_lots, None
        )


def test_a_line_that_a_fault_has_cut_is_sent_so(exchange: Iqfeed) -> None:
    """It is a dead letter at its reader."""
    session = logged_in(exchange)
    trades, _ = topics(session.received("wAAPL", NOW_NS))
    (text, *_) = trades.channel.encode(trades.listing, trades.listing.instrument.order(NOW_NS))
    for length in range(len("Q,AAPL,Cv,"), len(text) // 2):
        with pytest.raises(FrameError, match="not the 17 fields"):
            FEED.decode(wired(session, text[:length]).encode())


def wired(session: IqfeedSession, text: str) -> str:
    return session.wire(text).decode().removesuffix("\r\n")


def test_trades_alone_can_be_watched(exchange: Iqfeed) -> None:
    """By t."""
    session = logged_in(exchange)
    assert [topic.channel.kind.value for topic in topics(session.received("tAAPL", NOW_NS))] == ["trade"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("wnosuch", "n,nosuch"),
        ("fAAPL?", "n,AAPL?"),
        ("xAAPL", "E,!SYNTAX_ERROR!,"),
        ("", "E,!SYNTAX_ERROR!,"),
        ("S,FOO", "E,!SYNTAX_ERROR!,"),
        ("S,SET PROTOCOL,4.9", "S,CURRENT PROTOCOL,6.2"),
        ("T", "T,20260105 10:00:00"),
    ],
)
def test_every_line_has_its_answer(session: IqfeedSession, text: str, answer: str) -> None:
    """Nothing is subscribed to."""
    assert said(session, text) == [answer]
    assert session.topics == {}


def test_the_limit_of_symbols_is_that_of_all_clients(exchange: Iqfeed) -> None:
    """A symbol that is given back can be another's, and one that is watched counts once."""
    first, second = connected(exchange), connected(exchange)
    names = [f"{a}{b}" for a in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for b in "ABCDEFGHIJKLMNOPQRST"][:500]
    for name in names:
        first.received(f"w{name}", NOW_NS)
    assert said(second, "wMSFT") == ["S,SYMBOL LIMIT REACHED,MSFT"]
    assert len(said(second, f"w{names[0]}")) == 2
    first.closed()
    assert len(said(second, "wMSFT")) == 2
    assert exchange.watched == {names[0], "MSFT"}
    assert said(second, "S,UNWATCH ALL") == []
    assert exchange.watched == set()


def test_a_client_that_sends_too_much_is_cut_off(session: IqfeedSession) -> None:
    """A thousand lines a second."""
    for _ in range(1_000):
        session.received("T", NOW_NS)
    (end,) = session.received("T", NOW_NS)
    assert isinstance(end, Close)


def test_symbols_are_watched_by_their_own_names() -> None:
    """A line for each, so that one that does not exist takes no other with it."""
    assert [tuple(r) for r in FEED.subscribe(["AAPL", "@ESH26.IQFEED"])] == [
        ("wAAPL\r\n", ("AAPL",), ""),
        ("w@ESH26\r\n", ("@ESH26",), ""),
    ]
    assert [r.frame for r in FEED.unsubscribe(["AAPL", "@ESH26.IQFEED"])] == ["rAAPL\r\n", "r@ESH26\r\n"]


def test_without_an_address_there_is_no_connection() -> None:
    """IQConnect has to run first: its port may be another program's."""
    assert FEED.dry({"IQFEED_WS_URL": "tcp://127.0.0.1:5009"}) is None
    assert str(FEED.dry({})).startswith("run IQConnect, and set IQFEED_WS_URL")
