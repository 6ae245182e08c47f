"""Which chunks are delivered: none is passed over because others came, in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mdstream.transport.assigned import Assigned, Course

START = 100
elsewhere = st.integers(0, 200).filter(lambda offset: offset != START)


def test_the_chunk_that_was_asked_for_is_delivered() -> None:
    assert Assigned(START, None).course(START, START) is Course.DELIVER


@given(st.lists(st.tuples(elsewhere, st.integers(0, 5)), min_size=1))
def test_a_chunk_from_elsewhere_is_never_delivered(chunks: list[tuple[int, int]]) -> None:
    """However often: earlier chunks were dropped, the records between are still to come."""
    assigned = Assigned(START, None)
    courses = [assigned.course(requested, requested + hole) for requested, hole in chunks]
    assert courses == [Course.READ_AGAIN, *[Course.CHECK_BOUNDS] * (len(chunks) - 1)]
    assert assigned.course(START, START) is Course.DELIVER


@given(st.lists(elsewhere), st.integers(1, 50))
def test_a_hole_is_accepted_when_the_broker_skips_it_twice(between: list[int], hole: int) -> None:
    """One answer may lack a batch; chunks from elsewhere say nothing about it."""
    assigned = Assigned(START, None)
    assert assigned.course(START, START + hole) is Course.READ_AGAIN
    for requested in between:
        assert assigned.course(requested, requested) is not Course.DELIVER
    assert assigned.course(START, START + hole) is Course.DELIVER


def test_a_hole_is_asked_for_again_after_a_dropped_chunk() -> None:
    """What was dropped may have been what is missing."""
    assigned = Assigned(START, None)
    assert assigned.course(START, START + 1) is Course.READ_AGAIN
    assigned.forget_hole()
    assert assigned.course(START, START + 1) is Course.READ_AGAIN
