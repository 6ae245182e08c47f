"""What the transport requires of its app."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Collection, Mapping

import faust
from faust.types import TP


class Host(faust.App):
    """An app with batched topics: it restores the state of partitions, and saves it before they are revoked."""

    batched_topics: Counter[str]
    """How many agents read each topic."""

    @abc.abstractmethod
    async def restore(self, starts: Mapping[TP, int]) -> dict[TP, int]:
        """Prepare the agents for these partitions, each given with a default offset; the offset to read each from. May
        be called again, or cancelled at any await."""

    @abc.abstractmethod
    async def release(self, tps: Collection[TP]) -> None:
        """Have every agent finish and save what it took from these partitions."""
