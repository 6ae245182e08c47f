"""`mdstream topics`, `mdstream status` and `mdstream broker`, as their users run them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from pages import page
from processes import Processes, free_port, run_mdstream, wait_until
from servers import nats_server

from mdstream.embedded.broker import EmbeddedBroker, answers
from mdstream.kafka.publisher import Publisher
from mdstream.records import HEARTBEAT, WS, RawEncoder

pytestmark = pytest.mark.system

SLACK_NS = 120_000_000_000
"""So much younger are heartbeats than they look: on a slow machine it takes a while until they are read."""

NOBODY = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}


# --------------------------------------------------------------------------------------------------------------- topics


def test_topics_creates_what_is_missing_and_says_so(env: dict[str, str], prefix: str) -> None:
    """Run again it changes nothing."""
    first = run_mdstream("topics", "--create", env=env)
    assert first.returncode == 0, first.stderr
    assert "11 of 11 topics are new" in first.stdout
    again = run_mdstream("topics", "--create", "--json", env=env)
    topics = [json.loads(line) for line in again.stdout.splitlines()]
    assert len(topics) == 11
    assert all(topic["name"].startswith(f"{prefix}.") and not topic["new"] for topic in topics)


def test_topics_refuses_a_broker_with_another_partition_count(env: dict[str, str]) -> None:
    """Keys would map elsewhere: the setting is to follow the topics."""
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    done = run_mdstream("topics", "--create", env={**env, "MDSTREAM_PARTITIONS": "5"})
    assert done.returncode == 1
    assert "has 4 partitions, the settings say 5: set MDSTREAM_PARTITIONS=4" in done.stderr


def test_topics_wants_no_more_copies_than_there_are_brokers(env: dict[str, str], prefix: str) -> None:
    """One line with the topic and the broker's reason, no traceback."""
    done = run_mdstream("topics", "--create", env={**env, "MDSTREAM_REPLICATION": "2"})
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"mdstream: topic {prefix}.")
    assert " was not created: InvalidReplicationFactorError " in line


@pytest.mark.parametrize("command", [("topics", "--create"), ("status",), ("audit",), ("record", "x.jsonl")])
def test_an_unreachable_broker_is_one_line_on_stderr(command: tuple[str, ...], tmp_path: Path) -> None:
    """What is wrong, where, and what to do; exit status 1, of the audit another one; no file is left behind."""
    done = run_mdstream(*command, env=NOBODY, cwd=tmp_path)
    assert done.returncode == (3 if command == ("audit",) else 1)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("mdstream: no Kafka broker answers at 127.0.0.1:1 (")
    assert done.stderr.endswith("start one with `mdstream broker` or `make up`, or set KAFKA_BOOTSTRAP_SERVERS\n")
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------------------------- status


async def publish_feed(env: dict[str, str], prefix: str, count: int) -> None:
    """A second of an OKX feed, as its ingestor writes it: `count` frames in partition 0, a heartbeat in every one."""
    now_ns = time.time_ns() + SLACK_NS
    message = {"type": "heartbeat", "provider": "okx", "connected": True, "symbols": 2, "ts": now_ns}
    encode = RawEncoder("okx", WS).encode
    frame = encode(b"okx", b"pong", b"other", now_ns)
    heartbeat = encode(b"okx", json.dumps(message).encode(), HEARTBEAT, now_ns)
    publisher = Publisher(env["KAFKA_BOOTSTRAP_SERVERS"], client_id="test")
    await publisher.start()
    try:
        for partition in range(4):
            records = [heartbeat] if partition else [heartbeat, *[frame] * count]
            await asyncio.gather(*await publisher.send(f"{prefix}.raw.crypto", partition, records))
    finally:
        await publisher.stop()


async def commit(env: dict[str, str], group: str, tp: TopicPartition, offset: int) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"], group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.subscribe([tp.topic])
        await consumer.getmany(timeout_ms=5000)
        await consumer.commit({tp: offset})
    finally:
        await consumer.stop()


async def test_status_shows_records_lag_and_feeds(env: dict[str, str], prefix: str) -> None:
    """All of it from the broker: no worker, no ingestor runs here."""
    raw = f"{prefix}.raw.crypto"
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    await publish_feed(env, prefix, 100)
    await commit(env, f"{prefix}.core", TopicPartition(raw, 0), 40)
    await publish_feed(env, prefix, 100)
    done = run_mdstream("status", "--json", env=env)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [broker["address"] for broker in facts["brokers"]] == [env["KAFKA_BOOTSTRAP_SERVERS"]]
    topics = {topic["name"]: topic for topic in facts["topics"]}
    assert len(topics) == 11
    assert all(topic["present"] and topic["partitions"] == 4 for topic in topics.values())
    assert topics[raw]["records"] == 208
    [group] = facts["groups"]
    assert group["name"] == f"{prefix}.core"
    [lag] = group["lag"]
    assert lag["topic"] == raw
    assert lag["uncommitted"] == 3
    assert lag["records"] == 168
    [feed] = facts["feeds"]
    assert (feed["provider"], feed["market"], feed["state"], feed["symbols"]) == ("okx", "crypto", "connected", 2)
    table = run_mdstream("status", env=env).stdout
    assert raw in table
    assert f"{prefix}.core" in table


def test_status_of_a_new_deployment_says_what_to_do_next(env: dict[str, str]) -> None:
    """Nothing is there yet: that is no error."""
    done = run_mdstream("status", env=env)
    assert done.returncode == 0, done.stderr
    for advice in ("mdstream topics --create", "mdstream worker core", "mdstream ingest"):
        assert advice in done.stdout


def test_status_shows_senpai(env: dict[str, str], processes: Processes) -> None:
    """How far behind, how much it makes and what is wrong, by its own page; a member that does not answer is named."""
    port, nobody = free_port(), free_port()
    with nats_server() as server:
        processes.mdstream("senpai", "--port", port, env={"NATS_URL": server.url, "USE_JETSTREAM": "false"})
        wait_until(lambda: page(port, "/health")[0] == 200, what="senpai", limit_s=120)
        found = status_of(env, port)
        assert (found["consumer"], found["mode"], found["problems"]) == ("senpai-md", "live", [])
        assert (found["behind_s"], found["rows_per_s"], found["signals_made"], found["open_alerts"]) == (None, 0, 0, 0)
    wait_until(lambda: "NATS at" in str(page(port, "/health")[1]), what="the loss of NATS", limit_s=120)
    assert status_of(env, port)["problems"][0].startswith("NATS at nats://127.0.0.1:")
    text = run_mdstream("status", "--senpai", senpai_url(port), "--senpai", senpai_url(nobody), env=env).stdout
    assert "NATS at nats://127.0.0.1:" in text
    assert f"none answers at {senpai_url(nobody)}: mdstream senpai" in text
    refused = run_mdstream("status", "--senpai", f"127.0.0.1:{port}", env=env)
    assert (refused.returncode, "expected http://HOST:PORT" in refused.stderr) == (2, True)


def senpai_url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def status_of(env: dict[str, str], port: int) -> dict[str, Any]:
    """What is shown of a consumer."""
    done = run_mdstream("status", "--json", "--senpai", senpai_url(port), env=env)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["senpai"][senpai_url(port)]
    return found


def test_status_shows_the_api(env: dict[str, str], processes: Processes) -> None:
    """Where HTTP_HOST and HTTP_PORT say, or where it is told: its open streams and what is wrong, by its own page."""
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    port, nobody = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    database = {"MARKET_DATA_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    processes.mdstream("api", "--port", port, env=env | database).wait_for("/docs shows")
    with urllib.request.urlopen(f"{url}/v1/stream/trades?symbol=BTCUSDT", timeout=60):
        done = run_mdstream("status", "--json", env=env | {"HTTP_HOST": "0.0.0.0", "HTTP_PORT": str(port)})
        found = json.loads(done.stdout)["api"][url]
        assert (found["status"], found["streams"], found["webhook"]) == ("degraded", 1, None)
        assert found["problems"][0].startswith("database: ")
    table = run_mdstream("status", "--api", url, "--api", f"http://127.0.0.1:{nobody}", env=env).stdout
    assert "degraded" in table
    assert "database: " in table
    assert f"none answers at http://127.0.0.1:{nobody}: mdstream api" in table


def test_status_watches_until_ctrl_c(env: dict[str, str], processes: Processes) -> None:
    """One JSON object a line, again and again."""
    watching = processes.mdstream("status", "--watch", "--json")
    wait_until(lambda: watching.output().count("\n") >= 2, what="two looks")
    watching.signal(signal.SIGINT)
    assert watching.wait() == 0
    assert all(json.loads(line)["brokers"] for line in watching.output().splitlines())


# --------------------------------------------------------------------------------------------------------------- broker


def test_broker_runs_until_ctrl_c(tmp_path: Path) -> None:
    """It prints its address, says that it keeps nothing, reports its memory, and leaves nothing running."""
    port = free_port()
    with Processes(tmp_path) as processes:
        broker = processes.mdstream("broker", "--port", port, "--report-every", 1)
        broker.wait_for("resident memory")
        assert f"127.0.0.1:{port}, in memory only" in broker.output()
        assert run_mdstream("topics", "--create", env={"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"}).returncode == 0
        broker.signal(signal.SIGINT)
        assert broker.wait() == 0
        assert broker.output().endswith("stopped\n")
        assert not answers(port)


def test_broker_refuses_a_port_in_use() -> None:
    """One line with the port and what to do."""
    with EmbeddedBroker(free_port()) as first:
        done = run_mdstream("broker", "--port", first.port)
    assert done.returncode == 1
    assert done.stderr == (
        f"mdstream: port {first.port} on 127.0.0.1 cannot be used (a Kafka broker answers there already): "
        "choose another one with --port\n"
    )


def test_broker_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """SIGKILL gives the command no chance to clean up; the system does it."""
    port = free_port()
    with Processes(tmp_path) as processes:
        broker = processes.mdstream("broker", "--port", port)
        broker.wait_for("in memory only")
        os.kill(broker.pid, signal.SIGKILL)  # it alone: the broker is in a group of its own
        wait_until(lambda: not answers(port), what="the end of the broker")
