"""JSON lines: DATA_DIR/events.jsonl, one event a line, as on the topic.

Order: each partition's own, partitions interleaved. At `rotate_bytes` the file is renamed to events-TIME-N.jsonl,
with TIME in UTC, and may be compressed. A group is on the disk with its position (mdstream/sinks/position.py) before it
is acknowledged, so a crash neither loses nor repeats a line of this file.

One file has one writer, ensured by a lock that dies with the process: a second worker in the same folder writes
events-2.jsonl, and so on. When a partition moves to another worker after a crash, lines may repeat across their files;
an equal `seq` of one type and symbol shows it. Events with one `seq` and two contents are both written, and reported.
"""

from __future__ import annotations

import asyncio
import bisect
import errno
import fcntl
import logging
import os
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import IO, TypeVar

from mdstream.errors import SinkError
from mdstream.events import BookL2, Quote, Trade
from mdstream.records import Partition, Record
from mdstream.sinks import durable, position
from mdstream.sinks.base import Chunk, Refusal, from_os
from mdstream.sinks.numbers import Conflicts
from mdstream.sinks.position import Position, PositionFileError, Written
from mdstream.sinks.remembered import Remembered
from mdstream.sinks.rotation import Compressor, aside, left_plain

log = logging.getLogger(__name__)

STEM = "events"
MAX_WRITERS = 64
BLOCK_BYTES = 1 << 20
_NUMBERED = {kind: f"{kind.__struct_config__.tag}." for kind in (Trade, Quote, BookL2)}

T = TypeVar("T")
ValueAt = Callable[[Partition, int], Awaitable[bytes | None]]
"""The value of the record at an offset, None if the broker has none there. May raise BrokerError."""


class JsonlSink:
    """Appends to events.jsonl in a thread of its own."""

    name = "jsonl"

    def __init__(self, data_dir: Path, *, value_at: ValueAt, rotate_bytes: int, compress: bool) -> None:
        self._folder = data_dir
        self._value_at = value_at
        self._rotate_bytes = rotate_bytes
        self._compressor = Compressor() if compress else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jsonl")
        self._lock: IO[bytes] | None = None
        self._file: FileIO | None = None
        self._length = 0
        self._positions: dict[Partition, Position] = {}
        self._verified: dict[Partition, Position] = {}
        self.path = data_dir / f"{STEM}.jsonl"
        self.lines = self.repeats = self.rotations = 0
        self._conflicts = Conflicts(self.name)
        self._remembered = Remembered(self._conflicts)

    async def open(self) -> None:
        await self._in_thread(self._opened)

    async def write(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
        await self._in_thread(self._opened)  # what was written before decides what is new
        positions = dict(self._positions)
        new: list[Record] = []
        for chunk in chunks:
            records = await self._without_repeats(chunk, positions)
            if records:
                new += records
                last = records[-1]
                positions[chunk.partition] = Position(last.offset + 1, zlib.crc32(last.value or b""))
            self.repeats += len(chunk.records) - len(records)
        if new:
            await self._in_thread(lambda: self._append(new, positions))
            self._remembered.note(_numbered(chunks))
        return ()

    async def close(self) -> None:
        """Waits for a write in progress; a compression in progress is abandoned, and redone at the next start."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._let_go)
        self._thread.shutdown()
        if self._compressor is not None:
            self._compressor.close()

    def metrics(self) -> dict[str, float]:
        return {
            "lines_total": self.lines,
            "repeats_total": self.repeats,
            "rotations_total": self.rotations,
            "file_bytes": self._length,
            "seq_conflicts_total": self._conflicts.total,
        }

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    # -- what is new

    async def _without_repeats(self, chunk: Chunk, positions: dict[Partition, Position]) -> Sequence[Record]:
        """The records that this file does not hold yet."""
        written = positions.get(chunk.partition)
        if written is None or chunk.records[0].offset >= written.next:
            return chunk.records
        if not await self._is_same_log(chunk.partition, written):
            log.warning(
                "%s is not the log that %s was written from: it was recreated, and is written from offset %d on",
                ":".join(map(str, chunk.partition)),
                self.path,
                chunk.records[0].offset,
            )
            return chunk.records
        return chunk.records[bisect.bisect_left(chunk.records, written.next, key=lambda record: record.offset) :]

    async def _is_same_log(self, partition: Partition, written: Position) -> bool:
        if self._verified.get(partition) != written:
            value = await self._value_at(partition, written.next - 1)
            if value is None or zlib.crc32(value) != written.crc:
                return False
            self._verified[partition] = written
        return True

    # -- in the thread

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except PositionFileError as error:
            self._let_go()
            raise SinkError(self.name, self.path, str(error), retriable=False) from error
        except OSError as error:
            self._let_go()  # the next attempt truncates a partial write
            raise from_os(self.name, self.path, error) from error

    def _opened(self) -> FileIO:
        if self._file is not None and not self._is_ours(self._file):
            log.warning("%s was moved, deleted or changed by another process: opening it again", self.path)
            self._let_go()
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self.path, self._lock = _claim(self._folder)
            self._file = self._begin()
            if self._compressor:
                for path in left_plain(self.path):
                    self._compressor.add(path)
        return self._file

    def _is_ours(self, file: FileIO) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(file.fileno())) and there.st_size == self._length

    def _begin(self) -> FileIO:
        """The file truncated to the recorded length: a crash may have left more."""
        written = position.load(self._position_path)
        file = FileIO(self.path, "a+")
        try:
            actual = file.seek(0, os.SEEK_END)
            length, positions = self._recovered(file, actual, written)
            if actual > length:
                log.info("%s: cutting off %d bytes that were not recorded", self.path, actual - length)
                file.truncate(length)
            os.fsync(file.fileno())
            self._record(length, positions)
        except BaseException:
            file.close()
            raise
        return file

    def _recovered(self, file: FileIO, actual: int, written: Written | None) -> tuple[int, dict[Partition, Position]]:
        """The length and positions that apply to the file as found."""
        if written is not None and written.length <= actual:
            return written.length, written.positions
        if written is not None and written.aside and self.path.with_name(written.aside).exists():
            return 0, written.positions  # the crash came between renaming it and recording that
        if written is not None:
            log.warning("%s is shorter than it was: lines that come again are written again", self.path)
        return _end_of_last_line(file, actual), {}

    def _record(self, length: int, positions: dict[Partition, Position], *, putting_aside: str | None = None) -> None:
        position.save(self._position_path, Written(length, positions, putting_aside))
        self._length, self._positions = length, positions

    def _append(self, records: Sequence[Record], positions: dict[Partition, Position]) -> None:
        file = self._opened()
        lines = _lines(records)
        _write_all(file, lines)
        os.fsync(file.fileno())
        self._record(self._length + len(lines), positions)
        self.lines += len(records)
        if self._length >= self._rotate_bytes:
            self._rotate(file)

    def _rotate(self, file: FileIO) -> None:
        target = aside(self.path, datetime.now(UTC))
        self._record(self._length, self._positions, putting_aside=target.name)
        file.close()
        self._file = None
        durable.rename(self.path, target)
        self._file = self._begin()
        self.rotations += 1
        if self._compressor:
            self._compressor.add(target)

    def _let_go(self) -> None:
        file, self._file = self._file, None
        lock, self._lock = self._lock, None
        for held in (file, lock):
            if held is not None:
                held.close()

    @property
    def _position_path(self) -> Path:
        return self.path.with_name(self.path.name + ".position")


def _claim(folder: Path) -> tuple[Path, IO[bytes]]:
    """The first file that no other process writes, and the lock on it. Raises OSError if all are taken."""
    for n in range(1, MAX_WRITERS + 1):
        path = folder / (f"{STEM}.jsonl" if n == 1 else f"{STEM}-{n}.jsonl")
        lock = path.with_name(path.name + ".lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        except BaseException:
            lock.close()
            raise
        else:
            return path, lock
    raise OSError(errno.EAGAIN, f"{MAX_WRITERS} processes write here already", str(folder))


def _numbered(chunks: Sequence[Chunk]) -> Iterator[tuple[str, int, bytes]]:
    for _, records, events in chunks:
        for record, event in zip(records, events, strict=True):
            kind = _NUMBERED.get(type(event))
            if kind is not None:
                yield f"{kind}{event.symbol}", event.seq, record.value or b""


def _lines(records: Sequence[Record]) -> bytes:
    lines = b"\n".join([record.value or b"" for record in records])
    if lines.count(b"\n") >= len(records):
        # Another writer's event spans several lines. Between JSON tokens a line break is plain whitespace.
        lines = b"\n".join([(record.value or b"").replace(b"\n", b" ") for record in records])
    return lines + b"\n"


def _write_all(file: FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _end_of_last_line(file: FileIO, length: int) -> int:
    end = length
    while end:
        begin = max(0, end - BLOCK_BYTES)
        found = os.pread(file.fileno(), end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
