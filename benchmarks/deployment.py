"""Where contenders run: one broker for all of them, and separate topics for each run, deleted afterwards."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from servers import KAFKA_VERSION, apache_kafka, embedded_broker

from mdstream import config, kafka
from mdstream.config.cluster import UNSECURED
from mdstream.errors import SettingsError
from topics import Topics

PARTITIONS = 8
MARKET = "crypto"


@dataclass(frozen=True)
class Broker:
    """A broker that is up; `title` is for the report.

    `idempotent`: it has an idempotent producer. `exact_ends`: its reported end offsets are exact.
    """

    bootstrap: str
    title: str
    idempotent: bool = True
    exact_ends: bool = True


@dataclass(frozen=True)
class Deployment:
    """Topics of one run. `env` points mdstream's commands at them."""

    bootstrap: str
    prefix: str
    raw: str
    trades: str

    @property
    def env(self) -> dict[str, str]:
        return {
            **UNSECURED,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "MDSTREAM_TOPIC_PREFIX": self.prefix,
            "MDSTREAM_PARTITIONS": str(PARTITIONS),
            "MDSTREAM_REPLICATION": "1",
            "MDSTREAM_MARKETS": MARKET,
            "MDSTREAM_DATA_DIR": "data",  # in the folder that the process runs in
        }


def default_broker() -> str:
    """Apache Kafka if it can run here, else the embedded broker."""
    return "kafka" if shutil.which("java") and shutil.which("mvn") else "embedded"


@contextmanager
def running(choice: str) -> Iterator[Broker]:
    """A broker: `kafka` and `embedded` are started here and stopped afterwards, HOST:PORT is a running one.

    Raises SettingsError if Kafka cannot run here, BrokerError if the embedded broker cannot.
    """
    if choice == "kafka":
        if default_broker() != "kafka":
            raise SettingsError("--broker kafka needs Java 17 and Maven on the PATH: try --broker embedded")
        with apache_kafka() as kafka_broker:
            yield Broker(kafka_broker.bootstrap, f"Apache Kafka {KAFKA_VERSION}")
    elif choice == "embedded":
        with embedded_broker() as embedded:
            yield Broker(embedded.bootstrap, "embedded broker")
    else:
        yield Broker(choice, f"the broker at {choice}")


@asynccontextmanager
async def deployment(broker: Broker, name: str) -> AsyncIterator[Deployment]:
    """Fresh topics for a run of `name`. Raises BrokerError if no broker answers."""
    prefix = f"bench-{name}-{uuid.uuid4().hex[:8]}"
    settings = config.load(
        bootstrap_servers=broker.bootstrap,
        topic_prefix=prefix,
        partitions=PARTITIONS,
        replication=1,
        markets=(MARKET,),
    )
    topics = Topics(settings)
    await kafka.create_topics(broker.bootstrap, topics)
    try:
        yield Deployment(broker.bootstrap, prefix, topics.raw_of(MARKET).name, topics.trades.name)
    finally:
        await _delete(broker.bootstrap, prefix)


async def _delete(bootstrap: str, prefix: str) -> None:
    """Delete the topics created for a run, and those that it created itself."""
    async with kafka.admin(bootstrap) as client:
        mine = [name for name in await client.list_topics() if name.startswith(f"{prefix}.")]
        await client.delete_topics(mine)
