"""The path into Kafka: a backlog with a queue per partition of the raw topics, the sender that empties it, a spool."""

from __future__ import annotations

from pathlib import Path

from mdstream.config import Settings
from mdstream.ingest.backlog import Backlog
from mdstream.ingest.intake import Intake
from mdstream.ingest.plan import Wanted
from mdstream.ingest.sender import Sender
from mdstream.ingest.spool import Spool, Spooled
from mdstream.ingest.spooler import Spooler
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.records import OURS
from topics import Topic

SYNC_S = {"always": 0.0, "interval": 1.0, "never": -1.0}


class Bus:
    """Backlog, sender and spool for the partitions of `raw`, the raw topic of each market; queues follow its order.

    Raises SpoolError if the spool cannot be read.
    """

    def __init__(self, raw: dict[str, Topic], settings: Settings) -> None:
        self.raw = raw
        self._partitions: list[tuple[str, int]] = []
        self._queues: dict[str, range] = {}
        for market, topic in raw.items():
            self._queues[market] = range(len(self._partitions), len(self._partitions) + topic.partitions)
            self._partitions += [(topic.name, partition) for partition in range(topic.partitions)]
        self._placing = {
            topic.name: (self._queues[market], Partitioner(topic.partitions)) for market, topic in raw.items()
        }
        self.backlog = Backlog(len(self._partitions))
        self.sender = Sender(
            self.backlog, self._partitions, lambda: Publisher(settings.bootstrap_servers, client_id="mdstream-ingest")
        )
        self.spooler = Spooler(
            self.backlog,
            _spool(raw, settings),
            address=self._partitions.__getitem__,
            queue_of=self._queue_of,
            stalled_s=lambda: self.sender.stalled_s,
            sync_s=SYNC_S[settings.spool.fsync],
        )

    def intake(self, wanted: Wanted) -> Intake:
        """An intake for the frames of a provider, into the topics of its markets."""
        queues = {market: self._queues[market] for market in wanted.markets}
        return Intake(wanted.provider, self.backlog, queues, wanted.contract_size)

    def _queue_of(self, spooled: Spooled) -> int:
        """Where a record from the spool goes: a frame by its key, as its topic may have more partitions by now."""
        queues, partition_of = self._placing[spooled.topic]
        ours = spooled.kind in OURS
        return queues[spooled.partition if ours else partition_of(spooled.key or b"")]


def _spool(raw: dict[str, Topic], settings: Settings) -> Spool | None:
    if not settings.spool.mb:
        return None
    folder: Path = settings.data_dir / "spool" / settings.topic_prefix
    return Spool(folder, raw, max_bytes=settings.spool.mb << 20)
