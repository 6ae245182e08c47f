"""Numbers and times as venues write them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.simulator.text import fixed, rfc3339, shortest


@pytest.mark.parametrize(
    ("decimals", "width", "number", "text"),
    [
        (2, 8, 9374120, "93741.20000000"),
        (2, 2, 9374120, "93741.20"),
        (0, 8, 6311, "6311.00000000"),
        (0, 0, 7, "7"),
        (8, 8, 1, "0.00000001"),
    ],
)
def test_fixed_writes_every_decimal(decimals: int, width: int, number: int, text: str) -> None:
    """Zeros fill up to the width, and a number without decimals gets its point."""
    assert fixed(decimals, width)(number) == text


@pytest.mark.parametrize(
    ("decimals", "number", "text"),
    [(2, 9374120, "93741.2"), (1, 937410, "93741"), (0, 100, "100"), (3, 1000, "1"), (2, 0, "0")],
)
def test_shortest_writes_no_trailing_zero(decimals: int, number: int, text: str) -> None:
    """Trailing zeros are left out, and the point if nothing follows it; other zeros stay."""
    assert shortest(decimals)(number) == text


@given(st.integers(min_value=0, max_value=10**14), st.integers(min_value=0, max_value=8))
def test_writers_lose_no_digit(number: int, decimals: int) -> None:
    """What is written is exactly the number of ticks."""
    for writer in (fixed(decimals, 8), shortest(decimals)):
        assert Decimal(writer(number)) == Decimal(number).scaleb(-decimals)


def test_rfc3339_is_cut_off_at_microseconds() -> None:
    """Coinbase's times: UTC, six digits."""
    assert rfc3339(1_767_625_200_123_456_789) == "2026-01-05T15:00:00.123456Z"
