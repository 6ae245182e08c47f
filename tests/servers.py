"""Servers for the tests and benchmarks: brokers, NATS and PostgreSQL, each in a process of its own.

Imports nothing heavy, so that unit tests, which share the conftest, stay fast.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from processes import PROJECT, Process, Processes, free_port, wait_until

from mdstream.embedded.broker import EmbeddedBroker, answers

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from mdstream.config.cluster import Brokers
    from mdstream.embedded.nats import EmbeddedNats
    from mdstream.embedded.postgres import EmbeddedPostgres

KAFKA_VERSION = "4.1.0"
KAFKA_CACHE = PROJECT / ".kafka" / KAFKA_VERSION
START_LIMIT_S = 300.0
"""How long a JVM may take to start where others take the processor."""
BROKER_VARIABLE = "MDSTREAM_TEST_BROKER"
"""`kafka` runs the system tests on Apache Kafka, `embedded` (the default) on the embedded broker."""


class Broker(Protocol):
    """A broker that a test may stop and start again."""

    @property
    def bootstrap(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class ApacheKafka:
    """One Apache Kafka broker in KRaft mode on 127.0.0.1. Its data outlives `stop` and `kill`, until `remove`.

    `settings` extend server.properties. `listeners`: further security protocols and their ports on localhost, beside
    the plaintext one. `users`: SCRAM-SHA-512 users and their passwords. `java`: options of the JVM. `node`: its number
    among `controllers`, the controllers' ports by node; by default it is a cluster of its own.
    """

    def __init__(
        self,
        port: int | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        listeners: Mapping[str, int] | None = None,
        users: Mapping[str, str] | None = None,
        java: Sequence[str] = ("-Xmx1g",),
        node: int = 1,
        controllers: Mapping[int, int] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.node = node
        self._java = java
        self._folder = Path(tempfile.mkdtemp(prefix="mdstream-kafka-"))
        self._settings = self._folder / "server.properties"
        self._processes = Processes(self._folder)
        self._process: Process | None = None
        lines = _kafka_settings(self.port, node, controllers or {node: free_port()}, listeners or {})
        lines |= {"log.dirs": str(self._folder / "log"), **(settings or {})}
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        self._format(users or {})

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def _format(self, users: Mapping[str, str]) -> None:
        cluster = "bWRzdHJlYW0tdGVzdGluZw"  # any 16 bytes in base64: the cluster's id
        scram = [f'SCRAM-SHA-512=[name={name},password="{password}"]' for name, password in users.items()]
        known = [word for each in scram for word in ("--add-scram", each)]
        command = "format", "-t", cluster, "-c", self._settings, *known
        _run(_java_command(self._java, "kafka.tools.StorageTool", *command))

    def start(self) -> None:
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it and do not wait: it answers once most of its cluster's controllers are there."""
        self._process = self._processes.spawn(_java_command(self._java, "kafka.Kafka", self._settings), name="kafka")

    def wait(self) -> None:
        """Return once it answers."""
        process = self._process
        assert process is not None

        def up() -> bool:
            assert process.running, f"Apache Kafka ended at once:\n{process.output()[-2000:]}"
            return answers(self.port)

        wait_until(up, what="an answer of Apache Kafka", limit_s=START_LIMIT_S)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def remove(self) -> None:
        """Stop it and delete its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


class KafkaCluster:
    """Three Apache Kafka brokers with a copy of everything on each; a write needs two. All are controllers, too."""

    def __init__(self) -> None:
        controllers = {node: free_port() for node in (1, 2, 3)}
        self.brokers = [
            ApacheKafka(node=node, controllers=controllers, settings=_THREE_COPIES, java=_SMALL) for node in controllers
        ]

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.bootstrap for broker in self.brokers)

    def start(self) -> None:
        for broker in self.brokers:
            broker.launch()
        for broker in self.brokers:
            broker.wait()

    def remove(self) -> None:
        """Kill them, as the last to stop would wait for the others, and delete their data."""
        for broker in self.brokers:
            broker.kill()
            broker.remove()


_SMALL = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""For JVMs that share a machine and have little to do."""


def _kafka_settings(
    port: int, node: int, controllers: Mapping[int, int], listeners: Mapping[str, int]
) -> dict[str, str]:
    more = "".join(f",{protocol}://localhost:{port}" for protocol, port in listeners.items())
    more_map = "".join(f",{protocol}:{protocol}" for protocol in listeners)
    return {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "controller.quorum.voters": ",".join(f"{each}@127.0.0.1:{at}" for each, at in controllers.items()),
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controllers[node]}{more}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}{more}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{more_map}",
        "offsets.topic.num.partitions": "8",
        "group.initial.rebalance.delay.ms": "0",
        "broker.session.timeout.ms": "25000",  # on a busy machine the controller must not take the broker for dead
        "auto.create.topics.enable": "false",  # an undeclared topic is a mistake, in tests as in production
        **_copies(1, needed=1),  # the defaults require three brokers
    }


def _copies(copies: int, *, needed: int) -> dict[str, str]:
    """How many copies there are of Kafka's own topics, and without how many nothing is written."""
    of = {"offsets.topic.replication.factor": copies}
    for topic in ("transaction.state.log", "share.coordinator.state.topic"):
        of |= {f"{topic}.replication.factor": copies, f"{topic}.min.isr": needed}
    return {name: str(value) for name, value in of.items()}


_THREE_COPIES = _copies(3, needed=2) | {
    "min.insync.replicas": "2",  # docs/deployment.md
    "broker.session.timeout.ms": "9000",  # the default: a dead broker is to be missed
}


def _java_command(java: Sequence[str], *args: object) -> list[str]:
    return ["java", *java, "-cp", f"{_kafka_jars()}/*", *map(str, args)]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")


def _kafka_jars() -> Path:
    """The folder of Kafka's jars, filled by Maven on first use: complete or absent, as it is renamed into place."""
    if KAFKA_CACHE.is_dir():
        return KAFKA_CACHE
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise RuntimeError(f"Apache Kafka needs Java 17 and Maven, and there is no {tool} on the PATH")
    KAFKA_CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KAFKA_CACHE.parent) as building:
        (Path(building) / "pom.xml").write_text(_POM)
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={building}/jars"]
        subprocess.run(command, cwd=building, check=True)
        if not KAFKA_CACHE.is_dir():
            (Path(building) / "jars").rename(KAFKA_CACHE)
    return KAFKA_CACHE


_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>mdstream</groupId><artifactId>test-kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


@contextmanager
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """The embedded broker on a free port."""
    with EmbeddedBroker(free_port()) as broker:
        yield broker


@contextmanager
def apache_kafka(settings: Mapping[str, str] | None = None, **options: Any) -> Iterator[ApacheKafka]:
    """Apache Kafka on a free port; `settings` extend server.properties, `options` are ApacheKafka's."""
    broker = ApacheKafka(settings=settings, **options)
    try:
        broker.start()
        yield broker
    finally:
        broker.remove()


@contextmanager
def kafka_cluster() -> Iterator[KafkaCluster]:
    """Three Apache Kafka brokers on free ports."""
    cluster = KafkaCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@contextmanager
def nats_server(*, jetstream: bool = True, settings: str = "") -> Iterator[EmbeddedNats]:
    """A NATS server on a free port; `settings` are lines for its configuration. Its streams survive `stop`, `kill` and
    `start`, until the end."""
    from mdstream.embedded.nats import EmbeddedNats

    with EmbeddedNats(free_port(), jetstream=jetstream, settings=settings) as server:
        yield server


@contextmanager
def embedded_postgres(settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedPostgres]:
    """The embedded PostgreSQL on a free port; `settings` extend postgresql.conf."""
    from mdstream.embedded.postgres import EmbeddedPostgres

    with EmbeddedPostgres(free_port(), settings=settings) as server:
        yield server


def on_apache_kafka() -> bool:
    """Whether this test run is the one on Apache Kafka. Raises ValueError if the variable names neither broker."""
    wanted = os.environ.get(BROKER_VARIABLE, "embedded")
    if wanted not in ("embedded", "kafka"):
        raise ValueError(f"{BROKER_VARIABLE}={wanted!r}: expected embedded or kafka")
    return wanted == "kafka"


@contextmanager
def chosen_broker() -> Iterator[Broker]:
    """The broker that MDSTREAM_TEST_BROKER selects."""
    if on_apache_kafka():
        with apache_kafka() as kafka:
            yield kafka
    else:
        with embedded_broker() as embedded:
            yield embedded


async def group_of(bootstrap: Brokers, name: str) -> tuple[str, int]:
    """The state of a consumer group, as Kafka names it, and how many members its coordinator knows."""
    from mdstream import kafka

    async with kafka.admin(bootstrap) as admin:
        (answer,) = await admin.describe_consumer_groups([name])
    ((_, _, state, _, _, members),) = answer.groups
    return state, len(members)


async def read_topic(bootstrap: Brokers, topic: str, *, quiet_s: float = 1.0) -> list[ConsumerRecord[Any, Any]]:
    """Every record of a topic, in order within each partition."""
    from mdstream import kafka

    partitions = await kafka.partitions_of(bootstrap, topic)
    async with kafka.reader(bootstrap) as consumer:
        consumer.assign(partitions)
        return [r async for chunk in kafka.read_to_end(consumer, partitions, quiet_s=quiet_s) for r in chunk]
