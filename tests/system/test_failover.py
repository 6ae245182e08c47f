"""Failover as processes: venues that stall, ingestors that feed, a core worker that follows one source at a time."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from processes import Process, Processes, free_port, wait_until
from servers import read_topic
from stream_histories import Fault, Raw, history
from venues import Venues

from mdstream import kafka
from mdstream.config import load
from mdstream.kafka.publisher import Partitioner
from topics import Topics

pytestmark = pytest.mark.system

SECOND_NS = 1_000_000_000
SYMBOL = "BTCUSDT"
STALE_AFTER_S, RECOVER_AFTER_S = 3.0, 8.0


def answer(url: str, accept: str = "application/json") -> Any:
    """What a page says: JSON as it is, else text; None where it does not answer with 200."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=5) as message:
            text = message.read().decode()
    except OSError:
        return None
    return json.loads(text) if accept == "application/json" else text


def followed(port: int) -> str | None:
    """The source that the worker at `port` follows for SYMBOL."""
    message = answer(f"http://127.0.0.1:{port}/feeds?symbol={SYMBOL}")
    return str(message["active"]) if message else None


async def events(env: dict[str, str], name: str) -> list[dict[str, Any]]:
    """The events of SYMBOL on a topic, or all of md.status, in order."""
    records = await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}.{name}")
    return [json.loads(record.value or b"{}") for record in records]


def ingest(processes: Processes, venues: Venues, *names: str) -> list[Process]:
    return [
        processes.mdstream("ingest", "--provider", name, "--symbols", SYMBOL, "--port", free_port(), env=venues.urls)
        for name in names
    ]


async def test_consumers_see_no_hole_when_the_preferred_source_stalls(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """At 2,000 frames/s binance stalls for 20 s: okx stands in within stale_after + 1 s, nothing of the market's time
    is missing, and the switch back, recover_after later, leaves no hole either."""
    own = {"MDSTREAM_RECOVER_AFTER_S": str(RECOVER_AFTER_S)}
    venues = Venues.start(processes, tmp_path / "made.jsonl", "--rate", 2000)
    port = free_port()
    worker = processes.worker("core", port=port, env=own)
    ingestors = ingest(processes, venues, "binance", "okx")
    wait_until(lambda: followed(port) == "binance", what="binance to be followed")
    wait_until(lambda: _known(port), what="the expected intervals of both sources to be known")

    stall = venues.begin("binance", "stall", for_s=20)
    wait_until(lambda: followed(port) == "okx", what="okx to stand in")
    began_ns, ended_ns = venues.span(stall)
    wait_until(lambda: followed(port) == "binance", what="binance to be followed again")
    assert "<h1>Feeds</h1>" in answer(f"http://127.0.0.1:{port}/feeds", accept="text/html")
    assert SYMBOL in answer(f"http://127.0.0.1:{port}/feeds")["feeds"]
    metrics = answer(f"http://127.0.0.1:{port}/metrics", accept="text/plain")
    assert 'market_failovers_total{left="binance",taken="okx"} 1.0' in metrics
    venues.pause()
    for process in (*ingestors, worker):
        assert process.stop() == 0, process.output()[-2000:]
    made = venues.stop()

    # Later ones are those of the ingestors that were stopped.
    switches = [e for e in await events(env, "status") if e.get("state") == "switched" and e["ts_recv"] > began_ns]
    there, back = switches[:2]
    assert (there["previous"], there["provider"], back["previous"], back["provider"]) == (
        ("binance", "okx", "okx", "binance")
    )
    assert there["ts_recv"] - began_ns <= (STALE_AFTER_S + 1) * SECOND_NS
    assert 0 <= back["ts_recv"] - ended_ns - RECOVER_AFTER_S * SECOND_NS <= 3 * SECOND_NS

    trades = await events(env, "trades")
    assert [trade["seq"] for trade in trades] == list(range(trades[0]["seq"], trades[0]["seq"] + len(trades)))
    standby = [trade.ts_exchange for trade in made if trade.provider == "okx"]
    times = sorted(trade["ts_exchange"] for trade in trades)
    for before, after in pairwise(times):
        # Where nothing was published for long, the venue that did not stall made nothing either.
        missed = [ts for ts in standby if before + 50_000_000 < ts < after - 50_000_000]
        assert not missed, f"{len(missed)} trades of okx fit into a hole of {(after - before) / 1e6:.0f} ms"
    assert {trade["provider"] for trade in trades if began_ns < trade["ts_exchange"] < ended_ns} == {"okx"}
    assert not [e for e in await events(env, "status") if e["type"] == "gap"]


def _known(port: int) -> bool:
    message = answer(f"http://127.0.0.1:{port}/feeds?symbol={SYMBOL}")
    if not message or set(message["sources"]) != {"binance", "okx"}:
        return False
    return all(source["health"] == "good" and source["silent_s"]["trade"] for source in message["sources"].values())


async def test_worker_that_was_down_for_five_minutes_decides_as_one_that_was_there(
    processes: Processes, env: dict[str, str]
) -> None:
    """The same log under two prefixes: one worker reads it as it is written, the other is killed early and catches up
    on five minutes of it. Both publish the same bytes."""
    wrong = [Fault("binance", "stall", 60_000, 20_000), Fault("binance", "disconnect", 150_000, 30_000),
             Fault("okx", "kill", 215_000, 30_000), Fault("binance", "drop", 260_000, 500)]  # fmt: skip
    log = history(wrong, seconds=320, seed=3).log
    prefix = env["MDSTREAM_TOPIC_PREFIX"]
    there, late = ({"MDSTREAM_TOPIC_PREFIX": f"{prefix}{name}"} for name in ("there", "late"))
    ports = free_port(), free_port()
    workers = [processes.worker("core", port=port, env=own) for port, own in zip(ports, (there, late), strict=True)]
    for port in ports:
        wait_until(partial(answer, f"http://127.0.0.1:{port}/ready"), what=f"the worker at {port}")
    await _write(env, there, late, log[: len(log) // 16])
    wait_until(lambda: followed(ports[1]) is not None, what="the first trades")
    workers[1].kill()
    await _write(env, there, late, log[len(log) // 16 :])
    processes.worker("core", port=ports[1], env=late)

    async def published(own: dict[str, str], name: str) -> list[tuple[bytes | None, bytes | None]]:
        records = await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{own['MDSTREAM_TOPIC_PREFIX']}.{name}")
        return list(dict.fromkeys((record.key, record.value) for record in records))  # a crash may repeat

    end = log[-1].timestamp - 1_000
    for own in (there, late):
        while json.loads((await published(own, "trades"))[-1][1] or b"{}")["ts_recv"] // 1_000_000 < end:
            pass
    for name in ("trades", "status", "gaps"):
        assert await published(late, name) == await published(there, name)
    switches = [json.loads(value or b"{}") for _, value in await published(there, "status")]
    assert [e["provider"] for e in switches if e.get("state") == "switched"] == ["okx", "binance", "okx", "binance"]


async def _write(env: dict[str, str], one: dict[str, str], other: dict[str, str], log: list[Raw]) -> None:
    """Publish a raw log under both prefixes."""
    servers = env["KAFKA_BOOTSTRAP_SERVERS"]
    partition = Partitioner(int(env["MDSTREAM_PARTITIONS"]))(SYMBOL.encode())
    for own in (one, other):
        topics = Topics(load(topic_prefix=own["MDSTREAM_TOPIC_PREFIX"], partitions=int(env["MDSTREAM_PARTITIONS"])))
        await kafka.create_topics(servers, topics)
        async with AIOKafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=20) as producer:
            for record in log:
                await producer.send(
                    topics.raw_of("crypto").name,
                    record.value,
                    key=record.key,
                    partition=partition,
                    headers=list(record.headers),
                )
            await producer.flush()
