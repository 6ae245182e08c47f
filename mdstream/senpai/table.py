"""The file that a backtest writes, a line per row: CSV, or Parquet if it is called so.

rows and signals ─ Table: ROWS of them ─> FILE.part ─ whole ─> FILE
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from mdstream.client.extras import needed
from mdstream.errors import SettingsError
from mdstream.senpai.features import FEATURES
from mdstream.senpai.messages import Features, Message, Signal

ROWS = 20_000
"""What is held in memory, and a row group of a Parquet file."""
TEXTS, TIMES, LISTS = {"symbol", "provider"}, {"ts", "ts_quote"}, {"incomplete", "signals"}
FLAGS, INTEGERS = {"complete", "switched", "late"}, {"trade_count_10s"}
COLUMNS = (
    "symbol", "ts", "provider", "ts_quote", *FEATURES, "complete", "incomplete", "switched", "late", "signals",
)  # fmt: skip

Line = tuple[Any, ...]


def line(row: Features, signals: Iterable[Signal]) -> Line:
    """A row as COLUMNS; `signals`: those made from it."""
    values = (row.features[name] for name in FEATURES)
    flags = (row.complete, row.incomplete, row.switched, row.late)
    return row.symbol, row.ts, row.provider, row.ts_quote, *values, *flags, tuple(each.id for each in signals)


class Writer(Protocol):
    """Writes lines into a file."""

    def write(self, lines: Sequence[Line]) -> None: ...

    def close(self) -> None: ...


class Csv:
    """Null is empty; the words of a list are separated by a blank."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def write(self, lines: Sequence[Line]) -> None:
        for each in lines:
            self._writer.writerow([" ".join(value) if isinstance(value, tuple) else value for value in each])

    def close(self) -> None:
        self._file.close()


class Parquet:
    """Times are timestamps in ns, UTC. Raises SettingsError without pyarrow."""

    def __init__(self, path: Path) -> None:
        self._pa = needed("pyarrow", "arrow")
        parquet = needed("pyarrow.parquet", "arrow")
        self._schema = self._pa.schema([(name, self._type(name)) for name in COLUMNS])
        self._file = path.open("wb")
        self._writer = parquet.ParquetWriter(self._file, self._schema, compression="zstd")

    def write(self, lines: Sequence[Line]) -> None:
        columns = zip(*lines, strict=True)
        arrays = [self._pa.array(column, field.type) for field, column in zip(self._schema, columns, strict=True)]
        self._writer.write_batch(self._pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()
        self._file.close()

    def _type(self, name: str) -> Any:
        pa = self._pa
        if name in TIMES:
            return pa.timestamp("ns", tz="UTC")
        if name in TEXTS:
            return pa.string()
        if name in LISTS:
            return pa.list_(pa.string())
        if name in FLAGS:
            return pa.bool_()
        return pa.int64() if name in INTEGERS else pa.float64()


class Table:
    """The file, as a context: it is called FILE.part until it is whole, and removed if that fails."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        self.rows = self.signals = 0
        self._row: Features | None = None
        self._signals: list[Signal] = []
        self._lines: list[Line] = []
        try:
            self._writer: Writer = (Parquet if path.suffix == ".parquet" else Csv)(self._part)
        except OSError as error:
            raise SettingsError(f"{path} cannot be written: {error.strerror}") from None

    def add(self, messages: Iterable[Message]) -> None:
        """Take rows; the signals of a row come right after it."""
        for message in messages:
            if isinstance(message, Features):
                self._next()
                self._row = message
            elif isinstance(message, Signal):
                self._signals.append(message)

    def _next(self) -> None:
        if self._row is not None:
            self._lines.append(line(self._row, self._signals))
            self.rows += 1
            self.signals += len(self._signals)
            self._row, self._signals = None, []
        if len(self._lines) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            self._writer.write(self._lines)
            self._lines = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        whole = False
        try:
            if error is None:
                self._next()
                self._flush()
            self._writer.close()
            whole = error is None
        finally:
            if whole:
                self._part.replace(self._path)
            else:
                self._part.unlink()
