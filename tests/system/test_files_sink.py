"""The files role keeps every event, once, whatever happens to its process, its disk or its neighbours."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from mdstream import events, kafka
from mdstream.config import Settings, load
from mdstream.events import Trade
from mdstream.publisher import Partitioner, Publisher
from mdstream.testing import Processes, free_port, read_topic, run_mdstream, wait_until
from topics import Topics

pytestmark = pytest.mark.system

SYMBOLS = [f"S{n}USDT" for n in range(20)]
LIMIT_S = 60.0


@pytest.fixture
def settings(env: Mapping[str, str]) -> Settings:
    """The worker's settings, its topics declared."""
    made = load(
        bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"],
        topic_prefix=env["MDSTREAM_TOPIC_PREFIX"],
        partitions=int(env["MDSTREAM_PARTITIONS"]),
        data_dir=Path(env["MDSTREAM_DATA_DIR"]),
    )
    asyncio.run(_create(made))
    return made


async def _create(settings: Settings) -> None:
    await kafka.create_topics(settings.bootstrap_servers, Topics(settings))


def trades(first: int, following: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of the trades numbered [first, following) of every symbol."""
    for n in range(first, following):
        for symbol in SYMBOLS:
            yield symbol.encode(), events.encode(Trade(symbol, n, "binance", str(n), 1.5, 2.0, "buy", n, n + 1))


def publish(settings: Settings, pairs: Iterable[tuple[bytes, bytes]]) -> None:
    asyncio.run(_publish(settings, pairs))


async def _publish(settings: Settings, pairs: Iterable[tuple[bytes, bytes]]) -> None:
    publisher = Publisher(settings.bootstrap_servers, client_id="test-files")
    await publisher.start()
    partitioner = Partitioner(settings.partitions)
    by_partition: dict[int, list[tuple[bytes, bytes, int, list[tuple[str, bytes]]]]] = {}
    for key, value in pairs:
        by_partition.setdefault(partitioner(key), []).append((key, value, 1767625200_000, []))
    for number, records in by_partition.items():
        await asyncio.gather(*await publisher.send(Topics(settings).trades.name, number, records))
    await publisher.stop()


def more_than(settings: Settings, trades: int) -> bool:
    return stored(settings).total() > trades


def stored(settings: Settings) -> Counter[tuple[str, str]]:
    """How often each trade is in the database, by symbol and id."""
    path = settings.data_dir / "market_data.db"
    if not path.exists():
        return Counter()
    with closing(sqlite3.connect(path)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'trades'").fetchone():
            return Counter()
        return Counter(database.execute("SELECT symbol, trade_id FROM trades").fetchall())


def lines(settings: Settings) -> list[dict[str, object]]:
    """Every line of every JSONL file in the folder."""
    found = []
    for path in sorted(settings.data_dir.glob("events*.jsonl")):
        found += [json.loads(line) for line in path.read_bytes().splitlines()]
    return found


def expected(following: int) -> Counter[tuple[str, str]]:
    return Counter((symbol, str(n)) for n in range(following) for symbol in SYMBOLS)


def committed(settings: Settings) -> int:
    """The sum of the group's committed offsets on md.trades."""
    return asyncio.run(_committed(settings))


async def _committed(settings: Settings) -> int:
    topic = Topics(settings).trades
    # Partitions are named: the embedded broker cannot answer for all that a group has.
    asked = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    async with kafka.admin(settings.bootstrap_servers) as admin:
        offsets = await admin.list_consumer_group_offsets(f"{settings.topic_prefix}.files", partitions=asked)
    return sum(max(0, at.offset) for at in offsets.values())


def test_every_trade_is_stored_once_though_the_worker_is_killed_again_and_again(
    settings: Settings, processes: Processes
) -> None:
    """SIGKILL in the middle of writing, five times: the database and the lines are what the topic holds."""
    rng = random.Random(7)
    following = 0
    for _ in range(5):
        publish(settings, trades(following, following + 500))
        following += 500
        worker = processes.worker("files", port=free_port())
        target = rng.randrange(following * len(SYMBOLS))
        wait_until(partial(more_than, settings, target), what="trades in the database", limit_s=LIMIT_S)
        assert worker.running, worker.output()
        worker.kill()
    worker = processes.worker("files", port=free_port())
    whole = expected(following)
    wait_until(lambda: committed(settings) == whole.total(), what="all offsets committed", limit_s=LIMIT_S)
    assert worker.stop() == 0
    assert stored(settings) == whole
    found = lines(settings)
    assert Counter((line["symbol"], line["trade_id"]) for line in found) == whole
    for symbol in SYMBOLS:
        assert [line["seq"] for line in found if line["symbol"] == symbol] == list(range(following))


def test_two_workers_in_one_folder_keep_everything_when_one_is_killed(settings: Settings, processes: Processes) -> None:
    """The database holds each trade once; the lines hold each at least once, in two files."""
    first, second = (processes.worker("files", port=free_port()) for _ in range(2))
    publish(settings, trades(0, 200))
    wait_until(lambda: stored(settings) == expected(200), what="the first trades", limit_s=LIMIT_S)
    first.kill()
    publish(settings, trades(200, 400))
    wait_until(lambda: stored(settings) == expected(400), what="the survivor to take over", limit_s=LIMIT_S)
    wait_until(lambda: committed(settings) == expected(400).total(), what="all offsets committed", limit_s=LIMIT_S)
    assert second.stop() == 0
    assert set(Counter((line["symbol"], line["trade_id"]) for line in lines(settings))) == set(expected(400))


def test_what_is_no_event_is_on_the_dead_letters_topic_and_its_neighbours_are_stored(
    settings: Settings, processes: Processes
) -> None:
    """Neither the reader nor SQLite stops at it."""
    key = SYMBOLS[0].encode()
    beyond = Trade(SYMBOLS[0], 7, "binance", "7", 1.5, 2.0, "buy", 1 << 70, 8)
    bad = [(key, b"no json"), (key, b'{"type":"trade"}'), (key, events.encode(beyond))]
    publish(settings, [*trades(0, 3), *bad, *trades(3, 6)])
    worker = processes.worker("files", port=free_port())
    wait_until(lambda: committed(settings) == 6 * len(SYMBOLS) + 3, what="all offsets committed", limit_s=LIMIT_S)
    assert worker.stop() == 0
    assert stored(settings) == expected(6)
    topics = Topics(settings)
    letters = [json.loads(r.value) for r in asyncio.run(read_topic(settings.bootstrap_servers, topics.dead.name))]
    assert {letter["value"] for letter in letters} == {value.decode() for _, value in bad}
    assert {letter["source_topic"] for letter in letters} == {topics.trades.name}
    assert any("SQLite refuses it" in letter["error"] for letter in letters)


def test_a_database_that_is_locked_holds_the_offsets_until_it_is_free(settings: Settings, processes: Processes) -> None:
    """Nothing is acknowledged, nothing is lost, and the reason is in the log once."""
    worker = processes.worker("files", port=free_port())
    publish(settings, trades(0, 10))
    wait_until(lambda: committed(settings) == expected(10).total(), what="the first offsets", limit_s=LIMIT_S)
    with closing(sqlite3.connect(settings.data_dir / "market_data.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        publish(settings, trades(10, 20))
        worker.wait_for("database is locked", LIMIT_S)
        assert committed(settings) == expected(10).total()
    wait_until(lambda: committed(settings) == expected(20).total(), what="the other offsets", limit_s=LIMIT_S)
    assert worker.stop() == 0
    assert stored(settings) == expected(20)
    assert worker.output().count("database is locked") == 1
    assert "sqlite works again after" in worker.output()


def test_a_worker_stores_only_the_kinds_that_it_is_told(settings: Settings, processes: Processes) -> None:
    """MDSTREAM_FILES_EVENTS and the two switches choose."""
    publish(settings, trades(0, 5))
    worker = processes.worker("files", port=free_port(), env={"MDSTREAM_SQLITE": "false"})
    wait_until(lambda: committed(settings) == expected(5).total(), what="all offsets committed", limit_s=LIMIT_S)
    assert worker.stop() == 0
    assert len(lines(settings)) == expected(5).total()
    assert not (settings.data_dir / "market_data.db").exists()


def test_a_database_that_cannot_be_used_ends_the_start_with_one_clear_line(
    settings: Settings, env: Mapping[str, str]
) -> None:
    (settings.data_dir / "market_data.db").mkdir(parents=True)
    done = run_mdstream("worker", "files", "--port", free_port(), env=env)  # the default may be a demo's
    path = settings.data_dir / "market_data.db"
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"mdstream: sqlite cannot write {path}: unable to open database file (check MDSTREAM_DATA_DIR)"
    )
    assert "Traceback" not in done.stderr
