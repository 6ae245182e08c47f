"""Fixtures of the system tests. Nothing heavy is imported here: unit tests share this file."""

from __future__ import annotations

import fcntl
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from processes import Processes
from servers import chosen_broker, embedded_broker, embedded_postgres, on_apache_kafka

if TYPE_CHECKING:
    from mdstream.embedded.postgres import EmbeddedPostgres

# How long an example takes says more about what else the machine does than about the code: no test is timed.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

ONLY_KAFKA = ("api_outage", "kafka_cluster", "secure_kafka")
"""System tests of what only Apache Kafka has: part of that test run alone."""
NO_KAFKA = (
    "api",
    "api_chart",
    "api_flood",
    "api_sockets",
    "api_store",
    "backfill_vendors",
    "broker",
    "child_processes",
    "client_history",
    "connections",
    "db",
    "db_tls",
    "dtc",
    "ib",
    "ib_backfill",
    "ib_history",
    "ingest_connection",
    "ingest_links",
    "ingest_night",
    "iqfeed",
    "listings",
    "markets",
    "nats_access",
    "nats_sink",
    "new_venue",
    "run",
    "senpai",
    "simulator",
    "simulator_faults",
    "simulator_rest",
    "timescale_sink",
    "tools_audit",
    "vendors",
    "venue_addresses",
)
"""Those that talk to no Kafka, or whose subject is a venue, a page or a report: not run again there."""
collect_ignore = [f"system/test_{name}.py" for name in (NO_KAFKA if on_apache_kafka() else ONLY_KAFKA)]

SYSTEM = Path(__file__).parent / "system"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure no coverage in system tests: the pure core is covered by its own tests, and these run at full speed."""
    for item in items:
        if SYSTEM in item.path.parents:
            item.add_marker("no_cover")  # of pytest-cov


SHARED = "broker"
"""What the controlling process of `pytest -n` passes to its workers: the address of the broker that they share."""
_shared = pytest.StashKey[str]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give every worker of `pytest -n` the one Apache Kafka: a JVM each would cost more than the workers save.

    The controlling process starts it, as it outlives all workers. An embedded broker costs little: each worker has one.
    """
    if on_apache_kafka():
        node.workerinput[SHARED] = _shared_broker(node.config)


def _shared_broker(config: pytest.Config) -> str:
    if _shared not in config.stash:
        running = ExitStack()
        config.add_cleanup(running.close)
        config.stash[_shared] = running.enter_context(chosen_broker()).bootstrap
    return config.stash[_shared]


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of the broker that system tests share; a test that stops brokers starts one of its own."""
    shared: str | None = getattr(request.config, "workerinput", {}).get(SHARED)
    if shared is not None:
        yield shared
        return
    with chosen_broker() as server:
        yield server.bootstrap


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A database server for the tests of a module."""
    with embedded_postgres() as running:
        yield running


@pytest.fixture
def default_ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For tests whose servers take their default ports if they are free: one such test at a time."""
    with (tmp_path_factory.getbasetemp().parent / "default-ports").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def prefix() -> str:
    """A topic prefix of the test's own: tests share the broker and do not see one another."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def env(broker: str, prefix: str, tmp_path: Path) -> dict[str, str]:
    """Environment for commands and workers: the shared broker, the test's own topics and data folder."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": broker,
        "MDSTREAM_TOPIC_PREFIX": prefix,
        "MDSTREAM_DATA_DIR": str(tmp_path / "data"),
        "MDSTREAM_PARTITIONS": "4",
    }


@pytest.fixture
def processes(tmp_path: Path, env: dict[str, str]) -> Iterator[Processes]:
    """Starts processes with `env`; all are ended after the test. Their output is in tmp_path."""
    with Processes(tmp_path, env) as running:
        yield running


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where the tests are started in the background: a shell ignores it there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def own_embedded_broker(env: dict[str, str]) -> Iterator[int]:
    """The process of an embedded broker of the test's own, which it may suspend or kill."""
    with embedded_broker() as broker:
        env["KAFKA_BOOTSTRAP_SERVERS"] = broker.bootstrap
        assert broker.pid is not None
        yield broker.pid
        with suppress(ProcessLookupError):
            os.kill(broker.pid, signal.SIGCONT)
