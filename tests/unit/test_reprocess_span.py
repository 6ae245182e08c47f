"""mdstream/replay/reprocess.py: what is in a range, how far a run is, and that the chunks in flight are bounded."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from mdstream.config import load
from mdstream.errors import SettingsError
from mdstream.replay.reprocess import EVERYTHING, MAX_CHUNKS_UNDER_WAY, MS, Reprocess, Span, Totals, UnderWay


def record(offset: int, *, received_ns: int | None = None, written_ms: int = 0) -> ConsumerRecord[Any, Any]:
    """A raw record; without `received_ns` it has no header `t`."""
    headers = [("p", b"binance")] if received_ns is None else [("p", b"binance"), ("t", struct.pack(">q", received_ns))]
    return ConsumerRecord("md.raw.crypto", 0, offset, written_ms, 1, b"k", b"v", None, 1, 1, headers)


def test_range_includes_its_first_timestamp_and_not_its_last() -> None:
    """By receive times, whatever the order and whenever it was written."""
    records = [record(n, received_ns=at, written_ms=10**12) for n, at in enumerate((20, 9, 10, 19))]
    assert [r.offset for r in Span(10, 20).of(records)] == [2, 3]


def test_record_without_a_receive_time_has_that_of_its_writing() -> None:
    """As the canonical stream takes it."""
    records = [record(0, written_ms=4), record(1, written_ms=5)]
    assert [r.offset for r in Span(5 * MS, 6 * MS).of(records)] == [1]


def test_everything_is_passed_on_untouched() -> None:
    """Records are not checked one by one if all are in the range."""
    records = [record(0)]
    assert EVERYTHING.of(records) is records


@pytest.mark.parametrize(("expected", "read", "fraction"), [(0, 0, 1.0), (10, 5, 0.5), (10, 12, 1.0)])
def test_fraction_never_exceeds_one(expected: int, read: int, fraction: float) -> None:
    """The log may grow meanwhile, and a broker may report too low an end."""
    assert Totals(expected=expected, read=read).fraction == fraction


def test_live_prefix_is_refused() -> None:
    """Before anything is asked of the broker."""
    with pytest.raises(SettingsError, match="md is the live prefix"):
        Reprocess(load(topic_prefix="md"), "md", EVERYTHING)


async def test_chunks_under_way_are_bounded() -> None:
    """The next chunk waits for the oldest one; what is acknowledged leaves."""
    under_way = UnderWay()
    chunks = [asyncio.get_running_loop().create_future() for _ in range(MAX_CHUNKS_UNDER_WAY + 1)]
    for chunk in chunks[:-1]:
        await under_way.add([chunk])
    last = asyncio.ensure_future(under_way.add(chunks[-1:]))
    await asyncio.sleep(0)
    assert not last.done()
    chunks[0].set_result(None)
    await last
    for chunk in chunks[1:]:
        chunk.set_result(None)
    await under_way.settle(0)


async def test_failed_chunk_ends_the_run_and_the_others_are_let_go() -> None:
    """Its error is raised at the next wait; those of the others are ignored."""
    under_way = UnderWay()
    failed, open_ = (asyncio.get_running_loop().create_future() for _ in range(2))
    await under_way.add([failed])
    await under_way.add([open_])
    failed.set_exception(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        await under_way.settle(0)
    open_.set_exception(OSError("gone, too"))
    await under_way.give_up()
