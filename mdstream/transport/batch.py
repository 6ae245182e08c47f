"""What an agent receives from a batched topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from mdstream.records import Partition, Record


class Batch:
    """Consecutive records of one partition: offsets [first, next).

    An agent calls `take` once, when it starts on the records, and `acknowledge` once all their effects are safe.
    Offsets are committed up to the first batch that is not acknowledged, in whatever order acknowledgements arrive.
    """

    __slots__ = ("_acknowledge", "_on_take", "_records", "first", "next", "partition")

    def __init__(
        self,
        partition: Partition,
        records: Sequence[Record],
        *,
        first: int,
        next_offset: int,
        on_take: Callable[[], bool],
        acknowledge: Callable[[int], None],
    ) -> None:
        self.partition, self.first, self.next = partition, first, next_offset
        self._records: Sequence[Record] = records
        self._on_take, self._acknowledge = on_take, acknowledge

    def take(self) -> Sequence[Record]:
        """Move the records out of the batch: the caller owns the returned list, and the fetcher may continue.

        Empty if the partition was revoked meanwhile: its next owner reads them.
        """
        records, self._records = self._records, ()
        return records if self._on_take() else ()

    def acknowledge(self) -> None:
        """Report that the effects of every record in the batch are safe. Repeating it changes nothing."""
        self._acknowledge(self.next)


def of_all(agents: int, acknowledge: Callable[[int], None]) -> list[Callable[[int], None]]:
    """An `acknowledge` for each agent with the same records; `acknowledge` is called once all of them were called."""
    waiting = set(range(agents))

    def one(agent: int, next_offset: int) -> None:
        if agent in waiting:
            waiting.discard(agent)
            if not waiting:
                acknowledge(next_offset)

    return [partial(one, agent) for agent in range(agents)]
