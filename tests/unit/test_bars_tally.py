"""A bar's sums: the same to the last bit in whatever order and in whatever parts they were put together."""

from __future__ import annotations

import random
from fractions import Fraction
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.bars.tally import UNPUBLISHED, Tally, exact, pack, unpack

AMOUNTS = st.floats(min_value=-1e140, max_value=1e140, allow_nan=False)
EVERYDAY = st.integers(0, 10**9).map(lambda units: units / 1e5)


def tally(*values: float) -> Tally:
    mark = (1, "binance", 1, "7", 1.5)
    return Tally("S", "1m", 0, UNPUBLISHED, len(values), 2.0, 1.0, mark, mark, list(values), list(values))


@given(st.lists(AMOUNTS, min_size=1, max_size=30), st.randoms())
def test_exact_sum_loses_nothing_and_knows_no_order(values: list[float], rng: random.Random) -> None:
    """The terms add up to the true sum, as fractions; the first is it rounded once; the terms depend on it alone."""
    terms = exact(values.copy())
    assert sum(map(Fraction, terms)) == sum(map(Fraction, values))
    assert terms[0] == fsum(values)
    rng.shuffle(values)
    assert exact(values) == terms
    assert len(terms) <= 40


@given(st.lists(EVERYDAY, min_size=1, max_size=200))
def test_exact_sum_of_what_markets_trade_is_a_few_terms(values: list[float]) -> None:
    """A bar's state stays small."""
    assert len(exact(values)) <= 3


@pytest.mark.parametrize("values", [[0.0], [-0.0], [0.0, -0.0], [1.5, -1.5]])
def test_exact_sum_of_nothing_is_one_zero(values: list[float]) -> None:
    """Without a sign: else it would show how the sum was made."""
    assert [str(term) for term in exact(values)] == ["0.0"]


@given(st.lists(EVERYDAY, min_size=1, max_size=300), st.data())
def test_parts_in_any_grouping_come_to_the_same_tally(values: list[float], data: st.DataObject) -> None:
    """Trades are summed per batch and slot, slots per interval: where the cuts are does not show."""
    whole = tally(*values)
    whole.settle()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(values)), max_size=5)) - {len(values)})
    parts = [tally(*values[a:b]) for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True)]
    first, *others = data.draw(st.permutations(parts))
    for part in others:
        if data.draw(st.booleans()):
            part.settle()
        first.add(part)
    first.settle()
    assert pack(first) == pack(whole)


def test_a_bar_within_a_longer_one_is_a_copy() -> None:
    """What is added to the one does not show in the other."""
    part = tally(1.0, 2.0)
    longer = part.within("5m", 0)
    longer.add(tally(4.0))
    assert (part.volume, part.trades) == ([1.0, 2.0], 2)
    assert (longer.interval, fsum(longer.volume), longer.trades) == ("5m", 7.0, 3)


def test_a_packed_bar_comes_back_as_it_was() -> None:
    """Every field, to the bit."""
    bar = tally(0.1, 0.2, 1e-9)
    bar.settle()
    assert pack(unpack(pack(bar))) == pack(bar)
