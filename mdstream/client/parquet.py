"""Stored events of a span of time as Parquet files, written as they are read.

rows of a database, in pieces ─ Batches ─> FILE.part ─ whole ─> FILE
             └── by days ──> FOLDER/date=2026-01-05/BTCUSDT-trades.parquet
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from datetime import date, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from urllib.parse import quote

from mdstream.client.arrow import Batches
from mdstream.client.extras import needed
from mdstream.client.queries import Asked
from mdstream.client.stored import Rows, read
from mdstream.config import Settings
from mdstream.errors import MdstreamError
from mdstream.sinks import durable

DAY_NS = 86_400_000_000_000


def export(settings: Settings, asked: Asked, path: Path, source: str | None = None) -> Generator[int, None, None]:
    """Write the events to a Parquet file, or with a path that does not end in .parquet into a folder, by days (UTC).

    A file is PATH.part until it is whole. Yields the number of rows of each piece, as soon as they are written.

    Raises SettingsError, DatabaseError, and MdstreamError if a file cannot be written.
    """
    writer, pieces = _Writer(asked.kind), read(settings, asked, source)
    try:
        if path.suffix == ".parquet":
            yield from writer.write(path, pieces)
            return
        for day, parts in groupby(_by_day(asked, pieces), key=itemgetter(0)):
            yield from writer.write(path / f"date={day}" / _name(asked), (rows for _, rows in parts))
    except OSError as error:
        raise MdstreamError(f"{error.filename or path} cannot be written: {error.strerror or error}") from error


def _by_day(asked: Asked, pieces: Iterable[Rows]) -> Iterator[tuple[date, Rows]]:
    for piece in pieces:
        for number, rows in groupby(piece, key=lambda row: asked.time_of(row) // DAY_NS):
            yield date(1970, 1, 1) + timedelta(days=number), list(rows)


def _name(asked: Asked) -> str:
    kind = f"bars-{asked.interval}" if asked.kind == "bars" else asked.kind
    return f"{quote(asked.symbol, safe='')}-{kind}.parquet"


class _Writer:
    def __init__(self, kind: str) -> None:
        self._batches = Batches(kind)
        self._parquet = needed("pyarrow.parquet", "arrow")

    def write(self, path: Path, pieces: Iterable[Rows]) -> Iterator[int]:
        """Write a file, a row group for each piece."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            with self._parquet.ParquetWriter(file, self._batches.schema, compression="zstd") as writer:
                for rows in pieces:
                    writer.write_batch(self._batches.batch(rows))
                    yield len(rows)
            file.flush()
            os.fsync(file.fileno())
        durable.rename(part, path)
