"""Which symbols a consumer has: all of them, or one share of several (`--member 2/3`). Pure.

Members of a queue group would each get some of a symbol's events, and no window would be right. So a symbol belongs to
one member, by a hash of its name: with JetStream by the server, which copies the events into a stream whose subjects
begin with the share; else each member leaves out what is not its own. Heartbeats, which tell the time, go to all.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from zlib import crc32

from mdstream.errors import SettingsError

GROUP = "senpai-md"
TIME = "heartbeat"
KINDS = ("trade", "quote", "status", "gap")
"""Types of events that the engine uses, beside heartbeats: the second last token of their subjects."""


class Share(NamedTuple):
    """The member's number, from 1, of so many."""

    member: int = 1
    members: int = 1

    @property
    def name(self) -> str:
        """The durable consumer, and the queue group."""
        return GROUP if self.members == 1 else f"{GROUP}-{self.member}-of-{self.members}"

    def subjects(self, prefix: str) -> list[str]:
        """The subjects of its events in the stream that `stream` names."""
        if self.members == 1:
            return [f"{prefix}.{kind}.*" for kind in (*KINDS, TIME)]
        return [f"{prefix}-by-{self.members}.{share}.>" for share in (self.member - 1, "all")]

    def stream(self, name: str) -> str:
        """The stream that it reads, given that of all events."""
        return name if self.members == 1 else f"{name}-BY-{self.members}"

    def copied(self, name: str, prefix: str) -> dict[str, Any]:
        """What makes the server copy the events of a stream into the shares' one.

        https://docs.nats.io/nats-concepts/subject_mapping, deterministic subject token partitioning (read 2026-11).
        """
        to = f"{prefix}-by-{self.members}"
        transforms = [
            {
                "src": f"{prefix}.{kind}.*",
                "dest": f"{to}.{{{{partition({self.members},1)}}}}.{kind}.{{{{wildcard(1)}}}}",
            }
            for kind in KINDS
        ]
        transforms.append({"src": f"{prefix}.{TIME}.*", "dest": f"{to}.all.{TIME}.{{{{wildcard(1)}}}}"})
        return {"name": name, "subject_transforms": transforms}

    def has(self, kind: str, token: str) -> bool:
        """Whether an event of a type and symbol, as the tokens of its subject, is its own."""
        return self.members == 1 or kind == TIME or crc32(token.encode()) % self.members == self.member - 1


def share_of(text: str) -> Share:
    """`2/3` as a share. Raises SettingsError."""
    member, _, members = text.partition("/")
    if member.isdecimal() and members.isdecimal() and 1 <= int(member) <= int(members) <= MAX_MEMBERS:
        return Share(int(member), int(members))
    raise SettingsError(f"--member {text}: expected the number of this process and of all, like 2/3")


MAX_MEMBERS = 64
