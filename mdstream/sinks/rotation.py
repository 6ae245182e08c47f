"""Rotated files: their names, and their compression in a separate thread."""

from __future__ import annotations

import gzip
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from mdstream.sinks import durable

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 20
LEVEL = 6


def aside(path: Path, now: datetime) -> Path:
    """A free name for `path` at `now` (UTC): events.jsonl becomes events-20260105T150000Z-1.jsonl."""
    n = 1
    while True:
        name = path.with_name(f"{path.stem}-{now:%Y%m%dT%H%M%SZ}-{n}{path.suffix}")
        if not name.exists() and not zipped(name).exists():
            return name
        n += 1


def left_plain(path: Path) -> Iterator[Path]:
    """Rotated files of `path` that are not compressed, oldest first."""
    form = re.compile(rf"{re.escape(path.stem)}-\d{{8}}T\d{{6}}Z-\d+{re.escape(path.suffix)}")
    yield from sorted(other for other in path.parent.iterdir() if form.fullmatch(other.name))


def zipped(path: Path) -> Path:
    return path.with_name(path.name + ".gz")


class Compressor:
    """Compresses files one after the other. What `close` interrupts stays as it was, for the next start."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gzip")
        self._closing = threading.Event()

    def add(self, path: Path) -> None:
        self._thread.submit(self._compress, path)

    def close(self) -> None:
        """Abandon the current compression, within a block's time."""
        self._closing.set()
        self._thread.shutdown(cancel_futures=True)

    def _compress(self, path: Path) -> None:
        part = path.with_name(path.name + ".gz.part")
        try:
            if path.exists() and self._copy(path, part):
                shutil.copystat(path, part)
                durable.rename(part, zipped(path))
                path.unlink()
        except OSError as error:
            log.warning("%s is left uncompressed: %s", path, error)
            part.unlink(missing_ok=True)

    def _copy(self, path: Path, part: Path) -> bool:
        with path.open("rb") as source, part.open("wb") as target:
            with gzip.GzipFile(fileobj=target, mode="wb", filename=path.name, compresslevel=LEVEL) as compressed:
                while block := source.read(BLOCK_BYTES):
                    if self._closing.is_set():
                        break
                    compressed.write(block)
            target.flush()
            os.fsync(target.fileno())
        if self._closing.is_set():
            part.unlink()
            return False
        return True
