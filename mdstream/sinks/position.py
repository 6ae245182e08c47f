"""The position file of an events.jsonl: its length, and how far it holds each partition.

    write lines ─> sync ─> replace the position file          after a crash: cut the lines behind the recorded length

A record below the recorded position is already in the file, provided that it is of the same log: a recreated topic
counts from 0 again. To check, the broker is asked for the last record written: its value must have the CRC `crc`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from mdstream.records import Partition
from mdstream.sinks import durable

VERSION = 1


class Position(msgspec.Struct, frozen=True, array_like=True):
    """The next offset to write, and the CRC-32 of the value at the offset before it."""

    next: int
    crc: int


class Written(msgspec.Struct, frozen=True):
    """`length` bytes of the file are whole lines; `aside` is the name it is about to be rotated to."""

    length: int
    positions: dict[Partition, Position]
    aside: str | None = None


class _File(msgspec.Struct, omit_defaults=True):
    """{"version":1,"length":1234,"topics":{"md.trades":{"0":[17,3735928559]}}}"""

    version: int
    length: int
    topics: dict[str, dict[int, Position]]
    aside: str | None = None


class PositionFileError(Exception):
    """The position file cannot be used; the text says why."""


def load(path: Path) -> Written | None:
    """What was recorded; None if there is no such file. Raises PositionFileError, OSError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        found = msgspec.json.decode(content, type=_File)
    except msgspec.MsgspecError as error:
        raise PositionFileError(f"{path} is damaged ({error}): delete it, the latest lines may then repeat") from error
    if found.version > VERSION:
        raise PositionFileError(f"{path} is of a newer mdstream: upgrade, or set MDSTREAM_DATA_DIR to another folder")
    positions = {Partition(topic, n): at for topic, numbers in found.topics.items() for n, at in numbers.items()}
    return Written(found.length, positions, found.aside)


def save(path: Path, written: Written) -> None:
    """Record it, durably and atomically. Raises OSError."""
    topics: dict[str, dict[int, Position]] = {}
    for partition, position in written.positions.items():
        topics.setdefault(partition.topic, {})[partition.number] = position
    durable.replace(path, msgspec.json.encode(_File(VERSION, written.length, topics, written.aside)))
