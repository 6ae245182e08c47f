"""The file of a backtest: Parquet has the values of the CSV, row for row; neither is there before it is whole."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from senpai_naive import Any_, quote, trade

from mdstream.config import load
from mdstream.errors import SettingsError
from mdstream.events import encode
from mdstream.senpai import table as module
from mdstream.senpai.backtest import backtest
from mdstream.senpai.table import COLUMNS, Table


def rise() -> list[Any_]:
    """A price that rises after a pause: rows without quotes, whole and incomplete ones, a signal."""
    events: list[Any_] = [trade(1, 0)]
    for n in range(2, 300):
        price = 100 * (1 + max(0, n - 150) * 2e-4)
        events += [quote(n, n * 100, price - 0.001, price + 0.001), trade(n + (n > 40), n * 100 + 1, price)]
    return events


def written(path: Path, events: Iterable[Any_]) -> Table:
    with Table(path) as table:
        asyncio.run(backtest(load(), map(encode, events), table))
    return table


def text_of(name: str, value: Any) -> str:
    """A value of a Parquet file as CSV has it."""
    if value is None:
        return ""
    return " ".join(value) if name in module.LISTS else str(value)


def test_parquet_has_the_rows_of_the_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In row groups, so that memory does not depend on how many there are."""
    monkeypatch.setattr(module, "ROWS", 100)
    plain, columns = written(tmp_path / "a.csv", rise()), written(tmp_path / "a.parquet", rise())
    assert (plain.rows, plain.signals) == (columns.rows, columns.signals)
    assert plain.signals > 0
    with (tmp_path / "a.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    found = pq.ParquetFile(tmp_path / "a.parquet")
    assert found.num_row_groups == -(-len(lines) // 100) > 1
    read = found.read()
    assert tuple(read.column_names) == COLUMNS == tuple(head)
    in_ns = [read[name].cast("int64") if name in module.TIMES else read[name] for name in COLUMNS]
    rows = zip(*(column.to_pylist() for column in in_ns), strict=True)
    assert [[text_of(*each) for each in zip(COLUMNS, row, strict=True)] for row in rows] == lines
    assert {str(read.schema.field(name).type) for name in module.TIMES} == {"timestamp[ns, tz=UTC]"}
    assert {each.name for each in tmp_path.iterdir()} == {"a.csv", "a.parquet"}


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_failed_backtest_leaves_the_file_that_was_there(tmp_path: Path, name: str) -> None:
    path, part = tmp_path / name, tmp_path / f"{name}.part"
    path.write_text("the old one")

    def failing() -> Iterator[Any_]:
        yield from rise()
        assert part.exists()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        written(path, failing())
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert path.read_text() == "the old one"


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_backtest_without_events_has_the_columns_alone(tmp_path: Path, name: str) -> None:
    with Table(tmp_path / name):
        pass
    text = (tmp_path / name).read_bytes()
    assert text.startswith(b"symbol,ts,") or pq.read_table(tmp_path / name).num_rows == 0


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"a\.parquet cannot be written: No such file or directory"):
        Table(tmp_path / "none" / "a.parquet")
