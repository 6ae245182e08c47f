"""Bars as users get them: from md.trades through a core worker to md.bars, the files and the command line."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from math import fsum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from processes import Processes, free_port, run_mdstream, wait_until
from servers import read_topic

from mdstream import events, kafka
from mdstream.bars.rules import SECOND_NS, interval
from mdstream.config import Settings, load
from mdstream.events import Bar, Trade, encode
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.records import Partition, ProducerRecord
from mdstream.roles.bars import BarsRole
from mdstream.roles.state_log import StateLog
from mdstream.transport.batch import Batch
from topics import Topics

pytestmark = pytest.mark.system

SYMBOLS = [f"{base}USDT" for base in ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "LTC", "DOT")]
T0 = 1_767_625_200 * SECOND_NS
MS = 1_000_000

Key = tuple[str, str, int]


# -- trades


class Market:
    """Makes trades: times in disorder within half a second, several a millisecond, seq in the order of arrival."""

    def __init__(self) -> None:
        self._rng = random.Random(5)
        self._seq = dict.fromkeys(SYMBOLS, T0 // 1000)
        self.trades: list[Trade] = []

    def trade(self, symbol: str, at_ms: int, *, recovered: bool = False) -> Trade:
        self._seq[symbol] += 1
        price, size = self._rng.randrange(9_000, 11_000) / 100, self._rng.randrange(1, 10_000) / 1e5
        at = T0 + at_ms * MS
        made = Trade(
            symbol, self._seq[symbol], "binance", str(len(self.trades) * 7), price, size, "buy", at, at + 5 * MS,
            recovered=recovered,
        )  # fmt: skip
        self.trades.append(made)
        return made

    def second(self, at_s: int, count: int) -> list[Trade]:
        """`count` trades of each symbol of about that second."""
        shift = self._rng.randrange
        return [self.trade(symbol, at_s * 1000 + shift(-500, 1000)) for _ in range(count) for symbol in SYMBOLS]


async def send(settings: Settings, trades: Iterable[Trade]) -> None:
    partitioner = Partitioner(settings.partitions)
    by_partition: dict[int, list[ProducerRecord]] = defaultdict(list)
    for trade in trades:
        by_partition[partitioner(trade.symbol.encode())].append(
            (trade.symbol.encode(), encode(trade), trade.ts_recv // MS, [])
        )
    publisher = Publisher(settings.bootstrap_servers, client_id="test-bars")
    await publisher.start()
    try:
        for number, records in by_partition.items():
            await asyncio.gather(*await publisher.send(Topics(settings).trades.name, number, records))
    finally:
        await publisher.stop()


# -- bars


def naive(trades: Iterable[Trade], names: Sequence[str], *, until_ns: int) -> dict[Key, Bar]:
    """The bars of a set of trades that end up to `until_ns`, by definition; all with revision 0."""
    groups: dict[Key, list[Trade]] = defaultdict(list)
    for trade in trades:
        assert trade.ts_exchange is not None
        for name in names:
            ns = interval(name).ns
            ts_open = trade.ts_exchange // ns * ns
            if ts_open + ns <= until_ns:
                groups[trade.symbol, name, ts_open].append(trade)
    return {key: _bar(key, found) for key, found in groups.items()}


def _bar(key: Key, found: list[Trade]) -> Bar:
    found = sorted(found, key=lambda trade: (trade.ts_exchange or 0, int(trade.trade_id)))
    prices = [trade.price for trade in found]
    volume, value = fsum(trade.size for trade in found), fsum(trade.price * trade.size for trade in found)
    return Bar(*key, prices[0], max(prices), min(prices), prices[-1], volume, value, len(found), 0)


def last_revisions(values: Iterable[bytes]) -> dict[Key, Bar]:
    """The highest revision of each bar, set to 0. One revision is always the same bytes, and none is left out."""
    revisions: dict[Key, dict[int, bytes]] = defaultdict(dict)
    for value in values:
        bar = events.decode(value)
        assert isinstance(bar, Bar)
        assert revisions[bar.symbol, bar.interval, bar.ts_open].setdefault(bar.revision, value) == value
    found = {}
    for key, known in revisions.items():
        assert sorted(known) == list(range(len(known)))
        found[key] = _unrevised(known[max(known)])
    return found


def _unrevised(value: bytes) -> Bar:
    message = json.loads(value) | {"revision": 0}
    del message["type"]
    return Bar(**message)


def on_topic(settings: Settings) -> list[bytes]:
    records = asyncio.run(read_topic(settings.bootstrap_servers, Topics(settings).bars.name, quiet_s=0.5))
    assert all(json.loads(record.value)["symbol"] == record.key.decode() for record in records)
    return [record.value for record in records]


def more_than(settings: Settings, count: int) -> bool:
    return len(on_topic(settings)) > count


def in_sqlite(settings: Settings) -> dict[Key, Bar]:
    path = settings.data_dir / "market_data.db"
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT * FROM bars").fetchall()
    return {row[:3]: msgspec.structs.replace(Bar(*row), revision=0) for row in rows}


def in_jsonl(settings: Settings) -> list[bytes]:
    lines = (settings.data_dir / "events.jsonl").read_bytes().splitlines()
    return [line for line in lines if line.startswith(b'{"type":"bar"')]


# -- the deployment


@pytest.fixture
def settings(env: Mapping[str, str]) -> Settings:
    """The workers' settings, the topics declared."""
    made = load(
        bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"],
        topic_prefix=env["MDSTREAM_TOPIC_PREFIX"],
        partitions=int(env["MDSTREAM_PARTITIONS"]),
        data_dir=Path(env["MDSTREAM_DATA_DIR"]),
    )
    asyncio.run(kafka.create_topics(made.bootstrap_servers, Topics(made)))
    return made


def test_bars_are_those_of_the_trades_though_the_worker_is_killed_again_and_again(
    settings: Settings, env: Mapping[str, str], processes: Processes
) -> None:
    """SIGKILL under load, twice; a trade that comes late; repeats: topic, SQLite and JSON lines have the right bars."""
    market = Market()
    processes.worker("files", port=free_port())
    for begin in (0, 60, 120):
        worker = processes.worker("core", port=free_port())
        seen = len(on_topic(settings))
        for at_s in range(begin, begin + 60, 10):
            asyncio.run(send(settings, [trade for s in range(at_s, at_s + 10) for trade in market.second(s, 20)]))
            time.sleep(0.2)
        wait_until(partial(more_than, settings, seen + 50), what="bars")
        if begin < 120:
            worker.kill()
    asyncio.run(send(settings, market.trades[-2000:]))  # md.trades is at least once
    asyncio.run(send(settings, [market.trade(symbol, 30_250, recovered=True) for symbol in SYMBOLS]))
    # Past the end of the hour: what came before is closed by the trades.
    asyncio.run(send(settings, [market.trade(symbol, 3_605_000) for symbol in SYMBOLS]))
    expected = naive(market.trades, settings.bars.intervals, until_ns=T0 + 3_604 * SECOND_NS)
    assert {key[1] for key in expected} == {"1s", "1m", "5m", "1h"}

    wait_until(lambda: last_revisions(on_topic(settings)).keys() >= expected.keys(), what="all bars")
    # The trades an hour on have bars too: theirs, of a second, closes by the clock alone.
    all_seconds = naive(market.trades, ["1s"], until_ns=T0 + 3_700 * SECOND_NS)
    wait_until(lambda: last_revisions(on_topic(settings)) == expected | all_seconds, what="the last second")
    wait_until(lambda: in_sqlite(settings) == expected | all_seconds, what="bars in SQLite")
    assert last_revisions(in_jsonl(settings)) == expected | all_seconds

    tailed = run_mdstream("tail", "bars", "--from-beginning", "--symbol", "BTCUSDT", "--count", "3", env=env)
    assert [json.loads(line)["symbol"] for line in tailed.stdout.splitlines()] == ["BTCUSDT"] * 3
    status = json.loads(run_mdstream("status", "--json", env=env).stdout)
    assert {topic["name"]: topic["present"] for topic in status["topics"]}[Topics(settings).bars.name]
    assert worker.stop() == 0, worker.output()[-3000:]

    again = processes.worker("core", port=free_port())
    before = Counter(on_topic(settings))
    asyncio.run(send(settings, [market.trade("BTCUSDT", 3_606_500), market.trade("BTCUSDT", 100)]))
    minute = ("BTCUSDT", "1m", T0)
    late = naive(market.trades, settings.bars.intervals, until_ns=T0 + 3_604 * SECOND_NS)[minute]
    wait_until(lambda: in_sqlite(settings)[minute] == late, what="the late trade in its minute")
    wait_until(lambda: ("BTCUSDT", "1s", T0 + 3_606 * SECOND_NS) in in_sqlite(settings), what="a second")
    fresh = [json.loads(value) for value in (Counter(on_topic(settings)) - before).elements()]
    # Too late for its second; a stopped worker leaves nothing to publish again.
    assert sorted((bar["interval"], bar["ts_open"]) for bar in fresh) == sorted(
        [("1h", T0), ("1m", T0), ("1s", T0 + 3_606 * SECOND_NS), ("5m", T0)]
    )
    assert again.stop() == 0, again.output()[-3000:]


# -- the role alone: what cannot be timed from outside


class Trades:
    """One partition of md.trades, handed to roles as the transport does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.partition = Partition(Topics(settings).trades.name, 2)
        self.acknowledged: list[int] = []
        self.overtaken: list[Partition] = []
        self._records: list[Any] = []

    @asynccontextmanager
    async def role(self) -> Any:
        state = StateLog(self.settings.bootstrap_servers, Topics(self.settings).state.name)
        role = BarsRole(self.settings, state, overtaken=self.overtaken.append)
        await state.start()
        await role.start()
        try:
            yield role
        finally:
            await role.stop()
            await state.stop()

    def batch(self, *trades: Trade) -> Batch:
        first = len(self._records)
        self._records += trades
        records = [_Raw(first + n, encode(trade)) for n, trade in enumerate(trades)]
        return Batch(
            self.partition,
            records,
            first=first,
            next_offset=first + len(trades),
            on_take=lambda: True,
            acknowledge=self.acknowledged.append,
        )

    async def published(self) -> list[tuple[str, int, int | None, int]]:
        """Interval, seconds after T0, trades and revision of each bar on the topic."""
        records = await read_topic(self.settings.bootstrap_servers, Topics(self.settings).bars.name, quiet_s=0.5)
        bars = [events.decode(record.value) for record in records]
        return [(b.interval, (b.ts_open - T0) // SECOND_NS, b.trades, b.revision) for b in bars if isinstance(b, Bar)]


class _Raw:
    headers = ()
    key = b"BTCUSDT"
    timestamp = 0

    def __init__(self, offset: int, value: bytes) -> None:
        self.offset, self.value = offset, value


@pytest.fixture
def trades(settings: Settings) -> Trades:
    return Trades(settings)


def history(*at_ms: int) -> Iterator[Trade]:
    market = Market()
    return (market.trade("BTCUSDT", at) for at in at_ms)


async def test_a_worker_that_was_overtaken_publishes_nothing(trades: Trades) -> None:
    """Two workers believe that they own the partition: the later claim counts. No bar has two contents.

    The owner finds the other's late record and takes over again: its own checkpoint counted.
    """
    first, second, third, fourth = history(0, 2_500, 100, 5_000)
    async with trades.role() as older, trades.role() as newer:
        await older.restore({trades.partition: 0})
        await older.process(trades.batch(first, second))
        await newer.restore({trades.partition: 0})
        await older.checkpoint()
        assert (await trades.published(), trades.acknowledged) == ([], [])
        assert trades.overtaken == [trades.partition]
        await newer.process(trades.batch(first, second, third, fourth))
        await newer.checkpoint()
        assert (await trades.published(), trades.acknowledged) == ([], [])
        assert trades.overtaken == [trades.partition] * 2
        assert await newer.restore({trades.partition: 0}) == {trades.partition: 6}
    assert await trades.published() == [("1s", 0, 2, 0), ("1s", 2, 1, 0)]


async def test_what_a_failed_checkpoint_held_is_in_the_next_one(trades: Trades) -> None:
    """Output that fails is tried again: nothing is acknowledged before, and nothing is published twice after."""
    first, second = history(0, 2_500)
    async with trades.role() as role:
        await role.restore({trades.partition: 0})
        await role.process(trades.batch(first, second))
        works, role._publisher = (
            role._publisher,
            Publisher(trades.settings.bootstrap_servers, client_id="never-started"),
        )
        with pytest.raises(RuntimeError, match="before start"):
            await role.checkpoint()
        assert trades.acknowledged == []
        role._publisher = works
        await role.checkpoint()
        assert (await trades.published(), trades.acknowledged) == ([("1s", 0, 1, 0)], [2])


async def test_a_cancelled_checkpoint_is_made_up_for_by_the_next_one(trades: Trades) -> None:
    """A stopped worker cancels what is under way, then releases: the last checkpoint has every change."""
    first, second = history(0, 2_500)
    async with trades.role() as role:
        await role.restore({trades.partition: 0})
        await role.process(trades.batch(first, second))
        under_way = asyncio.create_task(role.checkpoint())
        for _ in range(3):
            await asyncio.sleep(0)
        assert role._owned[trades.partition].batches == []  # its snapshot has them
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
        assert trades.acknowledged == []
        await role.release([trades.partition])
        assert (set(await trades.published()), trades.acknowledged) == ({("1s", 0, 1, 0)}, [2])


async def test_bars_that_were_written_down_and_not_published_are_by_the_next_owner(trades: Trades) -> None:
    """A crash between the checkpoint and the output: here the output has no connection."""
    first, second, third = history(0, 2_500, 100)
    async with trades.role() as role:
        await role.restore({trades.partition: 0})
        await role.process(trades.batch(first, second))
        await role._publisher.stop()
        role._publisher = Publisher(trades.settings.bootstrap_servers, client_id="never-started")
        with pytest.raises(RuntimeError, match="before start"):
            await role.checkpoint()
    assert (await trades.published(), trades.acknowledged) == ([], [])
    async with trades.role() as role:
        assert await role.restore({trades.partition: 0}) == {trades.partition: 2}
        assert await trades.published() == [("1s", 0, 1, 0)]
        await role.process(trades.batch(first, second, third))  # read again, and one more
        await role.checkpoint()
        await role.release([trades.partition])
    assert await trades.published() == [("1s", 0, 1, 0), ("1s", 0, 2, 1)]
    async with trades.role() as role:  # it was released: nothing is left to publish
        assert await role.restore({trades.partition: 0}) == {trades.partition: 5}
    assert len(await trades.published()) == 2
