"""The core role as users run it, `faust -A mdstream worker`: raw frames in, numbered events and latest prices out."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from processes import Process, Processes, free_port, wait_until
from servers import chosen_broker, group_of, read_topic

from mdstream import config, kafka, repairs
from mdstream.events import HISTORY
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.records import WS, ProducerRecord, RawEncoder
from mdstream.repairs import RangeRequest, rest_frame
from mdstream.watchdog.guard import EXIT_STUCK
from topics import MIB, Topics

pytestmark = pytest.mark.system

PARTITIONS = 4
SYMBOLS = [f"{base}USDT" for base in ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "LTC", "DOT")]
T0_NS = 1_767_625_200_000_000_000


# -- frames


def trade(symbol: str, number: int) -> bytes:
    """What Binance sends; the price encodes the number."""
    return (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":1767625200123,"s":"{symbol}","t":{number},'
        f'"p":"{number}.5","q":"0.00150000","T":1767625200122,"m":true,"M":true}}}}'
    ).encode()


def quote(symbol: str, number: int) -> bytes:
    return (
        f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"u":{number},"s":"{symbol}","b":"{number}.1","B":"1",'
        f'"a":"{number}.9","A":"2"}}}}'
    ).encode()


def raw(frame: bytes, symbol: str, *, at_ns: int, kind: str = "trade") -> ProducerRecord:
    """A record as an ingestor writes it."""
    return RawEncoder("binance", WS).encode(symbol.encode(), frame, kind.encode(), at_ns)


def trades(first: int, end: int) -> list[ProducerRecord]:
    """Trades [first, end) of every symbol, in turns."""
    return [
        raw(trade(symbol, number), symbol, at_ns=T0_NS + number * 1_000_000)
        for number in range(first, end)
        for symbol in SYMBOLS
    ]


@asynccontextmanager
async def publisher(broker: str) -> AsyncIterator[Publisher]:
    out = Publisher(broker, client_id="test")
    await out.start()
    try:
        yield out
    finally:
        await out.stop()


class Deployment:
    """One test's broker, topics and workers."""

    def __init__(self, broker: str, prefix: str, processes: Processes) -> None:
        self.broker, self.processes = broker, processes
        self.topics = Topics(config.load(topic_prefix=prefix, partitions=PARTITIONS))
        self._partitioner = Partitioner(PARTITIONS)

    def create_topics(self) -> None:
        asyncio.run(kafka.create_topics(self.broker, self.topics))

    def worker(self, port: int | None = None) -> Process:
        return self.processes.worker("core", port=port or free_port())

    def produce(self, records: Sequence[ProducerRecord]) -> None:
        async def run() -> None:
            async with publisher(self.broker) as out:
                await self._send(out, records)

        asyncio.run(run())

    @contextmanager
    def producing(self) -> Iterator[list[int]]:
        """While the block runs, trades 0, 1, 2, .. of every symbol, some 250 a second each.

        The list that is given holds, after the block, how many there are of each.
        """
        stopping, count = threading.Event(), [0]
        failed: list[BaseException] = []

        async def produce() -> None:
            async with publisher(self.broker) as out:
                while not stopping.is_set():
                    await self._send(out, trades(count[0], count[0] + 10))
                    count[0] += 10
                    await asyncio.sleep(0.04)

        def run() -> None:
            try:
                asyncio.run(produce())
            except BaseException as error:  # raised below, in the test's own thread
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield count
        finally:
            stopping.set()
            thread.join()
        if failed:
            raise failed[0]

    async def _send(self, out: Publisher, records: Sequence[ProducerRecord]) -> None:
        by_partition: dict[int, list[ProducerRecord]] = defaultdict(list)
        for record in records:
            by_partition[self._partitioner(record[0] or b"")].append(record)
        topic = self.topics.raw["crypto"].name
        sent = [await out.send(topic, number, batch) for number, batch in by_partition.items()]
        await asyncio.gather(*(future for futures in sent for future in futures))

    def read(self, topic: str) -> list[ConsumerRecord[Any, Any]]:
        return asyncio.run(read_topic(self.broker, topic, quiet_s=0.5))

    def published(self, count: int) -> list[ConsumerRecord[Any, Any]]:
        """The records of md.trades, once so many different ones are there."""

        def enough() -> list[ConsumerRecord[Any, Any]] | None:
            records = self.read(self.topics.trades.name)
            return records if len({record.value for record in records}) >= count else None

        found = wait_until(enough, what=f"{count} trades", every_s=0.3)
        assert found is not None
        return found

    def group(self) -> tuple[str, int]:
        """The state of the workers' group, as Kafka names it, and how many members it has."""
        return asyncio.run(group_of(self.broker, self.topics.trades.name.replace("trades", "core")))

    def publishes(self, count: int) -> None:
        """Wait until md.trades has grown by so many records; repeats count too."""

        async def grow() -> None:
            partitions = await kafka.partitions_of(self.broker, self.topics.trades.name)
            async with kafka.reader(self.broker) as consumer, asyncio.timeout(60):
                consumer.assign(partitions)
                # To the last batch that is reported: what is behind it there counts as grown, a few dozen records.
                await consumer.seek_to_end(*partitions)
                seen = 0
                while seen < count:
                    seen += sum(map(len, (await consumer.getmany(timeout_ms=500)).values()))

        asyncio.run(grow())


@pytest.fixture
def env(env: dict[str, str]) -> dict[str, str]:
    return env | {"MDSTREAM_PARTITIONS": str(PARTITIONS)}


@pytest.fixture
def core(broker: str, prefix: str, processes: Processes) -> Deployment:
    """The topics are there, no worker yet."""
    deployment = Deployment(broker, prefix, processes)
    deployment.create_topics()
    return deployment


def check_trades(records: Sequence[ConsumerRecord[Any, Any]], count: int) -> None:
    """Trades 0..count-1 of each symbol: repeats are the same bytes, numbers have no hole, order is the venue's."""
    by_symbol: dict[str, dict[int, bytes]] = defaultdict(dict)
    for record in records:
        event = json.loads(record.value)
        assert record.key.decode() == event["symbol"]
        assert by_symbol[event["symbol"]].setdefault(event["seq"], record.value) == record.value
    assert set(by_symbol) == set(SYMBOLS)
    for numbered in by_symbol.values():
        seqs = sorted(numbered)
        assert seqs == list(range(T0_NS // 1000, T0_NS // 1000 + count))
        assert [json.loads(numbered[seq])["trade_id"] for seq in seqs] == [str(number) for number in range(count)]


# -- the stream


def test_killed_worker_repeats_its_output_byte_for_byte_and_loses_none(core: Deployment) -> None:
    """kill -9 in the middle of the load, twice, and a restart each time: same seq, same trade, same bytes, no hole."""
    with core.producing() as count:
        for _ in range(2):
            worker = core.worker()
            core.publishes(4_000)
            worker.kill()
        last = core.worker()
        core.publishes(4_000)
    check_trades(core.published(count[0] * len(SYMBOLS)), count[0])
    assert last.stop() == 0, last.output()[-3000:]


def test_stopped_worker_leaves_nothing_to_redo(core: Deployment) -> None:
    """SIGTERM under load: it ends with status 0 within 10 s, and the next worker repeats no record."""
    with core.producing() as count:
        worker = core.worker()
        core.publishes(4_000)
        assert worker.stop() == 0, worker.output()[-3000:]
        again = core.worker()
        core.publishes(4_000)
    records = core.published(count[0] * len(SYMBOLS))
    check_trades(records, count[0])
    assert len(records) == count[0] * len(SYMBOLS)
    assert again.stop() == 0, again.output()[-3000:]


def test_stopped_worker_has_left_its_group_when_it_ends(core: Deployment) -> None:
    """SIGTERM under load, during a rebalance: the others do not wait for its session to end, 6 s."""
    with core.producing() as count:
        stopped, _ = core.worker(), core.worker()
        core.publishes(4_000)
        wait_until(lambda: core.group() == ("Stable", 2), what="a group of two")
        core.worker()
        wait_until(lambda: core.group()[0] != "Stable", what="the third to join", every_s=0.02)
        assert stopped.stop() == 0, stopped.output()[-3000:]
        assert core.group()[1] == 2
    check_trades(core.published(count[0] * len(SYMBOLS)), count[0])


def test_workers_that_come_and_go_quickly_number_each_trade_once(core: Deployment) -> None:
    """A rolling deployment: each is stopped, or killed, and started again while the group is still rebalancing."""
    rng = random.Random(7)
    with core.producing() as count:
        workers = [core.worker() for _ in range(3)]
        core.publishes(4_000)
        for turn in range(6):
            at = rng.randrange(3)
            if turn % 3 == 2:
                workers[at].kill()
            else:
                # Told so early, it may not have come to its own handling of the signal.
                assert workers[at].stop() in (0, -signal.SIGTERM), workers[at].output()[-3000:]
            time.sleep(rng.uniform(0, 1.5))
            workers[at] = core.worker()
            time.sleep(rng.uniform(0.5, 3))
        core.publishes(4_000)
    check_trades(core.published(count[0] * len(SYMBOLS)), count[0])
    assert all(worker.running for worker in workers)


@pytest.mark.parametrize("after_s", [0.3, 1.0, 1.7])
def test_worker_that_was_suspended_while_it_took_over_goes_on(core: Deployment, after_s: float) -> None:
    """Longer than its session: the group gave its partitions away and gives them back; none is owned and not read."""
    with core.producing() as count:
        leaving, suspended = core.worker(), core.worker()
        wait_until(lambda: core.group() == ("Stable", 2), what="a group of two")
        core.publishes(4_000)
        assert leaving.stop() == 0, leaving.output()[-3000:]
        time.sleep(after_s)
        suspended.signal(signal.SIGSTOP)
        time.sleep(9)
        suspended.signal(signal.SIGCONT)
        core.publishes(4_000)
    check_trades(core.published(count[0] * len(SYMBOLS)), count[0])
    assert suspended.running


def klines(symbol: str, first: int, end: int) -> list[ProducerRecord]:
    """Binance's 1s bars of seconds [first, end) after T0, and the record that takes them."""
    second = 1_000_000_000
    rows = [[T0_NS // 10**6 + n * 1_000, "2.0", "3.0", "1.0", "2.5", "10.0", 0, "20.0", 5, "1.0", "2.0", "0"]
            for n in range(first, end)]  # fmt: skip
    frame = rest_frame(f"/api/v3/klines?symbol={symbol}&interval=1s", "1s", json.dumps(rows).encode())
    taken = RangeRequest(symbol, "binance", "1s", T0_NS + first * second, T0_NS + end * second, taken=True)
    return [
        raw(frame, symbol, at_ns=T0_NS, kind="klines"),
        raw(repairs.encode(taken), symbol, at_ns=T0_NS, kind="repair"),
    ]


def test_bars_of_history_are_published_by_a_killed_worker_and_by_the_next_as_the_same_bytes(core: Deployment) -> None:
    """kill -9 right behind them, and a backfill that brings them again: each is there, and nothing of it is missing."""
    symbols = SYMBOLS[:3]
    killed = core.worker()
    core.produce([record for symbol in symbols for record in klines(symbol, -20, -10)])
    core.produce(trades(0, 5))

    def past(count: int) -> list[ConsumerRecord[Any, Any]] | None:
        records = [record for record in core.read(core.topics.bars.name) if b'"backfilled":true' in record.value]
        return records if len({record.value for record in records}) >= count else None

    wait_until(lambda: past(10 * len(symbols)), what="bars of the past", every_s=0.3)
    killed.kill()
    core.produce([record for symbol in symbols for record in [*klines(symbol, -20, -10), *klines(symbol, -10, 1)]])
    worker = core.worker()
    found = wait_until(lambda: past(20 * len(symbols)), what="all bars of the past", every_s=0.3)
    assert found is not None
    bars = {(event["symbol"], event["ts_open"]): event for event in map(json.loads, {r.value for r in found})}
    assert len(bars) == len({record.value for record in found})
    assert set(bars) == {(symbol, T0_NS + n * 1_000_000_000) for symbol in symbols for n in range(-20, 0)}
    assert {(bar["provider"], bar["revision"], bar["volume"]) for bar in bars.values()} == {("binance", HISTORY, 10.0)}
    answers = [json.loads(record.value) for record in core.read(core.topics.gaps.name)]
    assert {answer["type"] for answer in answers} == {"range_answer"}
    assert not any(answer.get("missing") or answer.get("refused") for answer in answers)
    check_trades(core.published(5 * len(SYMBOLS)), 5)
    assert worker.stop() == 0, worker.output()[-3000:]


def test_frames_that_cannot_be_understood_go_to_dead_and_the_stream_goes_on(core: Deployment) -> None:
    """Garbage of all kinds and a frame of 10 MB: each a letter on md.dead with its reason, trades unharmed."""
    good = trade("BTCUSDT", 1)
    garbage = {
        "not JSON": b"<html>",
        "abc": good.replace(b'"1.5"', b'"abc"'),
        "null": good.replace(b'"1.5"', b"null"),
        "1e999": good.replace(b'"1.5"', b"1e999"),
        "empty": b"",
        "10 MB": b'{"stream":"btcusdt@trade","data":{"pad":"' + b"x" * (10 * MIB) + b'"}}',
    }
    worker = core.worker()
    core.produce(
        [
            *trades(0, 1),
            *(raw(frame, "BTCUSDT", at_ns=T0_NS, kind="") for frame in garbage.values()),
            (b"BTCUSDT", good, 0, []),
            *trades(1, 3),
        ]
    )
    check_trades(core.published(3 * len(SYMBOLS)), 3)
    letters = [json.loads(record.value) for record in core.read(core.topics.dead.name)]
    assert len(letters) == len(garbage) + 1
    assert all(letter["error"] for letter in letters)
    assert {letter["source_topic"] for letter in letters} == {core.topics.raw["crypto"].name}
    by_value = {letter["value"]: letter for letter in letters}
    assert {frame.decode() for name, frame in garbage.items() if name != "10 MB"} < set(by_value)
    assert "unknown provider" in by_value[good.decode()]["error"]
    (cut,) = (letter for letter in letters if letter.get("truncated"))
    assert cut["bytes"] == len(garbage["10 MB"])
    assert worker.stop() == 0, worker.output()[-3000:]


# -- latest prices


def get(port: int, path: str) -> tuple[int, Any]:
    """Status and JSON of a page; (0, None) where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, None


def shows(port: int, prices: Mapping[str, int]) -> bool:
    """Whether the worker at `port` knows these last trades and quotes of every symbol, one by one and all at once."""
    for symbol, number in prices.items():
        status, message = get(port, f"/latest?symbol={symbol}")
        if status != 200 or not message["trade"] or not message["quote"]:
            return False
        if (message["trade"]["trade_id"], message["quote"]["ask"]) != (str(number), number + 0.9):
            return False
    status, message = get(port, "/latest/")
    return (
        status == 200
        and message["unreachable"] == []
        and {symbol: int(each["trade"]["trade_id"]) for symbol, each in message["symbols"].items()} == prices
    )


def prices(number: int) -> list[ProducerRecord]:
    """One trade and one quote of every symbol."""
    quotes = [raw(quote(symbol, number), symbol, at_ns=T0_NS + number, kind="quote") for symbol in SYMBOLS]
    return trades(number, number + 1) + quotes


def shares(ports: Sequence[int]) -> bool:
    """Whether each worker has some of the instruments, and none has all."""
    owned = [set((get(port, "/latest/?local=1")[1] or {"symbols": {}})["symbols"]) for port in ports]
    return all(owned) and set.union(*owned) == set(SYMBOLS) and not set.intersection(*owned)


def test_every_worker_answers_for_every_instrument_also_after_a_takeover(core: Deployment) -> None:
    """Two workers share the instruments: each returns the price of any; the one that remains returns all."""
    ports = [free_port(), free_port()]
    workers = [core.worker(port) for port in ports]
    core.produce(prices(1))
    wait_until(lambda: shares(ports), what="both workers to have a share")
    core.produce(prices(2))
    for port in ports:
        wait_until(partial(shows, port, dict.fromkeys(SYMBOLS, 2)), what=f"all prices at {port}")
        status, message = get(port, "/latest?symbol=NOSUCH")
        assert (status, message) == (404, {"error": "nothing is known of NOSUCH"})
        status, message = get(port, "/latest")
        assert status == 400
        assert "/latest?symbol=BTCUSDT" in message["error"]

    workers[0].kill()
    wait_until(lambda: shows(ports[1], dict.fromkeys(SYMBOLS, 2)), what="all prices after the takeover")
    core.produce(prices(3))
    wait_until(lambda: shows(ports[1], dict.fromkeys(SYMBOLS, 3)), what="the next prices")
    assert workers[1].stop() == 0, workers[1].output()[-3000:]


# -- what it says when it cannot start


def test_worker_at_a_port_in_use_ends_and_names_it(core: Deployment) -> None:
    """Two workers at one port: the second says which one it is and exits non-zero."""
    port = free_port()
    first = core.worker(port)
    wait_until(lambda: get(port, "/latest/")[0] == 200, what="the first worker's pages")
    second = core.worker(port)
    assert second.wait(60) != 0
    assert str(port) in second.output()
    assert "in use" in second.output()
    assert first.stop() == 0


def test_worker_without_a_broker_ends_and_names_it(processes: Processes) -> None:
    """Nobody answers at the address: it says so with what to do, and exits non-zero."""
    address = f"127.0.0.1:{free_port()}"
    worker = processes.worker("core", port=free_port(), env={"KAFKA_BOOTSTRAP_SERVERS": address})
    assert worker.wait(60) != 0
    assert f"no Kafka broker answers at {address}" in worker.output()


def test_stopped_worker_ends_though_kafka_is_away(core: Deployment, env: dict[str, str]) -> None:
    """It has output that no broker takes. It waits a while for one, then ends with 75: nothing is lost."""
    with chosen_broker() as own:
        core.broker = env["KAFKA_BOOTSTRAP_SERVERS"] = own.bootstrap
        core.create_topics()
        with core.producing():
            worker = core.worker()
            core.publishes(2_000)
            worker.signal(signal.SIGSTOP)
        own.stop()
        worker.signal(signal.SIGCONT)
        worker.signal(signal.SIGTERM)
        assert worker.wait(90) == EXIT_STUCK
    assert "not stopped after 40 s; nothing is lost: " in worker.output()
