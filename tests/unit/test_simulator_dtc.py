"""DTC's messages, what the provider asks for, and the simulated server's answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import NOW_NS, session

from mdstream.errors import FrameError, SettingsError, SymbolError
from mdstream.ingest.links import new_link
from mdstream.simulator.actions import Action, Close, Send
from mdstream.simulator.exchange import Session
from mdstream.simulator.market import SECOND_NS
from mdstream.ticks import TradeTick
from mdstream.venues.dtc import messages
from mdstream.venues.dtc.feed import Dtc
from mdstream.venues.dtc.messages import Messages

TRADE = {"Type": 107, "SymbolID": 1, "AtBidOrAsk": 2, "Price": 5012.25, "Volume": 3, "DateTime": 1767625200.123}
FEED = Dtc()


def sent(to: Session, request: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Action]]:
    """The answers to a binary request, and all actions."""
    actions = to.received(messages.write(request).decode("latin-1"), NOW_NS)
    return [json.loads(action.text) for action in actions if isinstance(action, Send)], actions


@pytest.fixture
def logged_on() -> Session:
    on = session("dtc")
    sent(on, {"Type": 1, "HeartbeatIntervalInSeconds": 10})
    return on


def test_binary_messages_are_those_of_the_protocol() -> None:
    """Byte for byte."""
    trade = "28006b00 01000000 0200 000000000000 000000004094b340 0000000000000840 3bdf077cf456da41"
    assert messages.write(TRADE) == bytes.fromhex(trade)
    encoding = {"Type": 6, "ProtocolVersion": 8, "Encoding": 2, "ProtocolType": "DTC"}
    assert messages.write(encoding) == bytes.fromhex("10000600080000000200000044544300")
    for kind, layout in messages.LAYOUTS.items():
        assert len(messages.write({"Type": kind})) == layout.size


@given(sizes=st.lists(st.integers(1, 40), min_size=1), data=st.lists(st.booleans(), min_size=1, max_size=6))
def test_a_stream_of_both_encodings_is_cut_into_its_messages(sizes: list[int], data: list[bool]) -> None:
    """However it arrives: the encoding's answer is binary, JSON follows."""
    binary, text = messages.write(TRADE), json.dumps(TRADE).encode()
    stream = b"".join(text + b"\0" if as_json else binary for as_json in data)
    buffer, found, at = bytearray(), list[bytes](), 0
    while at < len(stream):
        size = sizes[at % len(sizes)]
        buffer += stream[at : at + size]
        found += Messages().cut(buffer)
        at += size
    assert found == [text if as_json else binary for as_json in data]
    assert not buffer


def test_a_size_that_cannot_be_ends_the_stream() -> None:
    """There is no telling where the next message begins."""
    with pytest.raises(FrameError, match="a message that says it has 3 bytes"):
        Messages().cut(bytearray(b"\3\0\0\0"))


@given(value=st.decimals(-99999, 99999, places=1).map(float))
def test_a_float_of_four_bytes_is_the_decimal_that_was_meant(value: float) -> None:
    """Six digits survive."""
    record = messages.labelled(messages.write({"Type": 112, "Price": value, "Volume": 1}), "AAPL", "1-1")
    (trade,) = FEED.decode(record)
    assert isinstance(trade, TradeTick)
    assert trade.price == value


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("kind", "field"), [(107, "Price"), (112, "Volume"), (107, "DateTime"), (108, "BidPrice"), (117, "AskQuantity")]
)
def test_a_binary_number_that_is_not_finite_is_an_error(kind: int, field: str, bad: float) -> None:
    """It becomes a dead letter."""
    record = messages.labelled(messages.write({"Type": kind, "Price": 1, "Volume": 1, field: bad}), "AAPL", "1-1")
    with pytest.raises((FrameError, msgspec.ValidationError)):
        FEED.decode(record)


def test_requests_name_a_symbol_by_a_number_that_stays() -> None:
    """A unique one for each, the same when it is asked for again."""
    feed = Dtc()
    first, second = feed.subscribe(["AAPL", "ESH26.CME"])
    assert json.loads(second.frame) == {
        "Type": 101,
        "RequestAction": 1,
        "SymbolID": 2,
        "Symbol": "ESH26",
        "Exchange": "CME",
    }
    assert (second.names, second.id) == (("ESH26.CME",), "2")
    (again,) = feed.subscribe(["AAPL"])
    assert again == first
    (end,) = feed.unsubscribe(["ESH26.CME"])
    assert (json.loads(end.frame)["RequestAction"], json.loads(end.frame)["SymbolID"]) == (2, 2)


@pytest.mark.parametrize(
    ("symbol", "canonical", "name"),
    [
        ("aapl", "AAPL", "AAPL"),
        ("BRK.B", "BRK.B", "BRK.B"),
        ("ESH26.CME", "ESH26.CME", "ESH26.CME"),
        ("ESH26_FUT_CME", "ESH26_FUT_CME.DTC", "ESH26_FUT_CME"),
        ("F.US.EPH26.DTC", "F.US.EPH26.DTC", "F.US.EPH26"),
        ("AAPL.DTC", "AAPL", "AAPL"),
    ],
)
def test_symbols_lead_to_the_server_s_names_and_back(symbol: str, canonical: str, name: str) -> None:
    """What is no canonical form gets our market."""
    assert (FEED.canonical(symbol), FEED.to_venue(canonical)) == (canonical, name)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTC-USD", "BTCUSDT-PERP", 'A_"B', "ESH26"])
def test_other_venues_instruments_are_refused(symbol: str) -> None:
    """A name without an exchange could be a pair."""
    with pytest.raises(SymbolError):
        FEED.canonical(symbol)


def test_the_logon_has_what_is_set_and_without_an_address_there_is_none() -> None:
    """The address has the encoding."""
    login = FEED.login({"DTC_USERNAME": "u", "DTC_PASSWORD": "p"})
    assert login is not None
    assert json.loads(login.frame).items() >= {"Type": 1, "Username": "u", "Password": "p"}.items()
    assert str(FEED.dry({})).startswith("run Sierra Chart with its DTC server, and set DTC_WS_URL")
    assert FEED.dry({"DTC_WS_URL": "dtc://127.0.0.1:11099"}) is None
    for query in ("", "?encoding=json", "?encoding=binary"):
        new_link(f"dtc://127.0.0.1:11099{query}", None, FEED.library)
    for bad in ("dtc://127.0.0.1", "dtc://h:1?encoding=xml", "dtc://h:1?user=s3cret", "tcp://h:1"):
        with pytest.raises(SettingsError, match=r"expected .*dtc://") as refused:
            new_link(bad, None, FEED.library)
        assert "s3cret" not in str(refused.value)


def test_a_request_needs_a_logon_and_a_number_of_its_own(logged_on: Session) -> None:
    """A reject for what is unknown or taken."""
    request = {"Type": 101, "RequestAction": 1, "SymbolID": 1, "Symbol": "AAPL"}
    assert sent(session("dtc"), request)[1] == [Close(0, "no logon")]
    assert [m["Type"] for m in sent(logged_on, request)[0]] == [104]
    assert [m["RejectText"] for m in sent(logged_on, {**request, "Symbol": "MSFT"})[0]] == ["SymbolID is in use"]
    assert [m["RejectText"] for m in sent(logged_on, {**request, "SymbolID": 2, "Symbol": "x"})[0]] == [
        "Unknown symbol"
    ]
    assert sent(logged_on, {"Type": 5})[1] == [Close(0, "logged off")]
    assert logged_on.received("nonsense", NOW_NS) == [Close(0, "no DTC message")]


def test_heartbeats_go_both_ways(logged_on: Session) -> None:
    """At the interval that was asked for; a client without any is logged off."""
    assert logged_on.tick(NOW_NS + 9 * SECOND_NS, 0) == []
    (beat,) = logged_on.tick(NOW_NS + 10 * SECOND_NS, 0)
    assert isinstance(beat, Send)
    assert json.loads(beat.text)["Type"] == 3
    off, end = logged_on.tick(NOW_NS + 21 * SECOND_NS, 0)
    assert isinstance(off, Send)
    assert json.loads(off.text)["Reason"] == "No heartbeats"
    assert isinstance(end, Close)


def test_what_a_fault_makes_of_a_message_is_sent_as_a_message_of_no_kind(logged_on: Session) -> None:
    """So that the stream goes on; its reader cannot understand it."""
    for text in ('{"Type":107,"Sym', '{"Type":[],"SymbolID":1}', '{"Type":108,"DateTime":"junk"}', "\xff\xfe"):
        (message,) = Messages().cut(bytearray(logged_on.wire(text)))
        assert messages.sized(message) == 0xFFFF
