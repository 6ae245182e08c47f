"""`mdstream reprocess` over real topics: the same bytes as the worker's, the same in each run, and other topics
untouched."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from processes import Processes, free_port, run_mdstream, wait_until
from servers import read_topic

from mdstream import kafka
from mdstream.replay.capture import Frame, Writer

pytestmark = pytest.mark.system

START_MS = 1_767_625_200_000
"""2026-01-05T15:00Z"""
MS = 1_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT")
SECONDS = 180
KINDS = ("trades", "quotes", "books", "status", "gaps", "dead")

Records = list[tuple[int, int, bytes | None, bytes | None]]
"""Partition, offset, key and value."""


def binance(kind: str, symbol: str, number: int, at_ms: int) -> bytes:
    """A trade frame, or a quote of the same time."""
    if kind == "trade":
        data: dict[str, Any] = {"e": "trade", "s": symbol, "t": number, "p": f"{number}.5", "q": "2", "T": at_ms}
        data["m"] = number % 2 == 0
    else:
        data = {"u": number, "s": symbol, "b": f"{number}.4", "B": "1", "a": f"{number}.6", "A": "3"}
    stream = f"{symbol.lower()}@{'trade' if kind == 'trade' else 'bookTicker'}"
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode()


def okx(symbol: str, number: int, at_ms: int) -> bytes:
    """A trade of the standby."""
    venue = f"{symbol.removesuffix('USDT')}-USDT"
    trade = {"instId": venue, "tradeId": str(number), "px": f"{number}.5", "sz": "2", "side": "buy", "ts": str(at_ms)}
    return json.dumps({"arg": {"channel": "trades", "instId": venue}, "data": [trade]}, separators=(",", ":")).encode()


def frames() -> Iterator[Frame]:
    """Three minutes of five instruments at two venues, with repeats, a hole in the ids, and what nobody understands."""
    for second in range(SECONDS):
        at_ms = START_MS + second * 1000
        for number, symbol in enumerate(SYMBOLS):
            recv_ns = (at_ms + number) * MS
            if second != 75:
                yield Frame(recv_ns, "binance", binance("trade", symbol, second, at_ms))
            if second % 10 == 0:
                yield Frame(recv_ns, "binance", binance("trade", symbol, second, at_ms))
            yield Frame(recv_ns + MS, "binance", binance("quote", symbol, second, at_ms))
            yield Frame(recv_ns + 2 * MS, "okx", okx(symbol, 9000 + second, at_ms))
        if second % 60 == 0:
            yield Frame(at_ms * MS + 9 * MS, "binance", b"<html>")


@pytest.fixture
def deployment(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment, with `frames` on the raw topic."""
    path = tmp_path / "feed.jsonl"
    with Writer(path) as writer:
        for frame in frames():
            writer.write(frame)
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    done = run_mdstream("replay", path, "--as-fast-as-possible", env=env)
    assert done.returncode == 0, done.stderr
    return env


def reprocess(env: dict[str, str], *args: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = run_mdstream("reprocess", *args, env=env)
    assert done.returncode == status, done.stderr + done.stdout
    return done


def written(env: dict[str, str], prefix: str) -> dict[str, Records]:
    """Everything on the topics of a prefix, each partition in order."""
    partitions = [
        TopicPartition(f"{prefix}.{kind}", number)
        for kind in KINDS
        for number in range(int(env["MDSTREAM_PARTITIONS"]))
    ]

    async def read() -> dict[str, Records]:
        found: dict[str, Records] = {kind: [] for kind in KINDS}
        async with kafka.reader(env["KAFKA_BOOTSTRAP_SERVERS"]) as consumer:
            consumer.assign(partitions)
            async for records in kafka.read_to_end(consumer, partitions):
                found[records[0].topic.removeprefix(f"{prefix}.")] += [
                    (r.partition, r.offset, r.key, r.value) for r in records
                ]
        return {kind: sorted(records) for kind, records in found.items()}

    return asyncio.run(read())


def count_of(env: dict[str, str], topic: str) -> int:
    return len(asyncio.run(read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], topic)))


def test_output_is_the_workers_and_the_same_each_time(
    deployment: dict[str, str], prefix: str, processes: Processes
) -> None:
    """
    worker        prefix.trades  ...
    reprocess     one.trades     ...     byte for byte the same records at the same offsets
    reprocess     two.trades     ...     and again, into one, with --force

    The worker's checkpoints stay as they are.
    """
    raw = count_of(deployment, f"{prefix}.raw.crypto")
    worker = processes.worker("core", port=free_port())
    worker.wait_for(" is up: ")
    one, two = f"{prefix}one", f"{prefix}two"
    message = reprocess(deployment, one).stdout
    assert re.search(rf"^read {raw:,} raw records in .*/s\), {raw:,} of them in the range$", message, re.MULTILINE)
    first = written(deployment, one)
    assert f"{one}.trades: {len(first['trades']):,}\n" in message
    assert len(first["trades"]) == (SECONDS - 1) * len(SYMBOLS)
    assert len(first["quotes"]) == SECONDS * len(SYMBOLS)
    assert len(first["dead"]) == 3
    wait_until(lambda: written(deployment, prefix) == first, what="the same from the worker", every_s=1)
    assert worker.stop() == 0
    state = count_of(deployment, f"{prefix}.state")

    reprocess(deployment, two)
    assert written(deployment, two) == first
    refused = reprocess(deployment, one, status=2).stderr
    assert refused.startswith(f"mdstream: there are records on {one}.dead, {one}.gaps, ")
    assert refused.endswith("choose another prefix, or --force to delete what is there\n")
    reprocess(deployment, one, "--force")
    assert written(deployment, one) == first
    assert count_of(deployment, f"{prefix}.state") == state
    deployed = reprocess({**deployment, "MDSTREAM_TOPIC_PREFIX": one}, prefix, "--force", status=1)
    assert deployed.stderr.startswith(f"mdstream: topic {one}.raw.crypto is not there")


def test_range_is_of_receive_times(deployment: dict[str, str], prefix: str) -> None:
    """A capture that was replayed today is found by its own times; the first is in, the last is not."""
    target = f"{prefix}part"
    message = reprocess(deployment, target, "--from", "2026-01-05T15:01", "--to", "2026-01-05T15:02").stdout
    trades = [json.loads(value or b"") for _, _, _, value in written(deployment, target)["trades"]]
    times = sorted({trade["ts_recv"] // MS - START_MS for trade in trades})
    assert (times[0], times[-1]) == (60_000, 119_004)
    assert len(trades) == 59 * len(SYMBOLS)
    assert "of them in the range" in message


@pytest.mark.parametrize(
    ("args", "status", "problem"),
    [
        (("{prefix}",), 2, "{prefix} is the live prefix (MDSTREAM_TOPIC_PREFIX): choose another one"),
        (("a.b",), 2, "bad settings: topic_prefix='a.b'"),
        (("{prefix}b", "--from", "1m", "--to", "1h"), 2, "--from 1m --to 1h: the range is empty"),
        (("{prefix}b", "--from", "soon"), 2, "'soon' is not a time"),
        (("{prefix}b",), 1, "topic {prefix}.raw.crypto is not there: check MDSTREAM_TOPIC_PREFIX"),
    ],
)
def test_what_cannot_be_reprocessed_is_one_line(
    env: dict[str, str], prefix: str, args: tuple[str, ...], status: int, problem: str
) -> None:
    """With the exit status of a wrong argument or of a failure."""
    done = reprocess(env, *(arg.format(prefix=prefix) for arg in args), status=status)
    assert done.stderr.count("\n") == 1
    assert problem.format(prefix=prefix) in done.stderr


def test_prefix_of_another_deployment_is_left_alone(deployment: dict[str, str], prefix: str) -> None:
    """Also with --force: its raw log could not be had again."""
    other = {**deployment, "MDSTREAM_TOPIC_PREFIX": f"{prefix}live"}
    assert run_mdstream("topics", "--create", env=other).returncode == 0
    done = reprocess(other, prefix, "--force", status=2)
    assert f"{prefix}.raw.crypto: another deployment uses it, choose another prefix" in done.stderr
    assert count_of(deployment, f"{prefix}.raw.crypto") > 0
