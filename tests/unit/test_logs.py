"""mdstream/kafka/logs.py: a chunk of records is handed over up to the first offset that is missing."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from mdstream.kafka.logs import before_hole


def records(offsets: list[int]) -> list[ConsumerRecord[Any, Any]]:
    return [ConsumerRecord("t", 0, offset, 0, 1, None, b"", None, 0, 0, ()) for offset in offsets]


def taken(offsets: list[int], due: int, forgiven: int | None = None) -> list[int]:
    return [record.offset for record in before_hole(records(offsets), due, forgiven=forgiven)]


@pytest.mark.parametrize(
    ("offsets", "due", "forgiven", "expected"),
    [
        ([5, 6, 7], 5, None, [5, 6, 7]),
        ([5, 6, 8], 5, None, [5, 6]),
        ([6, 7], 5, None, []),
        ([6, 7], 5, 5, [6, 7]),
        ([6, 7, 9], 5, 5, [6, 7]),
        ([5, 7], 5, 5, [5]),
        ([5, 7], 5, 3, [5]),
    ],
    ids=["whole", "in the middle", "at the beginning", "gone for good", "two", "came after all", "another one"],
)
def test_chunk_ends_before_what_is_missing(
    offsets: list[int], due: int, forgiven: int | None, expected: list[int]
) -> None:
    """A hole is asked for again once; where it comes back as it was, reading goes on behind it."""
    assert taken(offsets, due, forgiven) == expected


@given(st.sets(st.integers(0, 30), min_size=1))
def test_whole_log_is_read_whatever_is_missing(present: set[int]) -> None:
    """A reader that asks again from where it stopped gets every record that is there, in order, once."""
    due, forgiven, got = 0, None, []
    while chunk := [offset for offset in sorted(present) if offset >= due]:
        whole = taken(chunk, due, forgiven)
        got += whole
        due = whole[-1] + 1 if whole else due
        forgiven = due if len(whole) < len(chunk) else forgiven
    assert got == sorted(present)
