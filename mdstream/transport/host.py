"""What the transport asks of the app that it serves."""

from __future__ import annotations

import abc
from collections.abc import Collection

import faust
from faust.types import TP


class Host(faust.App):
    """An app with batched topics: it restores what belongs to partitions, and makes it safe before they are taken."""

    batched_topics: set[str]

    @abc.abstractmethod
    async def restore(self, tps: Collection[TP]) -> dict[TP, int]:
        """Make the agents ready for these partitions; the position to read from, for each that has one recorded."""

    @abc.abstractmethod
    async def release(self, tps: Collection[TP]) -> None:
        """Let every agent make safe what it took of these partitions."""
