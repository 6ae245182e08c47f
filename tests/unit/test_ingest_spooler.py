"""The spooler: in any outage each partition gets all its records, in order, and new ones behind those that waited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from mdstream.errors import SpoolError
from mdstream.ingest import spool as spool_module
from mdstream.ingest import spooler as spooler_module
from mdstream.ingest.backlog import Backlog
from mdstream.ingest.overflow import Limits
from mdstream.ingest.spool import Spool, Spooled
from mdstream.ingest.spooler import Spooler

QUEUES = 2


class Kafka:
    """Takes what the backlog has, unless it is away; then a delivery of each queue stays under way."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self.away = False
        self.got: list[list[int]] = [[] for _ in range(QUEUES)]
        self.via: set[bytes] = set()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            for queue in self._backlog.waiting():
                if not self._backlog.taken(queue):
                    self._backlog.take(queue, 2000)
            for queue in range(QUEUES):
                if not self.away:
                    for _, value, _, headers in self._backlog._taken[queue][0]:
                        self.got[queue].append(int(value or b""))
                        self.via.add(headers[3][1])
                    self._backlog.release(queue)

    @property
    def distinct(self) -> list[list[int]]:
        """Of each queue the numbers in the order in which they came first."""
        return [list(dict.fromkeys(numbers)) for numbers in self.got]


class Ingestor:
    """Backlog and spooler of one process, with a spool in `folder`."""

    def __init__(self, folder: Path | None, limits: Limits | None = None) -> None:
        self.backlog = Backlog(QUEUES)
        if limits is not None:
            self.backlog.overflow.limits = limits
        self.kafka = Kafka(self.backlog)
        self.spool = None if folder is None else Spool(folder, ["crypto"], max_bytes=1 << 30)
        self.stalled_s = 0.0
        self.spooler = Spooler(
            self.backlog,
            self.spool,
            address=lambda queue: ("md.raw.crypto", queue),
            queue_of=lambda spooled: spooled.partition,
            stalled_s=lambda: self.stalled_s,
            sync_s=0.0,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Ingestor]:
        tasks = [asyncio.create_task(self.kafka.run()), asyncio.create_task(self.spooler.run())]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)

    def add(self, *numbers: int, kind: bytes = b"trade") -> None:
        headers = [("p", b"okx"), ("t", b""), ("k", kind), ("via", b"ws")]
        for n in numbers:
            self.backlog.add(n % QUEUES, (b"BTCUSDT", b"%d" % n, 0, headers), 5)

    def die(self) -> None:
        """As a kill does: the lock is given back, what is in memory is gone."""
        if self.spool is not None:
            self.spool.close()


def split(*numbers: int) -> list[list[int]]:
    return [[n for n in numbers if n % QUEUES == queue] for queue in range(QUEUES)]


async def until_diverted(ingestor: Ingestor) -> None:
    ingestor.kafka.away, ingestor.stalled_s = True, 5.0
    while not ingestor.backlog.diverted:  # noqa: ASYNC110  a plain attribute
        await asyncio.sleep(0.005)


async def until_written(ingestor: Ingestor) -> None:
    while len(ingestor.backlog.overflow):  # noqa: ASYNC110  a plain attribute
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("spooled", [True, False], ids=["on disk", "in memory"])
async def test_outage_delays_records_and_keeps_their_order(tmp_path: Path, spooled: bool) -> None:
    """What was under way comes first, then what waited, then what is new."""
    async with Ingestor(tmp_path if spooled else None).running() as ingestor:
        ingestor.add(*range(10))
        await until_diverted(ingestor)
        ingestor.add(*range(10, 500))
        await asyncio.sleep(0.1)
        ingestor.add(*range(500, 600))
        ingestor.kafka.away, ingestor.stalled_s = False, 0.0
        ingestor.add(*range(600, 700))
        await asyncio.wait_for(ingestor.spooler.drained(), 30)
        ingestor.add(700, 701)
        await asyncio.wait_for(ingestor.spooler.drained(), 30)
        assert ingestor.kafka.got == split(*range(702))
        assert not ingestor.backlog.diverted
        assert (b"spool" in ingestor.kafka.via) == spooled
        assert ingestor.spooler.spool_bytes == 0
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240  nothing else runs by now


@pytest.mark.parametrize("spooled", [True, False], ids=["on disk", "in memory"])
async def test_outage_ends_although_new_records_come_all_the_time(tmp_path: Path, spooled: bool) -> None:
    """A fast feed never pauses: the way by the disk is left when Kafka has what is there."""
    sent = 0

    async def feed(ingestor: Ingestor) -> None:
        nonlocal sent
        while True:
            ingestor.add(*range(sent, sent + 5))
            sent += 5
            await asyncio.sleep(0.001)

    async with Ingestor(tmp_path if spooled else None).running() as ingestor:
        feeding = asyncio.create_task(feed(ingestor))
        await until_diverted(ingestor)
        await asyncio.sleep(0.3)
        ingestor.kafka.away, ingestor.stalled_s = False, 0.0
        async with asyncio.timeout(30):
            while ingestor.backlog.diverted:  # noqa: ASYNC110  a plain attribute
                await asyncio.sleep(0.005)
        feeding.cancel()
        await asyncio.wait_for(ingestor.spooler.drained(), 30)
        assert ingestor.kafka.distinct == split(*range(sent))
        assert (b"spool" in ingestor.kafka.via) == spooled


async def test_records_survive_a_kill_in_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also two in a row: the next process sends what the dead ones had, before its own."""
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 2000)
    for start in (0, 300):
        async with Ingestor(tmp_path).running() as ingestor:
            ingestor.kafka.away = True
            ingestor.add(*range(start, start + 10))
            await until_diverted(ingestor)
            ingestor.add(*range(start + 10, start + 300))
            await until_written(ingestor)
        ingestor.die()
    async with Ingestor(tmp_path).running() as last:
        assert last.spooler.resumes
        last.add(*range(600, 650))
        await asyncio.wait_for(last.spooler.drained(), 30)
        assert last.kafka.distinct == split(*range(650))


async def test_disk_that_fails_for_a_while_reorders_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be written waits in memory, and is written behind what is on disk: told once, not each second."""
    monkeypatch.setattr(spooler_module, "RETRY_S", 0.05)
    async with Ingestor(tmp_path).running() as ingestor:
        await until_diverted(ingestor)
        ingestor.add(*range(100))
        await until_written(ingestor)
        assert ingestor.spool is not None
        write = ingestor.spool.write

        def refuse(_: object) -> None:
            raise SpoolError("cannot write the spool: No space left on device")

        monkeypatch.setattr(ingestor.spool, "write", refuse)
        ingestor.add(*range(100, 200))
        await asyncio.sleep(0.3)
        assert ingestor.spooler.error == "cannot write the spool: No space left on device"
        monkeypatch.setattr(ingestor.spool, "write", write)
        await until_written(ingestor)
        ingestor.add(*range(200, 300))
        ingestor.kafka.away, ingestor.stalled_s = False, 0.0
        await asyncio.wait_for(ingestor.spooler.drained(), 30)
        assert ingestor.kafka.distinct == split(*range(300))
        assert ingestor.spooler.error is None
    assert caplog.text.count("No space left on device") == 1


async def test_end_of_the_process_leaves_everything_in_the_spool(tmp_path: Path) -> None:
    """Whether it was diverted by then or not."""
    async with Ingestor(tmp_path).running() as ingestor:
        ingestor.kafka.away = True
        ingestor.add(*range(100))
        await ingestor.spooler.park()
        assert "is in the spool, except for 0 records" in ingestor.spooler.outcome()
    ingestor.die()
    async with Ingestor(tmp_path).running() as heir:
        await asyncio.wait_for(heir.spooler.drained(), 30)
        assert heir.kafka.distinct == split(*range(100))


async def test_without_a_spool_memory_is_bounded_and_drops_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Trades are kept longest; what is lost is counted by kind, in the log too."""
    monkeypatch.setattr(spooler_module, "REPORT_S", 0.0)
    async with Ingestor(None, Limits(records=100)).running() as ingestor:
        await until_diverted(ingestor)
        ingestor.add(*range(60))
        ingestor.add(*range(60, 200), kind=b"quote")
        ingestor.add(*range(200, 220))
        await asyncio.sleep(0.1)
        assert "records that was" not in caplog.text
        assert "dropped for want of room so far:" in caplog.text
        with pytest.raises(SpoolError, match=r"the spool is switched off .MDSTREAM_SPOOL_MB=0."):
            await ingestor.spooler.park()
        assert "records that waited for Kafka are lost" in ingestor.spooler.outcome()
        ingestor.kafka.away, ingestor.stalled_s = False, 0.0
        await asyncio.wait_for(ingestor.spooler.drained(), 30)
        trades = [n for queue in ingestor.kafka.distinct for n in queue if n < 60 or n >= 200]
        assert sorted(trades) == [*range(60), *range(200, 220)]
        assert set(ingestor.backlog.overflow.dropped) == {b"quote"}


def test_spooled_record_names_its_partition() -> None:
    """So that records of no instrument, heartbeats say, go where they were meant to."""
    assert (
        Spooled("md.raw.crypto", 3, b"okx", b"{}", 0, [("p", b""), ("t", b""), ("k", b"heartbeat")]).kind
        == b"heartbeat"
    )
