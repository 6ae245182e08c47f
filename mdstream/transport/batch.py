"""What an agent takes from a batched topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol


class Record(Protocol):
    """One Kafka record, as it came: `timestamp` in ms, `headers` in their order."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Partition(NamedTuple):
    """A topic's partition."""

    topic: str
    number: int


class Batch:
    """Consecutive records of one partition: offsets [first, next).

    An agent calls `take` once, when it starts on the records, and `acknowledge` once everything that follows from them
    is safe. Offsets are committed up to the first batch that is not acknowledged, in whatever order acknowledgements
    come.
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
        """The records, which leave the batch: memory is theirs who holds the list, and the fetcher may go on.

        None come where the partition was taken from us meanwhile: its next owner reads them.
        """
        records, self._records = self._records, ()
        return records if self._on_take() else ()

    def acknowledge(self) -> None:
        """Say that the effects of every record in the batch are safe. Saying it again changes nothing."""
        self._acknowledge(self.next)


def of_all(agents: int, acknowledge: Callable[[int], None]) -> list[Callable[[int], None]]:
    """An `acknowledge` for each agent that has the same records: it takes all of theirs to make one."""
    waiting = set(range(agents))

    def one(agent: int, next_offset: int) -> None:
        if agent in waiting:
            waiting.discard(agent)
            if not waiting:
                acknowledge(next_offset)

    return [partial(one, agent) for agent in range(agents)]
