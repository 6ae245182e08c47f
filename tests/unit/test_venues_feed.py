"""What the providers share: bounded memory for names, sides of the book, times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.errors import FrameError
from mdstream.venues.feed import Remembered
from mdstream.venues.parsing import side_of_book
from mdstream.venues.times import epoch_ns, rfc3339_ns

SECOND_NS = 1_000_000_000
NOON_NS = 1_767_614_400 * SECOND_NS  # 2026-01-05T12:00:00Z


def test_remembered_asks_its_function_once_a_key() -> None:
    """Later answers come from memory."""
    requested: list[int] = []

    def square(key: int) -> int:
        requested.append(key)
        return key * key

    squares = Remembered(square)
    assert [squares[3], squares[3], squares[4]] == [9, 9, 16]
    assert requested == [3, 4]


def test_remembered_forgets_rather_than_grow_past_its_bound() -> None:
    """Keys come from the wire: a flood of new ones must not fill the memory."""
    same = Remembered[int, int](lambda key: key, max_size=10)
    for key in range(1_000):
        assert same[key] == key
        assert len(same) <= 10


@pytest.mark.parametrize(
    ("price", "size", "message"),
    [
        ("93741.1", "0.25", (93741.1, 0.25)),
        ("93741.1", "", (93741.1, None)),
        ("", "", (None, None)),
        ("0", "0", (None, None)),
        ("0.00000000", "", (None, None)),
        ("", "7", (None, None)),
    ],
)
def test_side_of_book_is_null_without_a_price(
    price: str, size: str, message: tuple[float | None, float | None]
) -> None:
    """An empty side has neither price nor size; a size that is not given is null, not zero."""
    assert side_of_book(price, size) == message


@pytest.mark.parametrize(("price", "size"), [("abc", "1"), ("1", "abc"), ("nan", "1"), ("1", "inf"), ("1e999", "1")])
def test_side_of_book_refuses_what_is_no_finite_number(price: str, size: str) -> None:
    """With a FrameError, which becomes the dead letter's reason."""
    with pytest.raises(FrameError, match="not a"):
        side_of_book(price, size)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-01-05T12:00:00Z", NOON_NS),
        ("2026-01-05T12:00:00.5Z", NOON_NS + 500_000_000),
        ("2026-01-05T12:00:00.123456Z", NOON_NS + 123_456_000),
        ("2026-01-05T12:00:00.1234567Z", NOON_NS + 123_456_700),
        ("2026-01-05T12:00:00.123456789Z", NOON_NS + 123_456_789),
        ("2026-01-05T12:00:00.000000001Z", NOON_NS + 1),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_rfc3339_ns_is_exact_to_the_nanosecond(text: str, ns: int) -> None:
    """No digit is rounded away, none is invented."""
    assert rfc3339_ns(text) == ns


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)),
    st.integers(0, SECOND_NS - 1),
)
def test_rfc3339_ns_agrees_with_datetime(timestamp: datetime, fraction_ns: int) -> None:
    """For any second and any nanosecond of it."""
    second = timestamp.replace(microsecond=0)
    since = second.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    assert (
        rfc3339_ns(f"{second.isoformat()}.{fraction_ns:09d}Z")
        == since // timedelta(seconds=1) * SECOND_NS + fraction_ns
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "2026-01-05",
        "2026-01-05T12:00:00",
        "2026-01-05T12:00:00.1234567890Z",
        "2026-01-05T12:00:00.Z",
        "2026-01-05T12:00:00.12a4Z",
        "2026-01-05T12:00:00.1_2Z",
        "2026-01-05T12:00:00,123Z",
        "2026-13-05T12:00:00Z",
        "2026-01-05T25:00:00Z",
        "2026-01-05T12:00:00+02:00",
        "2026-W01-1T12:00:00Z",
        "1767625200",
    ],
)
def test_rfc3339_ns_refuses_anything_else(text: str) -> None:
    """A time in another form would be wrong by hours: better a dead letter."""
    with pytest.raises(FrameError, match="not a UTC time"):
        rfc3339_ns(text)


def test_epoch_changes_its_unit_where_nobody_trades() -> None:
    """The largest millisecond is in 2255, the smallest microsecond in April 1970."""
    assert epoch_ns(8_999_999_999_999) == 8_999_999_999_999_000_000
    assert epoch_ns(9_000_000_000_000) == 9_000_000_000_000_000
