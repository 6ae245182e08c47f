"""What may be asked of the history: everything that an index serves, and nothing else."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.api.history import EPOCH, KINDS, Query, QueryError, once, page_of, query_of

NOW_US = 1_767_625_200_000_000
NOON = EPOCH + timedelta(microseconds=NOW_US)


def asked(kind: str, **given: str) -> Query:
    return query_of(kind, {"symbol": "BTCUSDT", **given}, NOW_US)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_time_the_last_day_is_asked_for(kind: str) -> None:
    found = asked(kind)
    assert (found.values["from"], found.values["to"]) == (NOON - timedelta(days=1), NOON)
    assert (found.limit, found.values["rows"]) == (1_000, 1_001)


@pytest.mark.parametrize(
    ("kind", "given", "why"),
    [
        ("trades", {"symbol": ""}, "all symbols at once would be a scan, so ask for one"),
        ("trades", {"symbol": "A B"}, "symbol='A B': expected one like BTCUSDT"),
        ("trades", {"from": "2016-01-05T15:00:00Z"}, "3653 days apart, at most 31 days: narrow them"),
        ("bars", {"interval": "1s", "from": "2025-12-01T00:00:00Z"}, "at most 1.157 days: narrow them"),
        ("gaps", {"from": "2024-01-05T15:00:00Z"}, "at most 366 days: narrow them"),
        ("quotes", {"from": "2026-01-05T15:00:00Z"}, "from is not before to"),
        ("quotes", {"from": "yesterday"}, "from='yesterday': expected a time like 2026-01-05T15:00:00Z, or ns"),
        ("quotes", {"to": "9999999999999999999"}, "to='9999999999999999999': expected a time"),
        ("quotes", {"limit": "0"}, "limit='0': expected 1 to 10000"),
        ("quotes", {"limit": "10001"}, "limit='10001': expected 1 to 10000"),
        ("quotes", {"limit": "x"}, "limit='x': expected 1 to 10000"),
        ("bars", {"interval": "1 minute"}, "interval='1 minute': expected one like 1s, 1m or 1h"),
        ("trades", {"interval": "1m"}, "unknown parameter 'interval': there are symbol, from, to, limit, cursor"),
        ("trades", {"cursor": "x"}, "cursor is not one of ours"),
        ("trades", {"cursor": "W10"}, "cursor is not one of ours"),
        ("trades", {"cursor": "NQ"}, "cursor is not one of ours"),
        ("quotes", {"cursor": "Wy0xLDFd"}, "cursor is not one of ours"),
    ],
)
def test_what_no_index_serves_is_refused_with_what_to_change(kind: str, given: dict[str, str], why: str) -> None:
    with pytest.raises(QueryError) as refused:
        asked(kind, **given)
    assert why in str(refused.value)


def test_what_is_given_twice_is_refused() -> None:
    """The rows of one symbol would look like those of two."""
    assert once([("symbol", "A"), ("limit", "5")]) == {"symbol": "A", "limit": "5"}
    with pytest.raises(QueryError, match="symbol is given twice: ask for one after the other"):
        once([("symbol", "A"), ("symbol", "B")])


def test_a_stretch_of_bars_is_as_long_as_their_number() -> None:
    assert asked("bars", interval="1d", **{"from": "1990-01-05T15:00:00Z"}).values["interval"] == "1d"


def test_a_time_between_two_microseconds_begins_with_the_later_one() -> None:
    """Stored times are rounded down: a row of the earlier one may be from before."""
    found = asked("trades", **{"from": "1767600000000000001", "to": "1767600000000002000"})
    assert found.values["from"] == EPOCH + timedelta(microseconds=1_767_600_000_000_001)
    assert found.values["to"] == EPOCH + timedelta(microseconds=1_767_600_000_000_002)


def row(n: int) -> dict[str, Any]:
    columns = dict.fromkeys(KINDS["trades"].columns, None)
    moment = NOON + timedelta(microseconds=n)
    return columns | {
        "timestamp": moment,
        "place_0": moment,
        "place_1": n,
        "place_2": "x",
        "place_3": "y",
        "place_4": "z",
    }


@given(st.integers(1, 5), st.integers(0, 12))
def test_a_page_has_a_cursor_exactly_if_there_is_more(limit: int, count: int) -> None:
    """The row beyond the page is not shown, and the next page begins with it."""
    found = asked("trades", limit=str(limit))
    page = page_of(found, [row(n) for n in range(count)][: limit + 1])
    assert [each["timestamp"] for piece in page.pieces(3) for each in piece] == [
        (NOW_US + n) * 1000 for n in range(min(limit, count))
    ]
    assert (page.cursor is not None) == (count > limit)
    if page.cursor:
        following = asked("trades", limit=str(limit), to="2026-01-06T15:00:00Z", cursor=page.cursor).values
        last = row(limit - 1)
        assert [following[f"after_{n}"] for n in range(5)] == [last[f"place_{n}"] for n in range(5)]
        assert following["from"] == last["timestamp"]


@pytest.mark.parametrize("trade_id", ["\0", "\ud800", 5, None])
def test_a_cursor_has_only_what_is_stored(trade_id: object) -> None:
    """Anybody can make one; the database must not be asked what it cannot read."""
    cursor = urlsafe_b64encode(json.dumps([NOW_US - 1, 1, "x", "y", trade_id]).encode()).decode()
    with pytest.raises(QueryError, match="cursor is not one of ours"):
        asked("trades", cursor=cursor)


@given(st.sampled_from(sorted(KINDS)), st.text(max_size=40))
def test_no_cursor_breaks_a_query(kind: str, cursor: str) -> None:
    with pytest.raises(QueryError, match="cursor is not one of ours"):
        asked(kind, cursor=cursor)
