"""What the transport asks of the app that it serves."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Collection, Mapping

import faust
from faust.types import TP


class Host(faust.App):
    """An app with batched topics: it restores what belongs to partitions, and makes it safe before they are taken."""

    batched_topics: Counter[str]
    """How many agents read each."""

    @abc.abstractmethod
    async def restore(self, committed: Mapping[TP, int | None]) -> dict[TP, int]:
        """Make the agents ready for these partitions, given with the committed offset of each; the position to read
        from, for each that has one."""

    @abc.abstractmethod
    async def release(self, tps: Collection[TP]) -> None:
        """Let every agent make safe what it took of these partitions."""
