"""The embedded broker's groups: who joins, leaves or falls silent, and what the others get."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from mdstream.broker.group import (
    ILLEGAL_GENERATION,
    INCONSISTENT,
    NONE,
    REBALANCING,
    UNKNOWN_MEMBER,
    Group,
    Joined,
    Position,
    State,
    Synced,
)

RANGE = [("range", b"topics")]


def join(group: Group, member: str = "", **options: Any) -> Coroutine[Any, Any, Joined]:
    given = {"protocol_type": "consumer", "protocols": RANGE, "session_s": 5.0, "rebalance_s": 5.0, **options}
    return group.join(member, "client", given.pop("protocol_type"), given.pop("protocols"), **given)


async def stable(group: Group, count: int, **options: Any) -> list[Joined]:
    """A group of so many members, the leader first, each with its own number as assignment."""
    tasks = [asyncio.create_task(join(group, **options)) for _ in range(count)]
    await asyncio.sleep(0)
    first = await tasks[0]
    others = tasks[1:]
    if others:  # the first was alone: it hears that others came, and joins again
        tasks[0] = asyncio.create_task(join(group, first.member, **options))
    joined = await asyncio.gather(*tasks)
    assignments = {each.member: str(number).encode() for number, each in enumerate(joined)}
    synced = await asyncio.gather(*(group.sync(j.member, j.generation, assignments) for j in joined))
    assert synced == [Synced(NONE, assignments[j.member]) for j in joined]
    assert group.state is State.STABLE
    return joined


async def test_members_that_join_together_are_one_generation_and_the_leader_knows_all() -> None:
    """Only the leader gets the list of members: it assigns."""
    group = Group("g")
    joined = await stable(group, 3)
    assert len({each.generation for each in joined}) == 1
    assert [each.leader for each in joined] == [joined[0].member] * 3
    assert {member for member, _ in joined[0].members} == {each.member for each in joined}
    assert joined[1].members == ()


async def test_new_member_makes_the_others_join_again() -> None:
    """They learn of it with their heartbeat; none continues until all have joined."""
    group = Group("g")
    [first] = await stable(group, 1)
    assert group.heartbeat(first.member, first.generation) == NONE
    new = asyncio.create_task(join(group))
    await asyncio.sleep(0)
    assert group.heartbeat(first.member, first.generation) == REBALANCING
    assert not new.done()
    again = await join(group, first.member)
    assert (await new).generation == again.generation == first.generation + 1
    assert group.heartbeat(first.member, first.generation) == ILLEGAL_GENERATION


async def test_member_that_does_not_join_again_in_time_is_removed() -> None:
    """A worker that hangs must not stop the others for longer than the rebalance timeout."""
    group = Group("g")
    joined = await stable(group, 2, rebalance_s=0.02)
    again = asyncio.create_task(join(group, joined[0].member, protocols=[("range", b"more")], rebalance_s=0.02))
    await asyncio.sleep(0.05)
    group.tick()
    assert [member for member, _ in (await again).members] == [joined[0].member]
    assert group.heartbeat(joined[1].member, joined[1].generation) == UNKNOWN_MEMBER


async def test_silent_member_is_removed_after_its_session() -> None:
    """The others take over its partitions."""
    group = Group("g")
    joined = await stable(group, 2, session_s=0.05)
    for _ in range(4):
        await asyncio.sleep(0.02)
        assert group.heartbeat(joined[0].member, joined[0].generation) in (NONE, REBALANCING)
        group.tick()
    assert list(group.members) == [joined[0].member]
    assert group.state is State.PREPARING


async def test_leaving_makes_the_others_join_again_and_the_last_one_empties_the_group() -> None:
    """No timeout has to pass for a worker that stops in order."""
    group = Group("g")
    first, second = await stable(group, 2)
    assert group.leave(second.member) == NONE
    assert group.leave(second.member) == UNKNOWN_MEMBER
    assert group.heartbeat(first.member, first.generation) == REBALANCING
    assert group.leave(first.member) == NONE
    assert group.state is State.EMPTY


async def test_join_during_a_sync_sends_the_waiting_members_back() -> None:
    """A follower that waits for the leader's assignment must not wait for ever."""
    group = Group("g")
    first = await join(group)
    second = asyncio.create_task(join(group))
    await asyncio.sleep(0)
    first = await join(group, first.member)
    waiting = asyncio.create_task(group.sync((await second).member, first.generation, {}))
    await asyncio.sleep(0)
    third = asyncio.create_task(join(group))
    assert await waiting == Synced(REBALANCING)
    third.cancel()


async def test_follower_that_joins_again_with_nothing_new_gets_the_same_answer() -> None:
    """It missed the answer; the others are left alone."""
    group = Group("g")
    joined = await stable(group, 2)
    assert await join(group, joined[1].member) == joined[1]
    assert group.state is State.STABLE


async def test_join_is_refused_to_strangers_and_to_those_with_no_protocol_in_common() -> None:
    """A member from before a restart joins again; a worker of another kind must not get partitions."""
    group = Group("g")
    assert (await join(group, "who")).error == UNKNOWN_MEMBER
    await stable(group, 1)
    assert (await join(group, protocols=[("sticky", b"")])).error == INCONSISTENT
    assert (await join(group, protocol_type="connect")).error == INCONSISTENT


async def test_commit_is_taken_from_members_of_this_generation_only() -> None:
    """A zombie must not move the group back. Without members anybody may set the offsets."""
    group = Group("g")
    at = {("t", 0): Position(5, "")}
    assert group.commit("", -1, at) == NONE
    [first] = await stable(group, 1)
    assert group.commit("", -1, at) == UNKNOWN_MEMBER
    assert group.commit(first.member, first.generation - 1, at) == ILLEGAL_GENERATION
    assert group.commit(first.member, first.generation, {("t", 1): Position(7, "x")}) == NONE
    assert group.offsets == {("t", 0): Position(5, ""), ("t", 1): Position(7, "x")}
