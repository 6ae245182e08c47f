"""A consumer group as its members see it, with Kafka's rules for joining, syncing and leaving.

empty ──join──> preparing ──all joined, or time is up──> completing ──the leader has assigned──> stable
  ^                 ^                                        │                                      │
  └──the last left──┴──────────── a member joins, leaves or falls silent ───────────────────────────┘
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeVar

T = TypeVar("T")

NONE, UNKNOWN_MEMBER, ILLEGAL_GENERATION, INCONSISTENT, REBALANCING = 0, 25, 22, 23, 27


class State(Enum):
    """The names are those that Kafka sends to clients."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


class Joined(NamedTuple):
    """The answer to a join; `members` with their metadata for the leader only."""

    error: int
    generation: int = -1
    protocol: str = ""
    leader: str = ""
    member: str = ""
    members: tuple[tuple[str, bytes], ...] = ()


class Synced(NamedTuple):
    """The answer to a sync: the member's partitions, as encoded by the leader."""

    error: int
    assignment: bytes = b""


class Position(NamedTuple):
    """A committed offset."""

    offset: int
    metadata: str | None


@dataclass(eq=False)
class Member:
    """One consumer; it is removed at `deadline` unless it waits for our answer."""

    id: str
    client: str
    session_s: float
    rebalance_s: float
    protocols: list[tuple[str, bytes]]
    deadline: float = 0.0
    assignment: bytes = b""
    joining: asyncio.Future[Joined] | None = None
    syncing: asyncio.Future[Synced] | None = None

    def renew_session(self) -> None:
        self.deadline = time.monotonic() + self.session_s

    @property
    def waits(self) -> bool:
        return self.joining is not None or self.syncing is not None


@dataclass(eq=False)
class Group:
    """One group: its members, and the committed offset of each partition."""

    name: str
    state: State = State.EMPTY
    generation: int = 0
    protocol_type: str = ""
    protocol: str = ""
    leader: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    offsets: dict[tuple[str, int], Position] = field(default_factory=dict)
    _due: float = 0.0
    """When a rebalance goes on without members that have not rejoined."""

    # -- requests of members

    async def join(
        self,
        member_id: str,
        client: str,
        protocol_type: str,
        protocols: list[tuple[str, bytes]],
        *,
        session_s: float,
        rebalance_s: float,
    ) -> Joined:
        """The group's generation, once all members have joined. A new member has an empty `member_id`."""
        if member_id and member_id not in self.members:
            return Joined(UNKNOWN_MEMBER, member=member_id)
        others = [_names(member.protocols) for name, member in self.members.items() if name != member_id]
        if others and (protocol_type != self.protocol_type or not _common([*others, _names(protocols)])):
            return Joined(INCONSISTENT, member=member_id)
        member_id = member_id or f"{client}-{uuid.uuid4()}"
        before = self.members.get(member_id)
        member = Member(member_id, client, session_s, rebalance_s, protocols)
        if before is not None:
            if before.protocols == protocols and self._keeps(member_id):
                before.renew_session()
                return self._joined(before)
            member.assignment = before.assignment
            _answer(
                before.joining, Joined(UNKNOWN_MEMBER, member=member_id)
            )  # a repeated request: the later one counts
        self.members[member_id], self.protocol_type = member, protocol_type
        joining: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()
        member.joining = joining
        self._prepare()
        self._begin_generation()
        return await joining

    def _keeps(self, member_id: str) -> bool:
        """Whether a member that rejoins unchanged has just missed the answer. A leader wants a new round."""
        if self.state is State.STABLE:
            return member_id != self.leader
        return self.state is State.COMPLETING

    async def sync(self, member_id: str, generation: int, assignments: dict[str, bytes]) -> Synced:
        """The member's assignment; the leader's request carries those of all members."""
        error = self._error(member_id, generation)
        if error or self.state is State.PREPARING:
            return Synced(error or REBALANCING)
        member = self.members[member_id]
        member.renew_session()
        if self.state is State.STABLE:
            return Synced(NONE, member.assignment)
        syncing: asyncio.Future[Synced] = asyncio.get_running_loop().create_future()
        member.syncing = syncing
        if member_id == self.leader:
            self.state = State.STABLE
            for each in self.members.values():
                each.assignment = assignments.get(each.id, b"")
                each.renew_session()
                _answer(each.syncing, Synced(NONE, each.assignment))
                each.syncing = None
        return await syncing

    def heartbeat(self, member_id: str, generation: int) -> int:
        """Kafka's error code: REBALANCING asks the member to rejoin."""
        error = self._error(member_id, generation)
        if error:
            return error
        self.members[member_id].renew_session()
        return REBALANCING if self.state is State.PREPARING else NONE

    def leave(self, member_id: str) -> int:
        """Kafka's error code."""
        if member_id not in self.members:
            return UNKNOWN_MEMBER
        self._remove([self.members[member_id]])
        return NONE

    def commit(self, member_id: str, generation: int, offsets: dict[tuple[str, int], Position]) -> int:
        """Kafka's error code. A client outside the group, generation -1, may commit while the group is empty."""
        if generation >= 0 or self.members:
            error = self._error(member_id, generation)
            if error or self.state is State.COMPLETING:
                return error or REBALANCING
            self.members[member_id].renew_session()
        self.offsets |= offsets
        return NONE

    def _error(self, member_id: str, generation: int) -> int:
        if member_id not in self.members:
            return UNKNOWN_MEMBER
        return NONE if generation == self.generation else ILLEGAL_GENERATION

    # -- rounds

    def tick(self) -> None:
        """Remove silent members, and end a round whose time is up. Call several times a second."""
        now = time.monotonic()
        silent = [m for m in self.members.values() if not m.waits and m.deadline < now]
        if self.state is State.PREPARING and now >= self._due:
            silent = [m for m in self.members.values() if m.joining is None]
        if silent:
            self._remove(silent)

    def _remove(self, members: list[Member]) -> None:
        for member in members:
            del self.members[member.id]
            _answer(member.joining, Joined(UNKNOWN_MEMBER, member=member.id))
            _answer(member.syncing, Synced(UNKNOWN_MEMBER))
        self._prepare()
        self._begin_generation()

    def _prepare(self) -> None:
        if self.state is not State.PREPARING:
            self.state = State.PREPARING
            self._due = time.monotonic() + max((m.rebalance_s for m in self.members.values()), default=0.0)
        for member in self.members.values():
            _answer(member.syncing, Synced(REBALANCING))
            member.syncing = None

    def _begin_generation(self) -> None:
        """Begin the next generation if all members have joined."""
        if not self.members:
            self.state, self.leader, self.protocol = State.EMPTY, "", ""
            self.generation += 1
            return
        if any(member.joining is None for member in self.members.values()):
            return
        self.generation += 1
        self.state = State.COMPLETING
        self.protocol = _common([_names(member.protocols) for member in self.members.values()])[0]
        self.leader = self.leader if self.leader in self.members else next(iter(self.members))
        for member in self.members.values():
            member.renew_session()
            _answer(member.joining, self._joined(member))
            member.joining = None

    def _joined(self, member: Member) -> Joined:
        everybody = tuple((m.id, dict(m.protocols)[self.protocol]) for m in self.members.values())
        members = everybody if member.id == self.leader else ()
        return Joined(NONE, self.generation, self.protocol, self.leader, member.id, members)


def _names(protocols: list[tuple[str, bytes]]) -> list[str]:
    return [name for name, _ in protocols]


def _common(offers: list[list[str]]) -> list[str]:
    """The protocols that all members offer, in the order of the first."""
    return [name for name in offers[0] if all(name in offer for offer in offers[1:])]


def _answer(waiting: asyncio.Future[T] | None, answer: T) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(answer)
