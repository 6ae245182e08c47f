"""The files role keeps every event, once, whatever happens to its process, its disk or its neighbours."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from functools import partial

import canonical
import pytest
from canonical import SYMBOLS, expected, made_settings, publish, trades
from processes import Processes, free_port, run_mdstream, wait_until
from servers import read_topic

from mdstream import events
from mdstream.config import Settings
from mdstream.events import Trade
from topics import Topics

pytestmark = pytest.mark.system


@pytest.fixture
def settings(env: Mapping[str, str]) -> Settings:
    return made_settings(env)


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


def committed(settings: Settings) -> int:
    """The sum of the group's committed offsets on md.trades."""
    return canonical.committed(settings, "files", "trades")


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
        wait_until(partial(more_than, settings, target), what="trades in the database")
        assert worker.running, worker.output()
        worker.kill()
    worker = processes.worker("files", port=free_port())
    whole = expected(following)
    wait_until(lambda: committed(settings) == whole.total(), what="all offsets committed")
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
    wait_until(lambda: stored(settings) == expected(200), what="the first trades")
    first.kill()
    publish(settings, trades(200, 400))
    wait_until(lambda: stored(settings) == expected(400), what="the survivor to take over")
    wait_until(lambda: committed(settings) == expected(400).total(), what="all offsets committed")
    assert second.stop() == 0
    assert set(Counter((line["symbol"], line["trade_id"]) for line in lines(settings))) == set(expected(400))


def test_what_is_no_event_is_on_the_dead_letters_topic_and_its_neighbours_are_stored(
    settings: Settings, processes: Processes
) -> None:
    """Neither the reader nor SQLite stops at it."""
    key = SYMBOLS[0].encode()
    beyond = Trade(SYMBOLS[0], 7, "binance", "7", 1.5, 2.0, "buy", 1 << 70, 8)
    bad = [b"no json", b'{"type":"trade"}', events.encode(beyond)]
    publish(settings, [*trades(0, 3), *(("trades", key, value) for value in bad), *trades(3, 6)])
    worker = processes.worker("files", port=free_port())
    wait_until(lambda: committed(settings) == 6 * len(SYMBOLS) + 3, what="all offsets committed")
    assert worker.stop() == 0
    assert stored(settings) == expected(6)
    topics = Topics(settings)
    letters = [json.loads(r.value) for r in asyncio.run(read_topic(settings.bootstrap_servers, topics.dead.name))]
    assert {letter["value"] for letter in letters} == {value.decode() for value in bad}
    assert {letter["source_topic"] for letter in letters} == {topics.trades.name}
    assert any("SQLite refuses it" in letter["error"] for letter in letters)


def test_a_database_that_is_locked_holds_the_offsets_until_it_is_free(settings: Settings, processes: Processes) -> None:
    """Nothing is acknowledged, nothing is lost, and the reason is in the log once."""
    worker = processes.worker("files", port=free_port())
    publish(settings, trades(0, 10))
    wait_until(lambda: committed(settings) == expected(10).total(), what="the first offsets")
    with closing(sqlite3.connect(settings.data_dir / "market_data.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        publish(settings, trades(10, 20))
        worker.wait_for("database is locked")
        assert committed(settings) == expected(10).total()
    wait_until(lambda: committed(settings) == expected(20).total(), what="the other offsets")
    assert worker.stop() == 0
    assert stored(settings) == expected(20)
    assert worker.output().count("database is locked") == 1
    assert "sqlite works again after" in worker.output()


def test_a_worker_stores_only_the_configured_kinds(settings: Settings, processes: Processes) -> None:
    """MDSTREAM_FILES_EVENTS and the two switches choose."""
    publish(settings, trades(0, 5))
    worker = processes.worker("files", port=free_port(), env={"MDSTREAM_SQLITE": "false"})
    wait_until(lambda: committed(settings) == expected(5).total(), what="all offsets committed")
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
