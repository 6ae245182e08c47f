"""The path into Kafka: a backlog with a queue per partition of the raw topics, and the sender that empties it."""

from __future__ import annotations

from dataclasses import dataclass, field

from mdstream.config.cluster import Brokers
from mdstream.ingest.backlog import Backlog, Limits
from mdstream.ingest.intake import Intake
from mdstream.ingest.plan import Wanted
from mdstream.ingest.sender import Sender
from mdstream.kafka.publisher import Publisher
from topics import Topic


@dataclass
class Bus:
    """Backlog and sender for the partitions of `raw`, the raw topic of each market; queues follow its order."""

    raw: dict[str, Topic]
    bootstrap_servers: Brokers
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        partitions: list[tuple[str, int]] = []
        self._queues: dict[str, range] = {}
        for market, topic in self.raw.items():
            self._queues[market] = range(len(partitions), len(partitions) + topic.partitions)
            partitions += [(topic.name, partition) for partition in range(topic.partitions)]
        self.backlog = Backlog(len(partitions), self.limits)
        self.sender = Sender(
            self.backlog, partitions, lambda: Publisher(self.bootstrap_servers, client_id="mdstream-ingest")
        )

    def intake(self, wanted: Wanted) -> Intake:
        """An intake for the frames of a provider, into the topics of its markets."""
        return Intake(wanted.provider, self.backlog, {market: self._queues[market] for market in wanted.markets})
