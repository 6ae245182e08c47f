"""The simulated gateway of Interactive Brokers: its answers and limits, message by message."""

from __future__ import annotations

import pytest

from mdstream.simulator.actions import Action, Close, Send, Subscribe, Unsubscribe
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.venues.ib.feed import contract_of
from mdstream.venues.ib.simulated import Ib, IbSession, message

NOW_NS = 1_767_625_200_123_456_789


@pytest.fixture
def exchange() -> Ib:
    return Ib(Market(1, 1000), ["AAPL", "MSFT", "VOD.LSE", "SAP.IBIS", "EURUSD.IDEALPRO", "A", "B", "C"])


def started(exchange: Ib, client_id: int = 1) -> IbSession:
    session = IbSession(exchange, NOW_NS)
    session.received("v157..178", NOW_NS)
    session.received(message(71, 2, client_id, ""), NOW_NS)
    return session


@pytest.fixture
def session(exchange: Ib) -> IbSession:
    return started(exchange)


def contract(symbol: str) -> list[str]:
    """The twelve fields as a client sends them, by name."""
    fields = contract_of(symbol) or {}
    names = ("symbol", "secType", "lastTradeDateOrContractMonth", "strike", "right", "multiplier", "exchange")
    return ["0", *(fields.get(name, "") for name in names), "", fields["currency"], "", ""]


def market_data(request: int, symbol: str) -> str:
    return message(1, 11, request, *contract(symbol), 0, "", 0, 0, "")


def tick_by_tick(request: int, symbol: str, kind: str = "AllLast") -> str:
    return message(97, request, *contract(symbol), kind, 0, 0)


def said(actions: list[Action]) -> list[list[str]]:
    """The fields of each message."""
    return [action.text.split("\0")[:-1] for action in actions if isinstance(action, Send)]


def code(session: IbSession, text: str, now_ns: int = NOW_NS) -> int:
    """Of the only answer, an error."""
    ((kind, _, _, number, _, _),) = said(session.received(text, now_ns))
    assert kind == "4"
    return int(number)


def test_a_client_is_greeted_with_version_account_next_id_and_farms(exchange: Ib) -> None:
    """It is ready when it has the account and the id."""
    session = IbSession(exchange, NOW_NS)
    assert said(session.received("v157..178", NOW_NS)) == [["178", "20260105 15:00:00 GMT"]]
    greeting = said(session.received(message(71, 2, 1, ""), NOW_NS))
    assert greeting[:2] == [["15", "1", "DU1234567"], ["9", "1", "1"]]
    assert [fields[3] for fields in greeting[2:]] == ["2104", "2106", "2158"]


@pytest.mark.parametrize("texts", [["v100..156"], ["hello"], ["v157..178", message(49, 1)]])
def test_another_beginning_ends_the_connection(exchange: Ib, texts: list[str]) -> None:
    """A version that nobody speaks, no version, no client id."""
    session = IbSession(exchange, NOW_NS)
    *_, last = [session.received(text, NOW_NS) for text in texts]
    assert isinstance(last[-1], Close)


def test_a_client_id_is_free_again_when_its_connection_has_ended(exchange: Ib) -> None:
    """A second one with it is told 326, and cut off, and leaves the first one alone."""
    first, second = started(exchange), IbSession(exchange, NOW_NS)
    second.received("v157..178", NOW_NS)
    error, end = second.received(message(71, 2, 1, ""), NOW_NS)
    assert said([error])[0][3] == "326"
    assert isinstance(end, Close)
    second.closed()
    assert exchange.clients == {1: first}
    first.closed()
    assert exchange.clients == {}


def test_data_carry_the_request_s_own_id(session: IbSession) -> None:
    """The same text goes to all clients; with its length in front."""
    (listing, *_) = [a.topic for a in session.received(tick_by_tick(7, "AAPL"), NOW_NS) if isinstance(a, Subscribe)]
    (text, *_) = listing.channel.encode(listing.listing, listing.listing.instrument.order(NOW_NS))
    data = session.wire(text)
    assert int.from_bytes(data[:4]) == len(data) - 4
    assert data[4:].split(b"\0")[:4] == [b"99", b"7", b"2", b"1767625200"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (market_data(1, "FOO"), 200),
        (tick_by_tick(1, "FOO"), 200),
        (market_data(1, "VOD.LSE"), 200),
        (message(9, 8, 1, *contract("FOO"), 0, "", "", ""), 200),
        (message(9, 8, 1, *contract("AAPL")[:6]), 320),
        (market_data(1, "SAP.IBIS"), 354),
        (tick_by_tick(1, "SAP.IBIS"), 10189),
        (tick_by_tick(1, "EURUSD.IDEALPRO"), 10189),
        (tick_by_tick(1, "AAPL", "Foo"), 321),
        (message(98, 9), 300),
        (message(3, 1), 505),
    ],
)
def test_what_cannot_be_is_refused_by_code(session: IbSession, text: str, expected: int) -> None:
    """And nothing is subscribed to."""
    assert code(session, text) == expected
    assert session.topics == {}


def test_limits_are_those_of_the_user(exchange: Ib, session: IbSession) -> None:
    """Three tick-by-tick lines in all connections together; a line that is given back can be taken again."""
    other = started(exchange, 2)
    for request, symbol in enumerate(("A", "B"), 1):
        session.received(tick_by_tick(request, symbol), NOW_NS)
    other.received(tick_by_tick(1, "C"), NOW_NS)
    assert code(session, tick_by_tick(3, "AAPL")) == 10190
    assert [type(action) for action in other.received(message(98, 1), NOW_NS)] == [Unsubscribe]
    assert code(session, tick_by_tick(3, "A")) == 322
    assert code(session, tick_by_tick(3, "C")) == 420  # within 15 s of the other's
    assert any(isinstance(action, Subscribe) for action in session.received(tick_by_tick(3, "AAPL"), NOW_NS))


def test_market_data_lines_are_limited() -> None:
    """A hundred."""
    session = started(Ib(Market(1, 1000)))
    names = [f"{a}{b}" for a in "ABCDEFGHIJK" for b in "ABCDEFGHIJ"]
    for number, name in enumerate(names[:100]):
        session.received(market_data(number, name), NOW_NS + number * SECOND_NS)
    assert code(session, market_data(100, names[100]), NOW_NS + 200 * SECOND_NS) == 101


def test_more_than_fifty_messages_a_second_are_refused(session: IbSession) -> None:
    """The first of them was startApi."""
    assert [said(session.received(message(49, 1), NOW_NS))[0][0] for _ in range(50)] == ["49"] * 49 + ["4"]
    assert said(session.received(message(49, 1), NOW_NS + SECOND_NS)) == [["49", "1", "1767625201"]]
