"""Stored events of a span of time as Parquet files, written as they are read.

rows of a database, in pieces ─ Batches ─> .FILE.part ─ whole ─> FILE
             └── by days ──> FOLDER/date=2026-01-05/BTCUSDT-trades.parquet
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO
from urllib.parse import quote

from mdstream.client.arrow import Batches
from mdstream.client.extras import needed
from mdstream.client.queries import Request
from mdstream.client.stored import Rows, read
from mdstream.config import Settings
from mdstream.errors import MdstreamError
from mdstream.sinks import durable

DAY_NS = 86_400_000_000_000


def export(settings: Settings, request: Request, path: Path, source: str | None = None) -> Generator[int, None, None]:
    """Write the events to a Parquet file, or with a path that does not end in .parquet into a folder, by days (UTC).

    A file is .NAME.part until it is whole; if the export fails or is closed before, that is removed. Yields the number
    of rows of each piece, as soon as they are written.

    Raises SettingsError, DatabaseError, and MdstreamError if a file cannot be written.
    """
    writer, pieces = _Writer(request.kind), read(settings, request, source)
    try:
        if path.suffix == ".parquet":
            yield from writer.write(path, pieces)
            return
        for day, parts in groupby(_by_day(request, pieces), key=itemgetter(0)):
            yield from writer.write(path / f"date={day}" / _name(request), (rows for _, rows in parts))
    except OSError as error:
        raise MdstreamError(f"{error.filename or path} cannot be written: {error.strerror or error}") from error


def _by_day(request: Request, pieces: Iterable[Rows]) -> Iterator[tuple[date, Rows]]:
    for piece in pieces:
        for number, rows in groupby(piece, key=lambda row: request.time_of(row) // DAY_NS):
            yield date(1970, 1, 1) + timedelta(days=number), list(rows)


def _name(request: Request) -> str:
    kind = f"bars-{request.interval}" if request.kind == "bars" else request.kind
    return f"{quote(request.symbol, safe='')}-{kind}.parquet"


class _Writer:
    def __init__(self, kind: str) -> None:
        self._batches = Batches(kind)
        self._parquet = needed("pyarrow.parquet", "arrow")

    def write(self, path: Path, pieces: Iterable[Rows]) -> Iterator[int]:
        """Write a file, a row group for each piece."""
        schema = self._batches.schema
        with _replacing(path) as file, self._parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows in pieces:
                writer.write_batch(self._batches.batch(rows))
                yield len(rows)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` at the end of the block; it is removed if that raises."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # hidden: readers of a whole folder leave it out
    with _claimed(part) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            durable.rename(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _claimed(part: Path) -> IO[bytes]:
    """The file, empty, for this process alone. Raises MdstreamError if another one writes it."""
    file = part.open("ab")
    if not _locked(file, part):
        file.close()
        raise MdstreamError(f"{part}: another export writes it: wait for its end, or give another path")
    file.seek(0)
    file.truncate()  # what a killed one left
    return file


def _locked(file: IO[bytes], part: Path) -> bool:
    """Whether we have the lock, and the file is still `part`: between the two its writer may have renamed it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), part.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
