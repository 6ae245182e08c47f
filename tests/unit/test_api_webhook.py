"""What becomes of an alert: which are read, which are late or known, and that nothing grows without bound."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.api.webhook import BUSY, PENDING, REPEATED, Alert, Rates, Reader, Refusal, Remembered
from mdstream.venues.past import Limits

NOON_NS = 1_767_625_200_000_000_000
NOON = "2026-01-05T15:00:00Z"
S = 1_000_000_000
READER = Reader(120 * S)


def body(**changed: Any) -> bytes:
    return json.dumps({"symbol": "BINANCE:BTCUSDT", "price": 93741.2, "timenow": NOON, "id": "a1", **changed}).encode()


def refused(text: bytes, now_ns: int = NOON_NS) -> Refusal:
    found = READER.read(text, now_ns)
    assert isinstance(found, Refusal)
    return found


# -- reading


def test_an_alert_is_read_under_its_symbol_and_id() -> None:
    found = READER.read(body(), NOON_NS)
    assert isinstance(found, Alert)
    assert (found.symbol, found.trade_id) == ("BINANCE:BTCUSDT.TV", "a1")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "truncated"),
        (b"BTCUSDT crossed 93741.2", "malformed"),
        (b"{}", "give it as symbol, or as ticker and exchange"),
        (body(price=None), "give it as price or close"),
        (body(price="NaN"), "price"),
        (body(price=1e300), "price"),
        (body(size=-1), "size"),
        (body(side="long"), "side"),
        (body(timenow=""), "give it as timenow or time"),
        (body(timenow="yesterday"), "not a UTC time"),
        (body(timenow="1960-01-05T15:00:00Z"), "not a valid time"),
        (body(id="x" * 65), "id"),
        (body(id="x\0y"), "id"),
        (body(id="\0\n"), "id"),
        (body()[:-1], "truncated"),
        (body() + b"x", "malformed"),
        (b"[" * 60_000, "array"),
        (b'{"x":' + b"[" * 60_000, "not JSON that can be read"),
        (b'{"symbol":"\xff"}', "not JSON that can be read"),
    ],
)
def test_a_body_that_is_no_alert_says_what_is_wrong(text: bytes, why: str) -> None:
    """To its sender, who knows the secret."""
    found = refused(text)
    assert found.status == 400
    assert why in found.error


@given(st.binary(max_size=300))
def test_any_bytes_are_an_alert_or_refused(text: bytes) -> None:
    assert isinstance(READER.read(text, NOON_NS), Alert) or refused(text).status == 400


@given(st.integers(-1_000, 1_000))
def test_an_alert_is_in_time_within_the_window_on_both_sides(late_s: int) -> None:
    """Our clock may be behind the sender's."""
    found = READER.read(body(), NOON_NS + late_s * S)
    if abs(late_s) <= 120:
        assert isinstance(found, Alert)
    else:
        assert found == Refusal(
            403, "its time is more than 120 s from ours: give the time at which it was sent as timenow"
        )


def test_alerts_of_two_instruments_with_one_id_are_two() -> None:
    one, other = READER.read(body(), NOON_NS), READER.read(body(symbol="BTCUSDT"), NOON_NS)
    assert isinstance(one, Alert)
    assert isinstance(other, Alert)
    assert one.identity != other.identity


# -- remembering


def test_an_alert_is_accepted_once_and_only_when_kafka_has_it() -> None:
    """A repeat in the meantime must not hear that it is in: Kafka may still be lost with it."""
    seen = Remembered(240 * S)
    assert seen.begin(b"a", 0) is None
    assert seen.begin(b"a", 1) == PENDING
    seen.accept(b"a")
    assert seen.begin(b"a", 2) == REPEATED
    assert seen.begin(b"b", 3) is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(-120, 120), st.integers(0, 200)), max_size=60))
def test_no_alert_is_accepted_twice_while_its_time_is_within_the_window(arrivals: list[tuple[int, int, int]]) -> None:
    """Whenever it comes again: as long as the reader takes it, it is remembered."""
    seen, accepted, now_s = Remembered(240 * S), set(), 1_767_625_200
    sent: dict[int, int] = {}
    for number, ahead_s, later_s in arrivals:
        now_s += later_s
        at_s = sent.setdefault(number, now_s + ahead_s)
        alert = READER.read(body(id=str(number), timenow=at_s * 1000), now_s * S)
        if isinstance(alert, Alert) and seen.begin(alert.identity, now_s * S) is None:
            assert number not in accepted
            accepted.add(number)
            seen.accept(alert.identity)


def test_ids_are_forgotten_after_their_time_and_bounded_before() -> None:
    """With no room left, a new alert waits: forgetting an old one would let that in again."""
    seen = Remembered(240 * S, max_ids=2)
    assert [seen.begin(each, 0) for each in (b"a", b"b", b"c")] == [None, None, BUSY]
    assert seen.begin(b"c", 240 * S) == BUSY
    assert seen.begin(b"c", 240 * S + 1) is None
    assert len(seen) == 1
    seen.accept(b"a")  # Kafka had it later than it was remembered
    assert len(seen) == 1


# -- rates


def test_a_source_is_slowed_down_without_the_others() -> None:
    """And is told when to come again."""
    rates = Rates(Limits(per_s=0.5, burst=2))
    assert [rates.admit("a", 0.0) for _ in range(3)] == [None, None, Refusal(429, "too many requests", 3)]
    assert rates.admit("b", 0.0) is None
    assert rates.admit("a", 2.0) is None
    assert rates.admit("a", 2.0) is not None


@given(st.lists(st.floats(0, 2), max_size=80))
def test_no_more_than_burst_and_rate_are_admitted(pauses: list[float]) -> None:
    rates, now_s, admitted = Rates(Limits(per_s=3, burst=5)), 0.0, 0
    for pause in pauses:
        now_s += pause
        admitted += rates.admit("a", now_s) is None
        assert admitted <= 5 + 3 * now_s + 1e-6


def test_only_the_sources_of_late_are_remembered() -> None:
    """An attacker with many addresses takes no memory; who calls all the time stays known."""
    rates = Rates(Limits(per_s=0.001, burst=1), max_sources=2)
    assert rates.admit("a", 0.0) is None
    assert rates.admit("b", 0.0) is None
    assert rates.admit("a", 0.0) is not None
    assert rates.admit("c", 0.0) is None  # b is forgotten
    assert rates.admit("a", 0.0) is not None
    assert rates.admit("b", 0.0) is None
