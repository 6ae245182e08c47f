"""Files that are whole or absent, also after a power cut: the few calls that make them so."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Give the file at `path` new content: afterwards, and after a crash at any moment, it holds the old or the new."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    rename(part, path)


def rename(source: Path, target: Path) -> None:
    """Rename within a folder, safe on the disk when this returns."""
    source.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make new, renamed and deleted names in the folder safe on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
