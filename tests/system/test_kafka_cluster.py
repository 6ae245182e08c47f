"""Three brokers, as in production: each topic is on all of them, and the loss of one ends nothing and loses nothing.

Part of the tests on Apache Kafka only (tests/conftest.py): the embedded broker is always alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from pages import page
from processes import Process, Processes, free_port, run_mdstream, wait_until
from servers import ApacheKafka, KafkaCluster, kafka_cluster
from venues import Venues

from mdstream import kafka

pytestmark = pytest.mark.system

NODES = [1, 2, 3]
AWAY_S = 2.0
"""How long a broker stays away after the others have taken over from it."""
BUSY_S = 300.0
"""The limit for what takes some ten seconds on an idle machine."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    with kafka_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def broker(cluster: KafkaCluster) -> str:
    """In place of the shared broker, which is alone."""
    return cluster.bootstrap


@pytest.fixture
def env(env: dict[str, str]) -> dict[str, str]:
    """Every partition on each broker, and bars that close while a test runs."""
    return env | {"MDSTREAM_REPLICATION": "3", "MDSTREAM_BARS": "1s,5s"}


async def described(bootstrap: str) -> list[dict[str, Any]]:
    """Every topic as the cluster describes it, also while one of its brokers is away."""
    async with kafka.admin(bootstrap) as client:
        topics: list[dict[str, Any]] = await client.describe_topics()
        return topics


def partitions(bootstrap: str) -> list[dict[str, Any]]:
    return [each for topic in asyncio.run(described(bootstrap)) for each in topic["partitions"]]


async def test_topics_are_on_every_broker_and_a_write_needs_two(env: dict[str, str]) -> None:
    """`mdstream topics --create` with MDSTREAM_REPLICATION=3; min.insync.replicas is the brokers' (deployment.md)."""
    made = await asyncio.to_thread(run_mdstream, "topics", "--create", env=env)
    assert made.returncode == 0, made.stderr
    bootstrap, prefix = env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}."
    topics = {topic["topic"]: topic for topic in await described(bootstrap) if topic["topic"].startswith(prefix)}
    assert len(topics) == 11
    assert all(sorted(each["replicas"]) == NODES for topic in topics.values() for each in topic["partitions"])
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, configs={"min.insync.replicas": ""}) for name in topics]
    async with kafka.admin(bootstrap) as client:
        [answer] = await client.describe_configs(asked)
    assert [entry[1] for _, _, _, _, entries in answer.resources for entry in entries] == ["2"] * len(topics)


def taken_over(bootstrap: str, node: int) -> bool:
    """Whether other brokers lead everything, and no write waits for this one."""
    found = partitions(bootstrap)
    return bool(found) and all(each["leader"] != node and node not in each["isr"] for each in found)


def complete(bootstrap: str) -> bool:
    """Whether every broker has a current copy of everything."""
    found = partitions(bootstrap)
    return bool(found) and all(sorted(each["isr"]) == NODES for each in found)


def stored(database: Path) -> int:
    """Trades in SQLite; 0 while it is not there."""
    if not database.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as connection:
        return int(connection.execute("SELECT count(*) FROM trades").fetchone()[0])


def is_ready(port: int) -> bool:
    return page(port, "/ready")[0] == 200


def start(processes: Processes, venues: Venues) -> list[Process]:
    """Two core workers, the files, and an ingestor, ready one after the other."""
    ports = [free_port() for _ in range(4)]
    started = [
        processes.mdstream("worker", role, "--port", port)
        for role, port in zip(("core", "core", "files"), ports, strict=False)
    ]
    for port in ports[:3]:
        wait_until(partial(is_ready, port), what=f"the worker at {port} to be ready", limit_s=BUSY_S)
    ingest = ("ingest", "--provider", "binance", "--symbols", "BTCUSDT,ETHUSDT", "--port", ports[3])
    return [processes.mdstream(*ingest, env=venues.urls), *started]


def check_that_all_run(processes: list[Process]) -> None:
    for process in processes:
        assert process.running, process.output()[-3000:]


def lose(kafka_broker: ApacheKafka, bootstrap: str, database: Path, running: list[Process]) -> None:
    """Kill a broker; trades arrive while it is away; have it back with all that it missed."""

    def more() -> bool:
        check_that_all_run(running)
        return stored(database) > before

    kafka_broker.kill()
    gone = partial(taken_over, bootstrap, kafka_broker.node)
    wait_until(gone, what=f"the others to take over from broker {kafka_broker.node}", limit_s=BUSY_S)
    before = stored(database)
    time.sleep(AWAY_S)
    wait_until(more, what="trades while a broker is away", limit_s=BUSY_S)
    kafka_broker.start()
    wait_until(partial(complete, bootstrap), what=f"broker {kafka_broker.node} to catch up", limit_s=BUSY_S)


@pytest.mark.timeout(1800)
def test_brokers_are_killed_one_after_the_other_and_every_trade_arrives_once(
    cluster: KafkaCluster, processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL for each of three brokers. No process of ours ends; every hop has each trade once, the numbers and bars
    are right."""
    journal, database = tmp_path / "sent.jsonl", tmp_path / "data" / "market_data.db"
    venues = Venues.start(processes, journal, "--rate", 300)
    running = start(processes, venues)
    wait_until(lambda: stored(database), what="trades", limit_s=BUSY_S)
    wait_until(partial(complete, cluster.bootstrap), what="three copies of everything", limit_s=BUSY_S)
    for kafka_broker in cluster.brokers:
        lose(kafka_broker, cluster.bootstrap, database, running)
        check_that_all_run(running)

    venues.pause()
    time.sleep(1.0)  # what is on the sockets
    ingestor, *workers = running
    assert ingestor.stop() == 0, ingestor.output()[-3000:]
    sent = len(venues.stop())
    with contextlib.suppress(AssertionError):  # then the audit below says which hop lost them
        wait_until(lambda: stored(database) >= sent, what="all in SQLite")
    for worker in workers:
        assert worker.stop() == 0, worker.output()[-3000:]
    audit = run_mdstream("audit", "--journal", journal, "--to", "now", "--json", env=env, timeout=BUSY_S)
    assert audit.returncode == 0, audit.stdout[-3000:] + audit.stderr[-3000:]
    report = json.loads(audit.stdout)
    prefix = env["MDSTREAM_TOPIC_PREFIX"]
    names = ("journal", f"{prefix}.raw.*", f"{prefix}.trades", "SQLite market_data.db")
    assert {hop["name"]: hop["trades"] for hop in report["hops"]} == dict.fromkeys(names, sent)
    assert stored(database) == sent
    bars = {topic["name"]: topic for topic in report["topics"]}[f"{prefix}.bars"]
    assert bars["judged"] > 0
