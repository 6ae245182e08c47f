"""Every symbol is one token of a subject, ordinary ones unchanged, and can be decoded; every event has one id."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sink_builders import T0, trade

from mdstream import events
from mdstream.events import Bar, BookL2, Event, FeedStatus, Gap, Heartbeat, Quote
from mdstream.sinks.subjects import Head, Unnumbered, decode_token, encode_token, identity_of, named, tail_of

TOKEN = re.compile(r"[!-~]+")
BAR = Bar("BTCUSDT", "1m", T0, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 7, 0)


@given(st.text() | st.text(alphabet="%.*> 0A\x00\x7féß€\U0001f600"))
def test_token_is_one_of_nats_and_gives_the_symbol_back(symbol: str) -> None:
    """Neither separator nor wildcard nor blank, nothing beyond printable ASCII, never empty."""
    token = encode_token(symbol)
    assert TOKEN.fullmatch(token)
    assert not set(token) & set(".*> \t")
    assert decode_token(token) == symbol


@given(st.text(), st.text())
def test_two_symbols_never_share_a_token(one: str, other: str) -> None:
    assert (encode_token(one) == encode_token(other)) == (one == other)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=".*>%"), min_size=1))
def test_ordinary_symbols_stay_as_they_are(symbol: str) -> None:
    assert encode_token(symbol) == symbol


@pytest.mark.parametrize(
    ("symbol", "token"),
    [
        ("BTCUSDT", "BTCUSDT"),
        ("BTC-USDT-SWAP", "BTC-USDT-SWAP"),
        ("__system__", "__system__"),
        ("BRK.B", "BRK%2EB"),
        ("ES 03-26", "ES%2003-26"),
        ("*", "%2A"),
        (">", "%3E"),
        ("50%", "50%25"),
        ("GRÜN", "GR%C3%9CN"),
        ("\ud800", "%ED%A0%80"),
        ("", "%"),
    ],
)
def test_tokens_are_as_documented(symbol: str, token: str) -> None:
    assert encode_token(symbol) == token
    assert decode_token(token) == symbol


EVENTS: list[tuple[Event, str]] = [
    (trade(), "trade.BTCUSDT"),
    (Quote("BRK.B", 7, "alpaca", 1.0, 1.0, 2.0, 1.0, None, T0), "quote.BRK%2EB"),
    (BookL2("BTCUSDT", 7, "okx", [], [], None, T0), "book.BTCUSDT"),
    (BAR, "bar.BTCUSDT"),
    (Heartbeat(events.SYSTEM, "okx", None, T0), "heartbeat.__system__"),
    (FeedStatus(events.SYSTEM, "okx", "connected", None, T0), "status.__system__"),
    (Gap("BTCUSDT", "binance", "7", "9", "open", T0, 3), "gap.BTCUSDT"),
]


@pytest.mark.parametrize(("event", "tail"), EVENTS, ids=[tail for _, tail in EVENTS])
def test_every_type_of_event_has_its_subject(event: Event, tail: str) -> None:
    assert tail_of(type(event), event.symbol) == tail
    head = named(events.encode(event))
    assert tail_of(type(head), head.symbol) == tail


def test_events_with_a_number_are_read_no_further_than_that() -> None:
    """The others are decoded whole: all their fields are their identity."""
    for event, _ in EVENTS:
        found = named(events.encode(event))
        if isinstance(found, Head):
            assert (found.symbol, found.seq) == (event.symbol, getattr(event, "seq", None))
        else:
            assert found == event


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b'{"type":"trade","symbol":"A"}', b'{"type":"trade","symbol":"A","seq":"1"}', b'{"type":"x"}', b"[]"],
)
def test_what_has_no_name_is_refused(value: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        named(value)


def test_types_in_subjects_are_those_in_the_records() -> None:
    """Readers of the subject and readers of `type` agree."""
    for event, tail in EVENTS:
        assert f'{{"type":"{tail.partition(".")[0]}"'.encode() in events.encode(event)


def test_bar_is_identified_by_interval_opening_and_revision() -> None:
    """A bar that is published again with a higher revision is another message."""
    others = [
        BAR,
        Bar("BTCUSDT", "5m", T0, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 7, 0),
        Bar("BTCUSDT", "1m", T0 + 1, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 7, 0),
        Bar("BTCUSDT", "1m", T0, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 7, 1),
    ]
    assert identity_of(BAR, b"whatever") == f"1m.{T0}.0"
    assert len({identity_of(bar, events.encode(bar)) for bar in others}) == len(others)


def test_status_is_identified_by_all_its_fields() -> None:
    """The same record has the same id wherever it comes from, and one that differs in anything has another."""
    events_: list[Unnumbered] = [event for event, _ in EVENTS if isinstance(event, FeedStatus | Gap | Heartbeat)]
    events_ += [
        Heartbeat(events.SYSTEM, "okx", T0 - 9, T0),
        FeedStatus(events.SYSTEM, "okx", "disconnected", None, T0),
        FeedStatus(events.SYSTEM, "okx", "disconnected", "why", T0),
        Gap("BTCUSDT", "binance", "7", "9", "closed", T0, 0),
    ]
    ids = [identity_of(event, events.encode(event)) for event in events_]
    assert len(set(ids)) == len(ids)
    assert all(TOKEN.fullmatch(each) for each in ids)
    assert ids[0].startswith(f"okx.{T0}.")
    assert [identity_of(event, events.encode(event)) for event in events_] == ids
