"""Records on disk while Kafka does not take them: append-only segments, read back in order, one at a time.

    FOLDER/crypto.1767625200123456789/      of one process, which holds `lock` while it lives
        lock
        00000000.spool, 00000001.spool ..   records: length and CRC-32 of the body, then the body as MessagePack

What `write` has written survives a kill, what `sync` has synced a power failure. A segment is deleted when Kafka has
all of it. After a crash the next process with the same markets reads the segments that are left, from their start: up
to one segment is sent twice, and readers drop repeats by id. Of a segment that is damaged, by a crash within a write
say, everything before the damage is read; the file is kept, as `.damaged`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from mdstream.errors import SpoolError
from mdstream.records import SPOOL, ProducerRecord

log = logging.getLogger(__name__)

SEGMENT_BYTES = 4 << 20
SUFFIX, DAMAGED, LOCK = ".spool", ".damaged", "lock"

_head = struct.Struct(">II")
_encode = msgspec.msgpack.Encoder().encode


class Spooled(NamedTuple):
    """A record and the partition that it was meant for."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: list[tuple[str, bytes]]
    copied_by: str = ""
    """The process that had its delivery under way as well."""

    @property
    def kind(self) -> bytes:
        """The header `k`."""
        return self.headers[2][1]

    @property
    def record(self) -> ProducerRecord:
        """To be sent, with the header `via` saying where it was."""
        return self.key, self.value, self.timestamp_ms, [*self.headers[:3], ("via", SPOOL), *self.headers[4:]]


_decode = msgspec.msgpack.Decoder(Spooled).decode


class _Segment(NamedTuple):
    path: Path
    bytes: int


class Spool:
    """The spool of one process that writes to the raw topics of `markets`, below `folder`, at most `max_bytes` in all.

    Not thread-safe: one call at a time. Raises SpoolError if the folder cannot be read.
    """

    def __init__(self, folder: Path, markets: Iterable[str], *, max_bytes: int) -> None:
        self._folder, self._markets, self.max_bytes = folder, frozenset(markets), max_bytes
        self._own: _Folder | None = None
        self._current: int | None = None  # its descriptor
        self._path, self._written, self._made = Path(), 0, 0
        self._reading: _Segment | None = None
        try:
            self._folders = list(_Folder.adopt(folder, self._markets))
            self._sealed = deque(segment for adopted in self._folders for segment in adopted.segments())
        except OSError as error:
            raise SpoolError(f"cannot read the spool {folder}: {error.strerror}") from error
        self.bytes = sum(segment.bytes for segment in self._sealed)
        """On disk, including what is being read."""

    def write(self, records: Iterable[Spooled]) -> None:
        """Append `records`, all or none. Raises SpoolError: the disk is full, say, or the spool."""
        data = bytearray()
        for record in records:
            body = _encode(record)
            data += _head.pack(len(body), zlib.crc32(body)) + body
        if self.bytes + len(data) > self.max_bytes:
            raise SpoolError(f"the spool is full: {self.bytes >> 20} MiB of {self.max_bytes >> 20} (MDSTREAM_SPOOL_MB)")
        try:
            if self._current is None:
                self._current = self._new_segment()
            self._append(self._current, data)
        except OSError as error:
            raise SpoolError(f"cannot write the spool {self._folder}: {error.strerror}") from error
        if self._written >= SEGMENT_BYTES:
            self._seal()

    def sync(self) -> None:
        """Have the disk keep what was written. Raises SpoolError."""
        if self._current is not None:
            try:
                os.fsync(self._current)
            except OSError as error:
                raise SpoolError(f"cannot write the spool {self._folder}: {error.strerror}") from error

    def read(self) -> Sequence[Spooled]:
        """The records of the oldest segment; none if there is no segment. It stays until the next call or `release`."""
        self.release()
        if not self._sealed:
            self._seal()
        while self._sealed:
            self._reading = self._sealed.popleft()
            if records := list(_records(self._reading.path)):
                return records
            self.release()
        return ()

    def release(self) -> None:
        """Delete the segment that was read last, if any: Kafka has it."""
        if self._reading is None:
            return
        self.bytes -= self._reading.bytes
        with suppress(OSError):  # then it is sent once more after a restart
            self._reading.path.unlink(missing_ok=True)
        self._reading = None
        if not self._sealed and self._current is None:
            for folder in self._folders:
                folder.remove()
            self._folders, self._own = [], None

    def close(self) -> None:
        """Let another process have what is left."""
        self._seal()
        for folder in self._folders:
            folder.release()
        self._folders, self._own = [], None

    def _new_segment(self) -> int:
        if self._own is None:
            self._own = _Folder.new(self._folder, self._markets)
            self._folders.append(self._own)
        self._path = self._own.path / f"{self._made:08}{SUFFIX}"
        self._made, self._written = self._made + 1, 0
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def _append(self, file: int, data: bytearray) -> None:
        """All of `data`, or nothing of it."""
        done = 0
        try:
            while done < len(data):
                done += os.write(file, memoryview(data)[done:])
        except OSError:
            os.ftruncate(file, self._written)
            os.lseek(file, self._written, os.SEEK_SET)
            raise
        self._written += len(data)
        self.bytes += len(data)

    def _seal(self) -> None:
        if self._current is None:
            return
        os.close(self._current)
        self._current = None
        self._sealed.append(_Segment(self._path, self._written))


class _Folder:
    """A folder of segments, and its lock."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path, self._lock = path, lock

    @classmethod
    def new(cls, root: Path, markets: Iterable[str]) -> _Folder:
        """A new folder. It gets its name once it is locked: nobody can adopt it before."""
        name = f"{'+'.join(sorted(markets))}.{time.time_ns()}"
        hidden, path = root / f".{name}", root / name
        hidden.mkdir(parents=True, mode=0o700)
        lock = _locked(hidden)
        hidden.rename(path)
        return cls(path, lock)

    @classmethod
    def adopt(cls, root: Path, markets: frozenset[str]) -> Iterator[_Folder]:
        """The folders that dead processes with these markets, or some of them, have left; the oldest first."""
        found = [path for path in root.glob("[!.]*.*") if markets.issuperset(path.stem.split("+"))]
        for path in sorted(found, key=lambda path: path.suffix):
            if any(path.glob(f"*{SUFFIX}")):
                with suppress(BlockingIOError, FileNotFoundError):  # it lives, or has just removed it
                    yield cls(path, _locked(path))

    def segments(self) -> list[_Segment]:
        """The oldest first."""
        return [_Segment(path, path.stat().st_size) for path in sorted(self.path.glob(f"*{SUFFIX}"))]

    def remove(self) -> None:
        """Remove the folder, unless a damaged segment is left in it, and the lock."""
        with suppress(OSError):
            (self.path / LOCK).unlink()
            self.path.rmdir()
        self.release()

    def release(self) -> None:
        """Let another process have it."""
        os.close(self._lock)


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock. Raises BlockingIOError if a process has it."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _records(path: Path) -> Iterator[Spooled]:
    """The records of a segment up to its end, or to where it is damaged: then the file is kept under another name."""
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        log.error("%s cannot be read: %s; its records are lost", path, error.strerror)  # noqa: TRY400
        return
    at = 0
    while at < len(data):
        try:
            length, checksum = _head.unpack_from(data, at)
            body = data[at + _head.size : at + _head.size + length]
            if len(body) < length or zlib.crc32(body) != checksum:
                raise ValueError  # noqa: TRY301  the same ending as for a head that is cut off
            yield _decode(body)
        except (struct.error, ValueError, msgspec.DecodeError):
            kept = path.rename(path.with_suffix(DAMAGED))
            log.error("%s: damaged after %d of %d bytes; the rest is lost", kept, at, len(data))  # noqa: TRY400
            return
        at += _head.size + length
