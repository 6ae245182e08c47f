"""mdstream/repair/budget.py: in no span of time is more spent than the limits say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.repair.budget import Budget
from mdstream.repair.venues import HISTORIES
from mdstream.venues.past import Limits

LIMITS = Limits(per_s=5.0, burst=10.0)


@given(
    st.lists(st.tuples(st.floats(0.1, 10.0), st.floats(0.0, 3.0)), max_size=40),
    st.floats(0.5, 100.0),
    st.floats(10.0, 200.0),
)
def test_budget_never_spends_more_than_burst_and_rate_allow(
    requested: list[tuple[float, float]], per_s: float, burst: float
) -> None:
    """Over every span between two requests, for a caller that waits as long as asked."""
    budget, now_s = Budget(Limits(per_s=per_s, burst=burst)), 100.0
    spent: list[tuple[float, float]] = []
    for cost, idle_s in requested:
        now_s += idle_s
        now_s += budget.wait_s(cost, now_s)
        budget.spend(cost, now_s)
        spent.append((now_s, cost))
    for i, (begin_s, _) in enumerate(spent):
        for j in range(i, len(spent)):
            total = sum(cost for _, cost in spent[i : j + 1])
            assert total <= burst + per_s * (spent[j][0] - begin_s) + 1e-6


def test_budget_lets_a_burst_through_and_then_paces() -> None:
    """Ten units at once, from then on five a second."""
    budget = Budget(LIMITS)
    for _ in range(10):
        assert budget.wait_s(1.0, 0.0) == 0.0
        budget.spend(1.0, 0.0)
    assert budget.wait_s(1.0, 0.0) == pytest.approx(0.2)
    assert budget.wait_s(5.0, 0.0) == pytest.approx(1.0)
    assert budget.wait_s(5.0, 1.0) == pytest.approx(0.0)


def test_budget_lets_what_costs_more_than_the_burst_through_when_it_is_full() -> None:
    """It would wait for ever otherwise; what it overdraws has to come back first."""
    budget = Budget(LIMITS)
    assert budget.wait_s(20.0, 0.0) == 0.0
    budget.spend(20.0, 0.0)
    assert budget.wait_s(1.0, 0.0) == pytest.approx(11 / 5)


def test_budget_that_is_held_waits_however_much_is_left() -> None:
    """The latest of several holds counts."""
    budget = Budget(LIMITS)
    budget.hold(30.0)
    budget.hold(20.0)
    assert budget.wait_s(1.0, 10.0) == pytest.approx(20.0)
    assert budget.wait_s(1.0, 30.0) == 0.0


PUBLISHED = {"binance": (6000, 60.0), "binance_coinm": (2400, 60.0), "coinbase": (10, 1.0), "okx": (20, 2.0)}
"""Units and seconds, as the venues publish them."""


@pytest.mark.parametrize("name", HISTORIES)
def test_limits_of_a_venue_are_a_safe_share_of_what_it_publishes(name: str) -> None:
    """Half of it in the long run, and not even with a burst the whole of it in one of its windows."""
    units, window_s = PUBLISHED[name]
    limits = HISTORIES[name].limits
    assert limits.per_s <= units / window_s / 2
    assert limits.burst + limits.per_s * window_s <= units
