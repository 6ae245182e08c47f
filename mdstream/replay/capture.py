"""Capture files: raw frames with their receive times, one JSON object a line, gzipped where the name ends in `.gz`.

    {"recv_ns":1767625200125400000,"provider":"binance","frame":"{\\"stream\\":...}"}

A frame that is not UTF-8 is kept in base64, with `"encoding":"base64"`. One whose sizes are in contracts has what each
was worth, `"contract_size":"0.01"`, where its raw record says so. Lines are in replay order.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections import deque
from collections.abc import Collection, Iterator, Set
from contextlib import suppress
from io import SEEK_END
from pathlib import Path
from types import TracebackType
from typing import IO, Generic, Literal, NamedTuple, TypeVar, cast

import msgspec

from mdstream.errors import CaptureError, SettingsError
from topics import MAX_FRAME_BYTES

MAX_LINE_BYTES = 6 * MAX_FRAME_BYTES + 1024
"""The longest line: JSON writes a byte of a frame in at most six."""


class Frame(NamedTuple):
    """One frame as received, `recv_ns` after 1970."""

    recv_ns: int
    provider: str
    frame: bytes
    contract_size: str = ""
    """What one contract was worth, as in the header `v` of a raw record; empty where that says nothing."""


class _Line(msgspec.Struct, omit_defaults=True):
    recv_ns: int
    provider: str
    frame: str
    encoding: Literal["base64"] | None = None
    contract_size: str = ""


_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


def encode_line(frame: Frame) -> bytes:
    """The line of one frame, including its newline."""
    try:
        line = _Line(frame.recv_ns, frame.provider, frame.frame.decode(), contract_size=frame.contract_size)
    except UnicodeDecodeError:
        line = _Line(
            frame.recv_ns, frame.provider, base64.b64encode(frame.frame).decode(), "base64", frame.contract_size
        )
    return _encode(line) + b"\n"


def decode_line(text: bytes) -> Frame:
    """The frame of one line. Raises ValueError with what is wrong."""
    try:
        line = _decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ValueError(f"not a line of a capture: {error}") from None
    if line.encoding is None:
        frame = line.frame.encode()
    else:
        try:
            frame = base64.b64decode(line.frame, validate=True)
        except binascii.Error as error:
            raise ValueError(f"its frame is not base64: {error}") from None
    if len(frame) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(frame):,} bytes: at most {MAX_FRAME_BYTES:,} can be carried")
    return Frame(line.recv_ns, line.provider, frame, line.contract_size)


class Reader:
    """Iterating yields the frames of a capture file in order; empty lines are skipped. Memory: one line.

    Raises CaptureError with the number of a line that cannot be read, whose provider is not in `providers` (if given),
    or where the file is truncated; also when the file cannot be opened.
    """

    def __init__(self, path: Path, *, providers: Collection[str] | None = None) -> None:
        self._path, self._providers = path, providers
        self._file: IO[bytes] | None = None
        self._size = 1

    @property
    def fraction(self) -> float:
        """How much of the file has been read, 0 to 1."""
        return 0.0 if self._file is None else 1.0 if self._file.closed else self._file.tell() / self._size

    def __iter__(self) -> Iterator[Frame]:
        number = 1
        try:
            with self._path.open("rb") as file:
                self._file, self._size = file, max(1, self._path.stat().st_size)
                lines = cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if self._path.suffix == ".gz" else file
                while text := lines.readline(MAX_LINE_BYTES + 1):
                    if text.strip():
                        yield self._frame(text)
                    number += 1
        except ValueError as error:
            raise CaptureError(str(self._path), number, str(error)) from None
        except (OSError, EOFError, zlib.error) as error:
            raise CaptureError(str(self._path), number, getattr(error, "strerror", None) or str(error)) from error

    def _frame(self, text: bytes) -> Frame:
        if len(text) > MAX_LINE_BYTES:
            raise ValueError(f"longer than {MAX_LINE_BYTES:,} bytes: not a line of a capture")
        frame = decode_line(text)
        if self._providers is not None and frame.provider not in self._providers:
            raise ValueError(f"no provider {frame.provider!r}: there are {', '.join(sorted(self._providers))}")
        return frame


class Writer:
    """Writes a capture file that is complete or absent: it grows as `FILE.part` and is renamed when finished.

    After an error inside the `with` block the frames written so far are kept, in complete lines. The `.part` file stays
    only if the process was killed, or the disk was full and the file is gzipped: a gzip stream cannot be cut.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        if path.exists() and not overwrite:
            raise SettingsError(f"{path} exists: choose another name, or --force to replace it")
        self.frames = 0
        self._path = path
        self._part = path.with_name(path.name + ".part")
        try:
            self._file = self._create()
        except OSError as error:
            raise SettingsError(f"{path} cannot be written: {error.strerror}") from None

    def _create(self) -> IO[bytes]:
        self._part.unlink(missing_ok=True)  # left by a recording that was killed
        if self._path.suffix == ".gz":
            return cast("IO[bytes]", gzip.open(self._part, "xb", compresslevel=6))
        return self._part.open("xb", buffering=1 << 18)

    def write(self, frame: Frame) -> None:
        self._file.write(encode_line(frame))
        self.frames += 1

    def finish(self) -> None:
        """Close the file and rename it to its final name."""
        self._file.close()
        self._part.replace(self._path)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or (self.frames and not isinstance(error, OSError)):
            self.finish()
            return
        with suppress(OSError):  # the disk may be full: the first error is the one to report
            self._file.close()
        if not self.frames:
            self._part.unlink()
        elif self._path.suffix != ".gz":
            _cut_after_last_newline(self._part)
            self._part.replace(self._path)


def _cut_after_last_newline(path: Path, step: int = 1 << 16) -> None:
    with path.open("r+b") as file:
        end = file.seek(0, SEEK_END)
        while end > 0:
            start = max(0, end - step)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)


Source = TypeVar("Source")
Item = TypeVar("Item")


class Merge(Generic[Source, Item]):
    """Several sequences merged into one by time, each kept in its own order.

    A partition is in time order, but whole partitions arrive one after the other:

        p0  1 2 3 4 5 6 ...      `take` yields 1 2 3 3 4 4, then waits for p1's next;
        p1      3 4              once p1 is known to be idle, 5 6 ...
    """

    def __init__(self, sources: list[Source]) -> None:
        self._waiting: dict[Source, deque[tuple[int, Item]]] = {source: deque() for source in sources}

    def add(self, source: Source, time: int, item: Item) -> None:
        self._waiting[source].append((time, item))

    def empty(self) -> list[Source]:
        """The sources whose next item has not arrived: those to ask."""
        return [source for source, waiting in self._waiting.items() if not waiting]

    def take(self, *, idle: Set[Source] = frozenset()) -> Iterator[Item]:
        """Items in time order, until a source that is not `idle` runs out: its next item may be earlier."""
        while True:
            ready = [waiting for source, waiting in self._waiting.items() if waiting or source not in idle]
            if not ready or not all(ready):
                return
            yield min(ready, key=_first_time).popleft()[1]


def _first_time(waiting: deque[tuple[int, Item]]) -> int:
    return waiting[0][0]
