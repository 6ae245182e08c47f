"""The way into Kafka: the raw topics' partitions as lanes of one backlog, and the sender that empties it."""

from __future__ import annotations

from dataclasses import dataclass, field

from mdstream.config.cluster import Brokers
from mdstream.ingest.backlog import Backlog, Limits
from mdstream.ingest.counters import FeedCounters
from mdstream.ingest.intake import Intake
from mdstream.ingest.sender import Sender
from mdstream.kafka.publisher import Publisher
from topics import Topic


@dataclass
class Bus:
    """Backlog and sender for the partitions of `raw`, the raw topic of each market; lanes follow its order."""

    raw: dict[str, Topic]
    bootstrap_servers: Brokers
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        lanes = [(topic.name, partition) for topic in self.raw.values() for partition in range(topic.partitions)]
        self.backlog = Backlog(len(lanes), self.limits)
        self.sender = Sender(
            self.backlog, lanes, lambda: Publisher(self.bootstrap_servers, client_id="mdstream-ingest")
        )

    def intake(self, provider: str, market: str) -> Intake:
        """An intake for the frames of `provider`."""
        before = list(self.raw)[: list(self.raw).index(market)]
        return Intake(
            provider,
            self.backlog,
            first_lane=sum(self.raw[name].partitions for name in before),
            partitions=self.raw[market].partitions,
            counters=FeedCounters(),
        )
