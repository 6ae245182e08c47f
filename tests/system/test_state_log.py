"""md.state on a real broker: claims, checkpoints that count, and those that come too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from mdstream import config, kafka
from mdstream.errors import OvertakenError
from mdstream.records import Partition
from mdstream.roles.state_log import StateLog
from mdstream.stream import ledger
from mdstream.stream.ledger import END, Ledger
from mdstream.stream.output import Out
from topics import Topics

pytestmark = pytest.mark.system

LAYOUT = "test/1"
RAW, BARS = Partition("raw", 2), Partition("bars", 2)


@pytest.fixture
async def topic(broker: str, prefix: str) -> str:
    topics = Topics(config.load(topic_prefix=prefix, partitions=4))
    await kafka.create_topics(broker, [topics.state])
    return topics.state.name


@asynccontextmanager
async def state_log(broker: str, topic: str) -> AsyncIterator[StateLog]:
    """One worker's."""
    log = StateLog(broker, topic)
    await log.start()
    try:
        yield log
    finally:
        await log.stop()


async def take_over(log: StateLog, *partitions: Partition) -> tuple[dict[Partition, int], list[dict[str, int]]]:
    """The claims, and what each ledger holds by name."""
    found = {partition: Ledger(partition.topic, LAYOUT) for partition in partitions}
    claims = await log.take_over(found)
    return claims, [{name.decode(): msgspec.msgpack.decode(state) for name, state in each} for each in found.values()]


def checkpoint(claim: int, position: int, partition: Partition = RAW, **states: int) -> Out:
    named = [(name.encode(), state) for name, state in states.items()]
    packed = [(name, msgspec.msgpack.encode(state)) for name, state in [*named, (END, position)]]
    return ledger.records(LAYOUT, partition.topic, claim, packed, 0)


async def test_takeover_reads_all_that_was_written_before(broker: str, topic: str) -> None:
    """However much it is; a claim follows a claim."""
    async with state_log(broker, topic) as first, state_log(broker, topic) as second:
        claims, (found,) = await take_over(first, RAW)
        assert found == {}
        for n in range(1, 21):
            await first.write(RAW, claims[RAW], checkpoint(claims[RAW], n, RAW, **{f"S{i}": n for i in range(500)}))
        later, (found,) = await take_over(second, RAW)
        assert later[RAW] > claims[RAW]
        assert found == {f"S{i}": 20 for i in range(500)} | {"": 20}


async def test_roles_of_one_worker_share_a_partition(broker: str, topic: str) -> None:
    """They write in turn and at once, and neither is a stranger to the other."""
    async with state_log(broker, topic) as log:
        (claims, _), (bars, _) = await asyncio.gather(take_over(log, RAW), take_over(log, BARS))
        claims |= bars
        for n in range(20):
            writes = (log.write(p, claims[p], checkpoint(claims[p], n, p, A=n)) for p in (RAW, BARS))
            await asyncio.gather(*writes)
        _, found = await take_over(log, RAW, BARS)
        assert found == [{"A": 19, "": 19}] * 2


async def test_an_overtaken_owner_learns_it_with_its_next_checkpoint(broker: str, topic: str) -> None:
    """Also the one after: it must not come through by trying again."""
    async with state_log(broker, topic) as older, state_log(broker, topic) as newer:
        claims, _ = await take_over(older, RAW)
        await older.write(RAW, claims[RAW], checkpoint(claims[RAW], 1, A=1))
        _, (found,) = await take_over(newer, RAW)
        for _ in range(2):
            with pytest.raises(OvertakenError, match=r"the state of raw\[2\] was written by another worker"):
                await older.write(RAW, claims[RAW], checkpoint(claims[RAW], 9, A=9))
        assert found == {"A": 1, "": 1}
        assert (await take_over(newer, RAW))[1] == [found]


async def test_two_that_take_over_at_once_have_one_owner(broker: str, topic: str) -> None:
    """Whose claim came last: what it writes first finds the other's claim before its own, or none."""
    async with state_log(broker, topic) as one, state_log(broker, topic) as other:
        for n in range(10):
            (mine, _), (theirs, _) = await asyncio.gather(take_over(one, RAW), take_over(other, RAW))
            assert mine[RAW] != theirs[RAW]
            owner, claim = (one, mine[RAW]) if mine[RAW] > theirs[RAW] else (other, theirs[RAW])
            loser, lost = (other, theirs[RAW]) if owner is one else (one, mine[RAW])
            await owner.write(RAW, claim, checkpoint(claim, n, A=n))
            with pytest.raises(OvertakenError):
                await loser.write(RAW, lost, checkpoint(lost, 99, A=99))


async def test_late_checkpoint_of_a_former_owner_is_found_and_repaired(broker: str, topic: str) -> None:
    """The owner takes over again, so that compaction never keeps the late one in place of its own."""
    async with state_log(broker, topic) as older, state_log(broker, topic) as owner:
        before, _ = await take_over(older, RAW)
        await older.write(RAW, before[RAW], checkpoint(before[RAW], 1, A=1, B=1))
        claims, _ = await take_over(owner, RAW)
        with pytest.raises(OvertakenError):
            await older.write(RAW, before[RAW], checkpoint(before[RAW], 9, A=9))
        with pytest.raises(OvertakenError):
            await owner.write(RAW, claims[RAW], checkpoint(claims[RAW], 2, B=2))
        found = Ledger(RAW.topic, LAYOUT)
        claim = (await owner.take_over({RAW: found}))[RAW]
        assert found.shadowed == {b"A"}
        await owner.write(RAW, claim, [*found.repairs(claim, 0), *checkpoint(claim, 2)])
        last = Ledger(RAW.topic, LAYOUT)
        await owner.take_over({RAW: last})
        assert {name: msgspec.msgpack.decode(state) for name, state in last} == {b"A": 1, b"B": 2, END: 2}
        assert last.shadowed == set()


async def test_released_owner_writes_no_more(broker: str, topic: str) -> None:
    """A checkpoint under way when the partition was given up."""
    async with state_log(broker, topic) as log:
        claims, _ = await take_over(log, RAW)
        log.give_up([RAW])
        with pytest.raises(OvertakenError):
            await log.write(RAW, claims[RAW], checkpoint(claims[RAW], 1, A=1))
