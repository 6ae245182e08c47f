"""Helpers of the system tests: real brokers, real processes, and waiting for conditions.

Imports nothing heavy, so that unit tests, which share the conftest, stay fast. Everything started here runs in its own
process group and ends with its context manager, also when the test fails.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mdstream.embedded.broker import EmbeddedBroker, answers
from mdstream.embedded.child import die_with_parent

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from mdstream.config.cluster import Brokers
    from mdstream.embedded.nats import EmbeddedNats
    from mdstream.embedded.postgres import EmbeddedPostgres

PROJECT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
"""Where the commands of this virtual environment are."""

KAFKA_VERSION = "4.1.0"
KAFKA_CACHE = PROJECT / ".kafka" / KAFKA_VERSION
BROKER_VARIABLE = "MDSTREAM_TEST_BROKER"
"""`kafka` runs the system tests on Apache Kafka, `embedded` (the default) on the embedded broker."""

LIMIT_S = 120.0
"""How long to wait for something that takes a second on an idle machine: it bounds failures and measures nothing."""
STOP_LIMIT_S = 60.0

T = TypeVar("T")


PORTS = range(12_000, 32_000)
"""Below the ephemeral ports: no outgoing connection can take one of these before its server starts."""
PORTS_EACH = 1_000

_handed_out: set[int] = set()


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on, and that no other call of this test run gets.

    Raises RuntimeError if there is none.
    """
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # workers cannot see each other's
    first = PORTS.start + share * PORTS_EACH % len(PORTS)
    left = [port for port in range(first, first + PORTS_EACH) if port not in _handed_out]
    random.shuffle(left)  # two runs at the same time have the same shares
    for port in left:
        _handed_out.add(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no free port on 127.0.0.1 from {first} to {first + PORTS_EACH - 1}")


def wait_until(condition: Callable[[], T], *, what: str, limit_s: float = LIMIT_S, every_s: float = 0.1) -> T:
    """The first true value of `condition`. Raises AssertionError naming `what` after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:.0f} s: {what}")
        time.sleep(every_s)
    return value


# ------------------------------------------------------------------------------------------------------------ processes


@dataclass
class Process:
    """A process of ours with its output in `log`; `kill` kills its whole group."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL to the group and wait until it has ended."""
        _signal_group(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def stop(self, limit_s: float = STOP_LIMIT_S) -> int:
        """SIGTERM, then SIGKILL after `limit_s`; its exit status."""
        if self.running:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):  # the group is killed below
                self.popen.wait(limit_s)
        _signal_group(self.popen.pid, signal.SIGKILL)
        return self.popen.wait()

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Its exit status. Raises AssertionError with the end of its output if it does not end in time."""
        try:
            return self.popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {limit_s:.0f} s:\n{self.output()[-2000:]}") from None

    def wait_for(self, text: str, limit_s: float = LIMIT_S) -> None:
        """Return once `text` is in its output. Raises AssertionError at the limit, or when the process has ended."""

        def found() -> bool:
            if text in self.output():
                return True
            assert self.running, f"{self.name} ended with {self.popen.returncode}:\n{self.output()[-2000:]}"
            return False

        wait_until(found, what=f"{text!r} in the output of {self.name}, {self.log}", limit_s=limit_s)


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return  # the whole group has ended


@dataclass
class Processes:
    """Starts processes, each with a log file in `folder`; on exit all are stopped, the last one first."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    started: list[Process] = field(default_factory=list)

    def spawn(self, args: Sequence[object], *, name: str, env: Mapping[str, str] | None = None) -> Process:
        """Run a command line; `env` overrides this object's environment, which overrides ours."""
        log = self.folder / f"{name}-{len(self.started)}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(  # noqa: S603  the tests' own commands
                [str(arg) for arg in args],
                cwd=self.folder,
                env={**os.environ, **self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        process = Process(name, popen, log)
        self.started.append(process)
        return process

    def mdstream(self, *args: object, env: Mapping[str, str] | None = None) -> Process:
        """Run an `mdstream` subcommand in the background."""
        return self.spawn([BIN / "mdstream", *args], name=f"mdstream-{args[0]}", env=env)

    def worker(self, role: str = "core", *, port: int, env: Mapping[str, str] | None = None) -> Process:
        """Run a worker as users do: `faust -A mdstream worker` with its web server on `port`."""
        args = [BIN / "faust", "-A", "mdstream", "worker", "-l", "info", "--web-port", port]
        return self.spawn(args, name=f"worker-{role}-{port}", env={"MDSTREAM_ROLE": role, **(env or {})})

    def stop_all(self) -> None:
        for process in reversed(self.started):
            process.stop()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()


def run_mdstream(
    *args: object, env: Mapping[str, str] | None = None, timeout: float = LIMIT_S, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run an `mdstream` subcommand to its end: exit status, stdout and stderr."""
    return subprocess.run(  # noqa: S603  the tests' own commands
        [str(BIN / "mdstream"), *(str(arg) for arg in args)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


# -------------------------------------------------------------------------------------------------------------- brokers


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
    the plaintext one. `users`: SCRAM-SHA-512 users and their passwords.
    """

    def __init__(
        self,
        port: int | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        listeners: Mapping[str, int] | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="mdstream-kafka-"))
        self._settings = self._folder / "server.properties"
        self._processes = Processes(self._folder)
        self._process: Process | None = None
        lines = _kafka_settings(self.port, free_port(), self._folder / "log", listeners or {}) | dict(settings or {})
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
        _java("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", self._settings, *known)

    def start(self) -> None:
        command = _java_command("kafka.Kafka", self._settings)
        process = self._process = self._processes.spawn(command, name="kafka")

        def up() -> bool:
            assert process.running, f"Apache Kafka ended at once:\n{process.output()[-2000:]}"
            return answers(self.port)

        wait_until(up, what="an answer of Apache Kafka")

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


def _kafka_settings(port: int, controller_port: int, log: Path, listeners: Mapping[str, int]) -> dict[str, str]:
    more = "".join(f",{protocol}://localhost:{port}" for protocol, port in listeners.items())
    more_map = "".join(f",{protocol}:{protocol}" for protocol in listeners)
    one = {f"{topic}.{what}": "1" for topic, what in _SINGLE_COPY}
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{more}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}{more}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{more_map}",
        "log.dirs": str(log),
        "offsets.topic.num.partitions": "8",
        "group.initial.rebalance.delay.ms": "0",
        "broker.session.timeout.ms": "25000",  # on a busy machine the controller must not take the broker for dead
        "auto.create.topics.enable": "false",  # an undeclared topic is a mistake, in tests as in production
        **one,
    }


_SINGLE_COPY = (
    ("offsets.topic", "replication.factor"),
    ("transaction.state.log", "replication.factor"),
    ("transaction.state.log", "min.isr"),
    ("share.coordinator.state.topic", "replication.factor"),
    ("share.coordinator.state.topic", "min.isr"),
)
"""Needed with a single broker: the defaults require three."""


def _java_command(*args: object) -> list[object]:
    return ["java", "-Xmx1g", "-cp", f"{_kafka_jars()}/*", *args]


def _java(*args: object) -> None:
    command = [str(arg) for arg in _java_command(*args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  the tests' own command
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
        subprocess.run(command, cwd=building, check=True)  # noqa: S603  the tests' own command
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


async def read_topic(bootstrap: Brokers, topic: str, *, quiet_s: float = 1.0) -> list[ConsumerRecord[Any, Any]]:
    """Every record of a topic, in order within each partition."""
    from mdstream import kafka

    partitions = await kafka.partitions_of(bootstrap, topic)
    async with kafka.reader(bootstrap) as consumer:
        consumer.assign(partitions)
        return [r async for chunk in kafka.read_to_end(consumer, partitions, quiet_s=quiet_s) for r in chunk]
