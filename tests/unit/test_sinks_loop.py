"""Batches are acknowledged when every sink has them, and never before: whatever fails is tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from sink_builders import TRADES, batch, records, trade

from mdstream import events
from mdstream.errors import SinkError
from mdstream.sinks import loop as sink_loop
from mdstream.sinks.base import Chunk, Refusal, decode
from mdstream.sinks.loop import SinkLoop
from mdstream.sinks.metrics import SinkMetrics

GOOD = [events.encode(trade(n)) for n in range(30)]


class Memory:
    """A sink that keeps offsets in a list, fails as often as requested, and waits while its gate is closed."""

    def __init__(self, name: str = "memory", *, failures: Sequence[str] = ()) -> None:
        self.name = name
        self.stored: list[int] = []
        self.groups: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._failures = list(failures)

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def write(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
        await self.gate.wait()
        if self._failures:
            raise SinkError(self.name, "memory", self._failures.pop(0))
        offsets = [record.offset for chunk in chunks for record in chunk.records]
        self.stored += offsets
        self.groups.append(len(offsets))
        return ()

    def metrics(self) -> dict[str, float]:
        return {"stored_total": len(self.stored)}


class Dead:
    """Where refusals go."""

    def __init__(self) -> None:
        self.letters: list[Refusal] = []

    async def __call__(self, refused: Sequence[Refusal]) -> None:
        self.letters += refused


@asynccontextmanager
async def running(*sinks: Memory, group_records: int = 10) -> AsyncIterator[tuple[SinkLoop, Dead]]:
    dead = Dead()
    loop = SinkLoop(sinks, dead, group_records=group_records, linger_s=0)
    task = asyncio.create_task(loop.run())
    try:
        yield loop, dead
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_loop, "MIN_RETRY_S", 0)
    monkeypatch.setattr(sink_loop, "MAX_RETRY_S", 0)


async def settle(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  what is watched are plain counters
            await asyncio.sleep(0)


async def test_batches_are_acknowledged_in_order_once_all_sinks_have_them() -> None:
    """The slower sink decides."""
    fast, slow, acknowledged = Memory("fast"), Memory("slow"), list[int]()
    slow.gate.clear()
    async with running(fast, slow) as (loop, _):
        await loop.put(batch(records(*GOOD[:3]), acknowledged=acknowledged))
        await loop.put(batch(records(*GOOD[3:5], first=3), acknowledged=acknowledged))
        await settle(lambda: fast.stored)
        assert (acknowledged, loop.held) == ([], 5)
        slow.gate.set()
        await loop.settled()
    assert acknowledged == [3, 5]
    assert fast.stored == slow.stored == [0, 1, 2, 3, 4]
    assert (loop.records, loop.held) == (5, 0)


async def test_what_waits_becomes_one_group() -> None:
    """Groups grow with the load: while one is written, the next one gathers."""
    sink = Memory()
    sink.gate.clear()
    async with running(sink, group_records=100) as (loop, _):
        await loop.put(batch(records(*GOOD[:2]), acknowledged=[]))
        await settle(lambda: loop._writing)
        for n in (2, 5, 8):
            await loop.put(batch(records(*GOOD[n : n + 3], first=n), acknowledged=[]))
        sink.gate.set()
        await loop.settled()
    assert sink.groups == [2, 9]
    assert sink.stored == list(range(11))


async def test_put_waits_while_a_whole_group_waits_already() -> None:
    """Memory stays bounded while a sink is down: batches stay in the transport, untaken."""
    sink = Memory()
    sink.gate.clear()
    async with running(sink, group_records=4) as (loop, _):
        for n in range(0, 8, 4):
            await loop.put(batch(records(*GOOD[n : n + 4], first=n), acknowledged=[]))
            await settle(lambda: loop._writing)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await loop.put(batch(records(*GOOD[8:12], first=8), acknowledged=[]))
        assert loop.held == 8
        sink.gate.set()
        await loop.settled()
    assert sink.stored == list(range(8))


async def test_a_sink_that_fails_is_tried_again_and_its_neighbour_is_not_written_twice() -> None:
    bad, good, acknowledged = Memory("bad", failures=["disk full"] * 3), Memory("good"), list[int]()
    async with running(bad, good) as (loop, _):
        await loop.put(batch(records(*GOOD[:3]), acknowledged=acknowledged))
        await loop.settled()
    assert bad.stored == good.stored == [0, 1, 2]
    assert good.groups == [3]
    assert acknowledged == [3]
    assert loop.health["bad"].failures == 3


async def test_a_failure_is_logged_once_for_each_reason_and_so_is_the_recovery(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A disk that is full for an hour is one line, not a thousand."""
    caplog.set_level(logging.WARNING)
    sink = Memory("db", failures=["locked", "locked", "full", "full", "full"])
    async with running(sink) as (loop, _):
        await loop.put(batch(records(GOOD[0]), acknowledged=[]))
        await loop.settled()
    message = [record.getMessage() for record in caplog.records]
    tried = "it is tried again, and nothing is acknowledged until it works"
    assert message[:2] == [f"db cannot write memory: locked; {tried}", f"db cannot write memory: full; {tried}"]
    assert len(message) == 3
    assert message[2].startswith("db works again after ")


async def test_a_record_that_is_no_event_goes_to_the_dead_letters_and_its_neighbours_are_stored() -> None:
    acknowledged: list[int] = []
    sink = Memory()
    values = [GOOD[0], b"{}", None, b'{"type":"trade","symbol":"\xff"}', b'{"a":' * 100_000, GOOD[1]]
    async with running(sink) as (loop, dead):
        await loop.put(batch(records(*values), acknowledged=acknowledged))
        await loop.settled()
    assert sink.stored == [0, 5]
    assert [letter.record.offset for letter in dead.letters] == [1, 2, 3, 4]
    assert acknowledged == [6]
    assert loop.refused == 4


async def test_what_a_sink_refuses_goes_to_the_dead_letters_before_the_acknowledgement() -> None:
    acknowledged: list[int] = []

    class Picky(Memory):
        async def write(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
            return [Refusal(TRADES, chunks[0].records[0], "no")]

    async with running(Picky()) as (loop, dead):
        await loop.put(batch(records(*GOOD[:2]), acknowledged=acknowledged))
        await loop.settled()
    assert [(letter.record.offset, letter.reason) for letter in dead.letters] == [(0, "no")]
    assert acknowledged == [2]


async def test_batches_of_a_partition_that_was_taken_away_are_left_alone() -> None:
    """Its next owner stores them; here they must not even be waited for."""
    acknowledged: list[int] = []
    sink = Memory()
    async with running(sink) as (loop, _):
        await loop.put(batch(records(GOOD[0]), acknowledged=acknowledged, own=lambda: False))
        await loop.settled()
    assert (sink.stored, acknowledged) == ([], [])


async def test_a_programming_error_ends_the_loop() -> None:
    """What is not an error of a sink or the broker must not be tried for ever in silence."""

    class Broken(Memory):
        async def write(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
            raise ZeroDivisionError

    loop = SinkLoop([Broken()], Dead(), linger_s=0)
    await loop.put(batch(records(GOOD[0]), acknowledged=[]))
    with pytest.raises(ZeroDivisionError):
        await loop.run()


async def test_metrics_report_what_was_stored_what_is_held_and_which_sink_is_down() -> None:
    """A sink that fails shows at once, and how much waits for it."""
    fine, failing = Memory("fine"), Memory("failing", failures=["full"] * 1_000_000)
    async with running(fine, failing) as (loop, _):
        await loop.put(batch(records(*GOOD[:3]), acknowledged=[]))
        await settle(lambda: loop.health["failing"].reason)
        registry = CollectorRegistry()
        registry.register(SinkMetrics(loop, [fine, failing]))
        assert registry.get_sample_value("mdstream_sink_records_total") == 0
        assert registry.get_sample_value("mdstream_sink_held_records") == 3
        assert registry.get_sample_value("mdstream_sink_down", {"sink": "fine"}) == 0
        assert registry.get_sample_value("mdstream_sink_down", {"sink": "failing"}) == 1
        assert registry.get_sample_value("mdstream_fine_stored_total") == 3


async def test_metrics_of_all_sinks_have_their_conflicts_under_one_name() -> None:
    """So that one alert covers all of them; a sink without the number leaves it out."""
    telling, silent = Memory("telling"), Memory("silent")
    telling.metrics = lambda: {"seq_conflicts_total": 2.0}  # type: ignore[method-assign]
    registry = CollectorRegistry()
    registry.register(SinkMetrics(SinkLoop([], Dead()), [telling, silent]))
    assert registry.get_sample_value("mdstream_seq_conflicts_total", {"sink": "telling"}) == 2
    assert registry.get_sample_value("mdstream_seq_conflicts_total", {"sink": "silent"}) is None


def test_decoding_says_what_each_bad_record_is() -> None:
    chunk, refused = decode(TRADES, records(GOOD[0], None, b"[1]", GOOD[1]))
    assert [record.offset for record in chunk.records] == [0, 3]
    assert chunk.events == [trade(0), trade(1)]
    assert [each.reason for each in refused] == ["no value", "not an event: Expected `object`, got `array`"]
