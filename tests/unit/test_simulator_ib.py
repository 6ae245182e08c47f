"""The simulated gateway of Interactive Brokers: its answers and limits, message by message."""

from __future__ import annotations

import pytest

from mdstream.simulator.actions import Action, Close, Send, Subscribe, Unsubscribe
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.venues.ib.feed import contract_of
from mdstream.venues.ib.simulated import Ib, IbSession, message
from mdstream.venues.providers import provider

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


def bars(
    request: int,
    symbol: str,
    end: str = "20260105 15:00:10 UTC",
    size: str = "1 secs",
    duration: str = "60 S",
    *,
    dates: int = 2,
    keep: int = 0,
) -> str:
    """A request for past bars."""
    return message(20, request, *contract(symbol), 0, end, size, duration, 0, "TRADES", dates, keep, "")


def ticks(
    request: int,
    symbol: str,
    begin: str = "20260105 15:00:00 UTC",
    end: str = "",
    most: int = 1_000,
    what: str = "TRADES",
) -> str:
    """A request for past ticks."""
    return message(96, request, *contract(symbol), 0, begin, end, most, what, 0, 0, "")


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
        (message(25, 1, 9), 366),
        (bars(1, "FOO"), 200),
        (bars(1, "VOD.LSE"), 200),
        (bars(1, "SAP.IBIS"), 162),
        (bars(1, "EURUSD.IDEALPRO"), 162),
        (bars(1, "AAPL"), 162),  # nothing was traded yet
        (bars(1, "AAPL", "yesterday"), 10314),
        (bars(1, "AAPL", "20269905 15:00:10 UTC"), 10314),
        (bars(1, "AAPL", size="1 sec"), 321),
        (bars(1, "AAPL", duration="90000 S"), 321),
        (bars(1, "AAPL", duration="1 fortnight"), 321),
        (bars(1, "AAPL", keep=1), 321),
        (message(20, 1, *contract("AAPL"), 0, ""), 320),
        (ticks(1, "FOO"), 200),
        (ticks(1, "VOD.LSE"), 200),
        (ticks(1, "SAP.IBIS"), 162),
        (ticks(1, "EURUSD.IDEALPRO"), 162),
        (ticks(1, "AAPL", what="BID_ASK"), 162),
        (ticks(1, "AAPL", "yesterday"), 10314),
        (ticks(1, "AAPL", ""), 321),
        (ticks(1, "AAPL", end="20260105 16:00:00 UTC"), 321),
        (ticks(1, "AAPL", most=1_001), 321),
        (ticks(1, "AAPL", most=0), 321),
        (message(96, 1, *contract("AAPL"), 0, ""), 320),
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


@pytest.fixture
def trading(exchange: Ib) -> IbSession:
    """AAPL was traded in the second of NOW_NS and in three others."""
    listing = exchange.listing("AAPL", NOW_NS)
    assert listing is not None
    for second in (0, 5, 60, 4_000):
        listing.instrument.order(NOW_NS + second * SECOND_NS)
    return started(exchange)


LATER_NS = NOW_NS + 5_000 * SECOND_NS


def dates(actions: list[Action]) -> list[str]:
    """Of the bars in the one answer."""
    ((kind, _, _, _, count, *fields),) = said(actions)
    assert (kind, len(fields)) == ("17", 8 * int(count))
    return fields[::8]


@pytest.mark.parametrize(
    ("end", "size", "duration", "expected"),
    [
        ("20260105 15:00:10 UTC", "1 secs", "60 S", [0, 5]),
        ("20260105-15:00:10", "1 secs", "6 S", [5]),
        ("20260105 15:01:00 UTC", "1 min", "60 S", [0]),
        ("20260105 15:01:01 UTC", "1 min", "1 D", [0, 60]),
        ("20260106 00:00:00 UTC", "1 hour", "1 D", [0, 3_600]),
        ("20260107 00:00:00 UTC", "1 hour", "2 D", [0, 3_600]),
        ("", "1 hour", "86400 S", [0, 3_600]),
    ],
)
def test_past_bars_are_those_of_the_duration_before_the_end(
    trading: IbSession, end: str, size: str, duration: str, expected: list[int]
) -> None:
    """Seconds back from the end, or trading days with the unfinished one, all in one message."""
    answer = trading.received(bars(7, "AAPL", end, size, duration), LATER_NS)
    assert dates(answer) == [str(1_767_625_200 + second) for second in expected]


def test_past_bars_hold_what_was_traded(trading: IbSession, exchange: Ib) -> None:
    """Prices and sizes as the listing writes them, the average price, the number of trades; dates as texts, too."""
    listing = exchange.listings["AAPL"]
    ((*_, date, opened, _, _, _, volume, average, count),) = said(
        trading.received(bars(7, "AAPL", "20260105 15:00:01 UTC", dates=1), LATER_NS)
    )
    fills = [fill for fill in listing.instrument.tape.fills(1_000, 10_000) if fill.ts_ns == NOW_NS]
    assert (date, opened, int(count)) == ("20260105 15:00:00 UTC", listing.price(fills[0].ticks), len(fills))
    assert volume == listing.size(sum(fill.lots for fill in fills))
    turnover = sum(float(listing.price(fill.ticks)) * fill.lots for fill in fills)
    assert float(average) == pytest.approx(turnover / sum(fill.lots for fill in fills))


def test_past_ticks_are_those_of_a_session_with_whole_seconds(trading: IbSession, exchange: Ib) -> None:
    """From a second on, as many as were asked for and the others of the last one's second; none of the next day."""
    instrument = exchange.listings["AAPL"].instrument
    instrument.order(NOW_NS + 86_400 * SECOND_NS)
    fills = [fill.ts_ns // SECOND_NS for fill in instrument.tape.fills(1_000, 10_000)]

    def found(begin: str, most: int = 1_000) -> list[int]:
        ((kind, request, count, *fields, done),) = said(trading.received(ticks(7, "AAPL", begin, most=most), LATER_NS))
        assert (kind, request, len(fields), done) == ("98", "7", 6 * int(count), "1")
        assert fields[4::6] == ["NASDAQ"] * int(count)
        return [int(second) for second in fields[::6]]

    today = [second for second in fills if second < 1_767_657_600]
    assert found("20260105 15:00:00 UTC") == today
    assert found("20260105 15:00:01 UTC") == [second for second in today if second > 1_767_625_200]
    assert found("20260105 14:59:59 UTC", 1) == [1_767_625_200] * today.count(1_767_625_200)
    assert found("20260105 23:00:00 UTC") == []
    assert found("20260106 00:00:00 UTC") == [second for second in fills if second not in today]


def violates(session: IbSession, text: str, now_ns: int) -> bool:
    (fields,) = said(session.received(text, now_ns))
    return fields[3:5] == [
        "162",
        "Historical Market Data Service error message:Historical data request pacing violation",
    ]


def test_the_rules_for_requests_of_history_are_enforced_and_counted(exchange: Ib) -> None:
    """The same twice in 15 s, by any client; six for one contract in 2 s; 61 of small bars in ten minutes."""
    one, other = started(exchange), started(exchange, 2)
    ends = [f"20260105 15:{minute:02}:{second:02} UTC" for minute in range(2) for second in range(60)]
    assert not violates(one, bars(1, "AAPL", ends[0]), NOW_NS)
    assert violates(other, bars(9, "AAPL", ends[0]), NOW_NS + 15 * SECOND_NS - 1)
    assert not violates(one, bars(1, "AAPL", ends[0]), NOW_NS + 30 * SECOND_NS)
    at_ns = NOW_NS + 60 * SECOND_NS
    assert [violates(one, bars(1, "AAPL", end), at_ns) for end in ends[1:7]] == [False] * 5 + [True]
    assert not violates(one, bars(1, "MSFT", ends[1]), at_ns)
    at_ns += 100 * SECOND_NS
    most = 60 - exchange.pace.requests
    paced = [(at_ns + number * SECOND_NS // 2, end) for number, end in enumerate(ends[8 : 8 + most + 1])]
    assert [violates(one, bars(1, "AAPL", end), ns) for ns, end in paced] == [False] * most + [True]
    assert not violates(one, bars(1, "AAPL", ends[100], "1 min"), paced[-1][0] + SECOND_NS)
    assert not violates(one, bars(1, "AAPL", ends[101]), NOW_NS + 700 * SECOND_NS)
    assert exchange.counts() == {"history_requests": 63, "pacing_violations": 3}


def test_the_rules_hold_for_ticks_as_for_the_shortest_bars(exchange: Ib) -> None:
    """They are counted together."""
    session = started(exchange)
    assert code(session, ticks(1, "SAP.IBIS")) == 162
    assert code(session, ticks(1, "SAP.IBIS")) == 162
    assert exchange.counts() == {"history_requests": 2, "pacing_violations": 1}
    for number in range(58):
        session.received(ticks(1, "AAPL", f"20260105 15:00:{number:02} UTC"), NOW_NS + (20 + number) * SECOND_NS)
    assert exchange.counts() == {"history_requests": 60, "pacing_violations": 1}
    assert violates(session, ticks(1, "AAPL", "20260105 15:00:59 UTC"), NOW_NS + 100 * SECOND_NS)
    assert violates(session, bars(1, "AAPL"), NOW_NS + 110 * SECOND_NS)


def test_feed_is_dry_until_the_gateways_address_is_set() -> None:
    """There is no default: nobody runs a gateway without knowing."""
    ib = provider("ib")
    assert ib.dry({}) == "run TWS or IB Gateway, and set IBKR_PORT to its port"
    assert all(ib.dry({name: "1"}) is None for name in ("IB_WS_URL", "IBKR_HOST", "IBKR_PORT"))
