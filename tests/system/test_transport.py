"""The batched transport in real workers: every record is processed, none skipped, whatever happens to the workers.

Each worker writes down what it takes and acknowledges (transport_worker.py); the group's committed offsets are asked of
the broker all along. Three rules are checked at the end of every story:

    every offset was taken by some worker                                      (nothing lost, nothing skipped)
    committed offsets never passed what was acknowledged, and never fell        (looked at all the time)
    committed offsets are the end of the log                                    (nothing left behind)
"""

from __future__ import annotations

import abc
import asyncio
import signal
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
from processes import BIN, LIMIT_S, Process, Processes, free_port, wait_until
from servers import group_of

from mdstream import config, kafka
from mdstream.kafka.publisher import Publisher
from topics import Topics

pytestmark = pytest.mark.system

PARTITIONS = 4
EVERY = set(range(PARTITIONS))
MEMORY_LIMIT_MB = 250
Span = tuple[int, int, int]
"""Partition, first offset, next offset."""


# -- what the workers wrote down


class Taken:
    """What one worker's log says: batches taken and acknowledged, as (partition, first, next)."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self.offsets: dict[int, set[int]] = defaultdict(set)
        self.batches: list[Span] = []
        self.acknowledged: list[Span] = []
        self.rebalances: list[tuple[str, set[int]]] = []

    def refresh(self) -> Self:
        """Read on; the last line may not be complete yet."""
        if self._path.exists():
            with self._path.open("rb") as log:
                log.seek(self._read)
                whole, newline, _ = log.read().rpartition(b"\n")
            self._read += len(whole + newline)
            for line in whole.decode().splitlines():
                self._take(*line.split(" "))
        return self

    def _take(self, what: str, *words: str) -> None:
        if what in ("take", "ack"):
            partition, first, end = map(int, words[1:4])
            (self.batches if what == "take" else self.acknowledged).append((partition, first, end))
            if what == "take":
                self.offsets[partition].update(map(int, words[4].split(",")))
        else:
            self.rebalances.append((what, {int(word) for word in words[0].split(",") if word}))

    @property
    def released(self) -> int:
        """How often its partitions were about to be taken away."""
        return sum(what == "releasing" for what, _ in self.rebalances)


def prefix(batches: Iterable[Span], partition: int) -> int:
    """Up to where the batches of a partition cover it from 0 without a hole."""
    end = 0
    for first, following in sorted((first, following) for number, first, following in batches if number == partition):
        if first > end:
            break
        end = max(end, following)
    return end


# -- what runs beside a story


class Background(abc.ABC):
    """A coroutine on a loop of its own thread, stopped when the block ends, which raises its error."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name=type(self).__name__)

    @abc.abstractmethod
    async def run(self) -> None:
        """What is done until `stopping` is set."""

    def _main(self) -> None:
        try:
            asyncio.run(self.run())
        except BaseException as error:  # shown by __exit__, in the test's own thread
            self._error = error

    def stop(self) -> None:
        self.stopping.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.stop()
        self.stopping.set()
        self._thread.join()


class Load(Background):
    """Writes small batches to every partition, until it is stopped."""

    def __init__(self, broker: str, topic: str) -> None:
        super().__init__()
        self._broker, self._topic = broker, topic

    async def run(self) -> None:
        async with publisher(self._broker) as out:
            while not self.stopping.is_set():
                await send(out, self._topic, dict.fromkeys(EVERY, 10))
                await asyncio.sleep(0.02)


@asynccontextmanager
async def publisher(broker: str) -> AsyncIterator[Publisher]:
    out = Publisher(broker, client_id="load")
    await out.start()
    try:
        yield out
    finally:
        await out.stop()


async def send(out: Publisher, topic: str, counts: Mapping[int, int], *, size: int = 100) -> None:
    """Write so many records of `size` bytes to each partition, and wait until the broker has them."""
    sent = [
        await out.send(topic, partition, ((b"k", b"x" * size, 0, []) for _ in range(count)))
        for partition, count in counts.items()
    ]
    await asyncio.gather(*(future for futures in sent for future in futures))


@dataclass
class Group:
    """One test's topic, workers and their group."""

    broker: str
    processes: Processes
    folder: Path
    topics: Topics
    logs: list[Path] = field(default_factory=list)

    @property
    def raw(self) -> str:
        return self.topics.raw["crypto"].name

    @property
    def name(self) -> str:
        return f"{self.raw.partition('.')[0]}.core"

    def create_topics(self) -> None:
        asyncio.run(kafka.create_topics(self.broker, self.topics))

    def worker(self, *, loop: str = "aio", **options: object) -> Worker:
        """Start a worker; `options` become its TRANSPORT_ variables."""
        log = self.folder / f"taken-{len(self.logs)}.log"
        self.logs.append(log)
        given = {f"TRANSPORT_{name.upper()}": str(value) for name, value in options.items()}
        command = [BIN / "faust", "-A", "transport_worker", "-L", loop, "worker", "-l", "info"]
        process = self.processes.spawn(
            [*command, "--web-port", free_port()],
            name=f"transport-{len(self.logs)}",
            env={"TRANSPORT_LOG": str(log), "PYTHONPATH": str(Path(__file__).parent), **given},
        )
        return Worker(process, log)

    def produce(self, counts: Mapping[int, int], *, size: int = 100) -> None:
        async def run() -> None:
            async with publisher(self.broker) as out:
                await send(out, self.raw, counts, size=size)

        asyncio.run(run())

    def load(self) -> Load:
        return Load(self.broker, self.raw)

    def watch(self) -> Watch:
        return Watch(self)

    def committed(self) -> dict[int, int]:
        """The group's committed offsets."""

        async def ask() -> dict[int, int]:
            async with kafka.admin(self.broker) as admin:
                return await committed(admin, self.name, self.raw)

        return asyncio.run(ask())

    def ends(self) -> dict[int, int]:
        """The true end of each partition."""

        async def read() -> dict[int, int]:
            found = dict.fromkeys(EVERY, 0)
            partitions = await kafka.partitions_of(self.broker, self.raw)
            async with kafka.reader(self.broker) as consumer:
                consumer.assign(partitions)
                async for records in kafka.read_to_end(consumer, partitions):
                    found[records[0].partition] = records[-1].offset + 1
            return found

        return asyncio.run(read())

    def all_is_done(self, *, limit_s: float = LIMIT_S) -> dict[int, int]:
        """Wait until the group has committed the end of the log; then no offset may be missing in the workers' logs."""
        ends = self.ends()

        def done() -> bool:
            for worker in self.processes.started:
                ended = worker.popen.poll()
                assert ended in (None, 0, -signal.SIGKILL), (
                    f"{worker.name} ended with {ended}:\n{worker.output()[-3000:]}"
                )
            return self.committed() == ends

        wait_until(done, what=f"commits of {ends}", limit_s=limit_s, every_s=0.3)
        logs = [Taken(log).refresh() for log in self.logs]
        for partition, end in ends.items():
            missing = set(range(end)).difference(*(log.offsets[partition] for log in logs))
            assert not missing, f"partition {partition}: {len(missing)} were not taken: {sorted(missing)[:20]}.."
        return ends


async def committed(admin: Any, group: str, topic: str) -> dict[int, int]:
    partitions = [TopicPartition(topic, number) for number in EVERY]
    try:
        found = await admin.list_consumer_group_offsets(group, partitions=partitions)
    except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError):
        return {}  # Apache Kafka makes its offsets topic when it is first asked for
    return {tp.partition: answer.offset for tp, answer in found.items() if answer.offset >= 0}


class Watch(Background):
    """Asks for the committed offsets all along: never past what was acknowledged, never lower than before."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self._group = group
        self.looks = 0

    async def run(self) -> None:
        highest = dict.fromkeys(EVERY, 0)
        logs: dict[Path, Taken] = {}
        async with kafka.admin(self._group.broker) as admin:
            while not self.stopping.is_set():
                offsets = await committed(admin, self._group.name, self._group.raw)
                # Read after the offsets were asked for: a worker writes its line before it acknowledges.
                for path in self._group.logs:
                    logs.setdefault(path, Taken(path)).refresh()
                done = [span for log in logs.values() for span in log.acknowledged]
                safe = {partition: prefix(done, partition) for partition in EVERY}
                for partition, offset in offsets.items():
                    assert offset <= safe[partition], f"{partition}: committed {offset}, acknowledged {safe[partition]}"
                    assert offset >= highest[partition], f"{partition}: committed {offset} after {highest[partition]}"
                highest |= offsets
                self.looks += 1
                await asyncio.sleep(0.2)


class Worker:
    """One running worker and its log."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process, self._taken = process, Taken(log)

    @property
    def taken(self) -> Taken:
        return self._taken.refresh()

    def wait_for(self, condition: Callable[[Taken], object], what: str, *, limit_s: float = LIMIT_S) -> None:
        """Wait until its log says so; what is there must not end meanwhile."""

        def check() -> bool:
            assert self.process.running, f"it ended:\n{self.process.output()[-3000:]}"
            return bool(condition(self.taken))

        wait_until(check, what=f"{what} ({self.process.log})", limit_s=limit_s, every_s=0.05)

    def takes(self, partitions: set[int], *, limit_s: float = LIMIT_S) -> None:
        """Wait until it takes new batches of all these partitions."""
        before = len(self.taken.batches)
        self.wait_for(
            lambda taken: {partition for partition, _, _ in taken.batches[before:]} >= partitions,
            f"batches of partitions {partitions}",
            limit_s=limit_s,
        )

    def takes_some(self) -> None:
        """Wait until it takes a new batch."""
        before = len(self.taken.batches)
        self.wait_for(lambda taken: len(taken.batches) > before, "a batch")

    def stop(self) -> None:
        """SIGTERM: a clean end."""
        assert self.process.stop() == 0, self.process.output()[-3000:]


@pytest.fixture
def env(env: dict[str, str]) -> dict[str, str]:
    return env | {"MDSTREAM_PARTITIONS": str(PARTITIONS), "MDSTREAM_MARKETS": "crypto"}


@pytest.fixture
def group(broker: str, prefix: str, env: dict[str, str], processes: Processes, tmp_path: Path) -> Group:
    """The test's group, its topics not there yet."""
    settings = config.load(bootstrap_servers=broker, topic_prefix=prefix, partitions=PARTITIONS, markets="crypto")
    return Group(broker, processes, tmp_path, Topics(settings))


# -- stories


def test_nothing_is_lost_when_workers_join_leave_and_are_killed_under_load(group: Group) -> None:
    """One alone, a second joins, the first leaves, a third joins, the second is killed: all while records flow.

    On uvloop, as `mdstream worker` runs them; the other stories are on asyncio's own loop.
    """
    group.create_topics()
    with group.watch() as watch, group.load():
        first = group.worker(loop="uvloop")
        first.takes(EVERY)
        second = group.worker(loop="uvloop")
        second.takes_some()
        first.stop()
        second.takes(EVERY)
        third = group.worker(loop="uvloop")
        third.takes_some()
        second.process.kill()
        third.takes(EVERY)
    group.all_is_done()
    third.stop()
    assert watch.looks > 10


def test_nothing_is_lost_when_a_worker_is_killed_before_its_first_commit(group: Group) -> None:
    """The victim has processed for a while and committed nothing of it: the survivor begins where the victim did."""
    group.create_topics()
    survivor, victim = group.worker(), group.worker(commit_s=300)
    for worker in (survivor, victim):
        worker.wait_for(lambda taken: any(0 < len(own) < PARTITIONS for _, own in taken.rebalances), "a share")
    with group.watch(), group.load():
        survivor.takes_some()
        for _ in range(5):
            victim.takes_some()
        victim.process.kill()
        survivor.takes(EVERY)
    group.all_is_done()
    for partition, offsets in victim.taken.offsets.items():
        assert offsets <= survivor.taken.offsets[partition]


def test_nothing_is_lost_when_a_worker_is_killed_in_the_middle_of_a_rebalance(group: Group) -> None:
    """A third worker joins; as soon as one of the two lets its partitions go, it is killed."""
    group.create_topics()
    with group.watch(), group.load():
        survivor, victim = group.worker(), group.worker()
        survivor.takes_some()
        victim.takes_some()
        released = victim.taken.released
        joining = group.worker()
        victim.wait_for(lambda taken: taken.released > released, "the rebalance")
        victim.process.kill()
        survivor.takes_some()
        joining.takes_some()
    group.all_is_done()


def test_nothing_is_lost_when_a_worker_is_suspended_beyond_its_session(group: Group) -> None:
    """The group goes on without it; when it comes back it joins again, and what it still had in hand harms nothing."""
    group.create_topics()
    with group.watch(), group.load():
        one, other = group.worker(), group.worker()
        one.takes_some()
        other.takes_some()
        one.process.signal(signal.SIGSTOP)
        other.takes(EVERY)
        one.process.signal(signal.SIGCONT)
        one.wait_for(lambda taken: taken.rebalances[-1][0] == "assigned" and taken.rebalances[-1][1], "an assignment")
        one.takes_some()
        other.takes_some()
    group.all_is_done()
    one.stop()
    other.stop()


def test_takeover_that_the_next_rebalance_overtakes_is_given_up(group: Group) -> None:
    """One is still restoring all partitions when the other is given half of them: it starts again, with the other half.

    Otherwise it would go on with partitions that are no longer its own.
    """
    group.create_topics()
    hold = group.folder / "hold"
    with group.watch(), group.load():
        one = group.worker(hold=hold)
        one.wait_for(lambda taken: ("restoring", EVERY) in taken.rebalances, "a takeover of all")
        other = group.worker()
        other.takes_some()
        hold.touch()
        one.takes_some()
    assert ("assigned", EVERY) not in one.taken.rebalances
    group.all_is_done()
    one.stop()
    other.stop()


def test_worker_whose_stop_hangs_has_left_the_group(group: Group) -> None:
    """Whatever it waits for, a producer say: its partitions are elsewhere long before it is given up."""
    group.create_topics()
    with group.watch(), group.load():
        one = group.worker(hangs=True)
        one.takes(EVERY)
        other = group.worker()
        other.takes_some()
        one.process.popen.terminate()
        one.wait_for(lambda taken: ("stopping", set()) in taken.rebalances, "the stop to hang")
        other.takes(EVERY)
        assert one.process.running
        one.process.kill()
    group.all_is_done()
    other.stop()


def test_worker_that_is_stopped_in_a_rebalance_leaves_the_group(group: Group) -> None:
    """If it stayed a member, the others would wait for its session to end, 6 s."""
    group.create_topics()
    with group.watch(), group.load():
        one, other = group.worker(ack_s=0.3), group.worker()
        one.takes_some()
        other.takes_some()
        before = one.taken.released
        third = group.worker()
        one.wait_for(lambda taken: taken.released > before, "a rebalance")
        one.stop()
        assert asyncio.run(group_of(group.broker, group.name))[1] == 2
    group.all_is_done()
    other.stop()
    third.stop()


def test_claim_that_is_met_in_a_rebalance_changes_nothing_of_its_outcome(group: Group) -> None:
    """Partitions are taken over as the rebalance assigns them, all of them, not as they were assigned before it."""
    group.create_topics()
    with group.watch(), group.load():
        one, other = group.worker(claimed=True), group.worker()
        one.takes_some()
        other.takes_some()
        other.stop()
        one.takes(EVERY)
    group.all_is_done()
    one.stop()


def test_partitions_that_are_being_read_are_not_taken_over_again(group: Group) -> None:
    """Positioning is asked for twice, as by two rebalances in a row: the state that is in use stays.

    Restored once more, it would lack the records that were read since.
    """
    group.create_topics()
    with group.load():
        one = group.worker(twice=True)
        one.takes(EVERY)
        one.takes(EVERY)
    assert one.taken.rebalances == [("assigned", EVERY)]
    group.all_is_done()
    one.stop()


def test_partitions_are_read_from_the_beginning_and_committed_at_once(group: Group) -> None:
    """A group without any committed offset: 0 is committed as soon as the partitions are assigned, empty ones too."""
    group.create_topics()
    group.produce({0: 40, 1: 1})
    worker = group.worker(commit_s=300, ack_s=0)
    wait_until(lambda: group.committed() == dict.fromkeys(EVERY, 0), what="a committed offset for every partition")
    worker.wait_for(lambda taken: taken.offsets.keys() >= {0, 1}, "the first batches")
    assert {partition: min(offsets) for partition, offsets in worker.taken.offsets.items()} == {0: 0, 1: 0}
    worker.stop()
    assert group.committed() == {0: 40, 1: 1, 2: 0, 3: 0}


def test_batch_that_is_never_acknowledged_holds_the_committed_offset(group: Group) -> None:
    """Whatever is done behind it, the offset stays, also when the worker stops; the next worker gets it again."""
    group.create_topics()
    worker = group.worker(never_first=1, ack_s=0)
    worker.wait_for(lambda taken: taken.rebalances, "an assignment")
    group.produce({0: 3, 1: 1})
    worker.wait_for(lambda taken: taken.offsets.keys() >= {0, 1}, "the first batches")
    for _ in range(3):
        group.produce({0: 5, 1: 5})
    worker.wait_for(lambda taken: len(taken.offsets[0]) == 18 and len(taken.offsets[1]) == 16, "every record")
    worker.wait_for(lambda taken: {partition for partition, _, _ in taken.acknowledged} == {0, 1}, "acknowledgements")
    worker.stop()
    assert group.committed() == dict.fromkeys(EVERY, 0)
    again = group.worker()
    assert group.all_is_done() == {0: 18, 1: 16, 2: 0, 3: 0}
    assert {number: min(offsets) for number, offsets in again.taken.offsets.items()} == {0: 0, 1: 0}


def test_what_is_buffered_does_not_wait_for_news_of_other_partitions(group: Group) -> None:
    """While a batch waits for the agent only other partitions are asked; they are silent, for longer than the test."""
    group.create_topics()
    group.produce({0: 60_000})
    group.worker(fetch_s=120, work_s=0.005)
    group.all_is_done()


def test_worker_far_behind_delivers_all_in_bounded_memory(group: Group) -> None:
    """300,000 records wait and the agent is slow: they come batch by batch, and the memory is that of a few."""
    group.create_topics()
    for _ in range(15):
        group.produce(dict.fromkeys(EVERY, 5_000), size=300)
    worker = group.worker(work_s=0.03)
    assert sum(group.all_is_done(limit_s=90).values()) == 15 * PARTITIONS * 5_000
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    (peak_kb,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak_kb / 1024 < MEMORY_LIMIT_MB
    worker.stop()


def test_worker_started_before_its_topics_exist_creates_them(group: Group) -> None:
    """A consumer that subscribes to topics that are not there is assigned none, for ever: so the worker makes them."""
    worker = group.worker()
    worker.wait_for(lambda taken: ("assigned", EVERY) in taken.rebalances, "an assignment")
    counts = asyncio.run(kafka.partition_counts(group.broker))
    assert {topic.name: counts.get(topic.name) for topic in group.topics} == {t.name: PARTITIONS for t in group.topics}
    group.produce(dict.fromkeys(EVERY, 10))
    assert group.all_is_done() == dict.fromkeys(EVERY, 10)
    worker.stop()
