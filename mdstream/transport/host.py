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
    async def restore(self, starts: Mapping[TP, int]) -> dict[TP, int]:
        """Make the agents ready for these partitions, given with the offset to read each from if they know no better
        one; the offset to read each from. May be called again, or cancelled at any await."""

    @abc.abstractmethod
    async def release(self, tps: Collection[TP]) -> None:
        """Let every agent make safe what it took of these partitions."""
