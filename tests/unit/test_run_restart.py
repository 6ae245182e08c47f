"""When a part that ended is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mdstream.run.restart import MAX_S, MIN_S, STEADY_S, Restarts, meaning

STATUSES = st.integers(-15, 255).filter(lambda status: status != 2)


@given(st.lists(st.tuples(STATUSES, st.floats(0, STEADY_S, exclude_max=True)), min_size=1, max_size=12))
def test_waits_double_while_a_part_does_not_stay_up(ends: list[tuple[int, float]]) -> None:
    """A part that cannot start must not keep the machine busy; it is tried for ever, 30 s apart at the most."""
    restarts = Restarts()
    waits = [restarts.after(*end) for end in ends]
    assert waits == [min(MIN_S * 2**count, MAX_S) for count in range(len(ends))]
    assert restarts.count == len(ends)


def test_a_steady_run_is_followed_by_the_least_wait() -> None:
    """What failed an hour ago says nothing about now."""
    restarts = Restarts()
    for _ in range(5):
        restarts.after(1, 0.1)
    assert restarts.after(1, STEADY_S) == MIN_S


def test_a_part_that_was_stuck_is_started_again_at_once() -> None:
    """Exit status 75 asks for it. One that is stuck right after each start waits like any other."""
    restarts = Restarts()
    assert restarts.after(75, STEADY_S) == 0
    assert restarts.after(75, 1.0) == 2 * MIN_S


def test_a_part_with_wrong_settings_is_not_started_again() -> None:
    """It would fail in the same way each time: exit status 2 asks for a person."""
    assert Restarts().after(2, 1e6) is None


def test_meaning_says_how_a_part_ended() -> None:
    """As the supervisor shows it."""
    assert [meaning(status) for status in (1, 75, -9)] == [
        "ended with status 1",
        "ended with status 75, as it was stuck",
        "was ended by signal 9",
    ]
