"""Finds the numbers of a group that a SQLite database holds with another content: see numbers.py."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mdstream.sinks.spans import spans

NEAR_NS = 60_000_000_000
"""How far from a group's own times a number is looked up."""
MAX_NS = (1 << 63) - 1


def clashes(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], time: str, rows: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[str, int]]:
    """Symbol and number of the rows whose number another row has, of these or of the table near them in time.

    `columns` are the rows', symbol and number first; `time` is the one to search the table by. Rows without a time are
    only compared with one another.
    """
    at = columns.index(time)
    contents: defaultdict[str, defaultdict[int, set[tuple[Any, ...]]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        contents[row[0]][row[1]].add(row)
    query = f"SELECT {', '.join(columns)} FROM {table} WHERE symbol = ? AND {time} BETWEEN ? AND ?"  # noqa: S608  our names
    for symbol, of_number in contents.items():
        times_ns = [row[at] for some in of_number.values() for row in some if row[at] is not None]
        for bounds in _stretches(times_ns):
            for stored in connection.execute(query, (symbol, *bounds)):
                if stored[1] in of_number:
                    of_number[stored[1]].add(stored)
        yield from ((symbol, number) for number, some in of_number.items() if len(some) > 1)


def _stretches(times_ns: Sequence[int]) -> Iterator[tuple[int, int]]:
    if times_ns:
        for first, last in spans(time_ns // 1000 for time_ns in times_ns):
            yield max(first * 1000 - NEAR_NS, -MAX_NS), min(last * 1000 + 999 + NEAR_NS, MAX_NS)
