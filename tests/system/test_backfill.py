"""`mdstream backfill` with everything around it: simulated venues, ingestors, a core worker, and kills.

venue    ───────────── trades ──────────────────────────────>
ingest                      from here on, live  ════════════>
backfill   <════ REST ══════ killed, and started again
md.trades  every trade of the venue's journal once, those from before marked
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from math import fsum, isclose
from pathlib import Path
from string import ascii_uppercase

import pytest
from aiohttp import web
from aiokafka import TopicPartition
from past import Slow, ago, front, trade
from processes import LIMIT_S, Process, Processes, free_port, run_mdstream, wait_until
from servers import read_topic
from venues import Made, Venues

from mdstream import config
from mdstream.backfill.ahead import IN_FLIGHT
from mdstream.backfill.stream import MAX_UNCLAIMED, Stream
from mdstream.errors import BrokerError
from mdstream.events import Trade, decode
from mdstream.kafka.publisher import Partitioner
from mdstream.kafka.reading import reader
from mdstream.repair.rawlog import RawLog
from mdstream.repair.venues import HISTORIES
from mdstream.repairs import REST_MARK, RangeRequest
from mdstream.ticks import TradeTick
from mdstream.venues.providers import provider

pytestmark = pytest.mark.system

SYMBOLS = {"binance": "BTCUSDT", "okx": "ETHUSDT", "coinbase": "BTCUSD"}
BEFORE = 2_500
"""Trades of each venue that nobody reads live: more parts of a backfill than there are kills."""
FRAMES_PER_S = 600
"""Of all venues: a slow machine reads them as fast as they come."""
KILLS = 2


def simulated(processes: Processes, journal: Path) -> Venues:
    """Venues whose markets go on without a reader."""
    symbols = ("--symbols", "BTCUSDT,ETHUSDT,BTCUSD", "--first-id", 5000)
    return Venues.start(processes, journal, *symbols, "--rate", FRAMES_PER_S, "--linger", 3_600)


def published(env: Mapping[str, str]) -> dict[str, list[Trade]]:
    """The events of md.trades by provider, repeats left out."""
    records = asyncio.run(read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}.trades"))
    found: dict[str, dict[int, Trade]] = defaultdict(dict)
    for record in records:
        trade = decode(record.value)
        assert isinstance(trade, Trade)
        assert found[trade.provider].setdefault(trade.seq, trade) == trade
    return {name: [trades[seq] for seq in sorted(trades)] for name, trades in found.items()}


def backfill(name: str) -> tuple[object, ...]:
    return "backfill", "--provider", name, "--symbols", SYMBOLS[name], "--start", "1h"


def kill_midway(processes: Processes, env: Mapping[str, str], name: str) -> None:
    """Start a backfill, and kill it when the first part of it is there."""
    process: Process = processes.mdstream(*backfill(name), env=env)
    wait_until(lambda: "recovered in" in process.output() or not process.running, what="a part", every_s=0.02)
    process.kill()


def test_backfill_has_every_trade_once_and_meets_the_live_ones_without_a_seam(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """Of three venues, one of them killed again and again, the core worker once. Nobody exceeds a limit, nothing is
    fetched over and over."""
    venues = simulated(processes, tmp_path / "journal.jsonl")
    asyncio.run(asyncio.wait_for(_all_trade(venues), LIMIT_S))
    env |= venues.urls
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    worker = processes.worker("core", port=free_port(), env=env)
    for name, symbol in SYMBOLS.items():
        processes.mdstream("ingest", "--provider", name, "--symbols", symbol, "--port", free_port(), env=env)
    wait_until(lambda: len(published(env)) == len(SYMBOLS), what="live trades of all venues")

    for _ in range(KILLS):
        kill_midway(processes, env, "okx")
    worker.kill()
    processes.worker("core", port=free_port(), env=env).wait_for("is up")
    for name in SYMBOLS:
        done = run_mdstream(*backfill(name), env=env)
        assert done.returncode == 0, done.stderr + done.stdout
        assert "missing still" not in done.stderr
    again = run_mdstream(*backfill("okx"), env=env)
    assert again.stdout == "okx ETHUSDT: nothing is missing of what the venue has of that time\n"

    rest = venues.ask("GET", "/status")["rest"]
    venues.pause()
    truth: dict[str, list[Made]] = defaultdict(list)
    for made in venues.stop():
        if SYMBOLS.get(made.provider) == made.symbol:
            truth[made.provider].append(made)
    fills = {name: sum(made.fills for made in rows) for name, rows in truth.items()}
    wait_until(
        lambda: {name: sum(t.count for t in trades) for name, trades in published(env).items()} == fills,
        what=f"every trade: {fills}",
    )
    for name, trades in published(env).items():
        assert [trade.seq for trade in trades] == list(range(trades[0].seq, trades[0].seq + len(trades)))
        assert max(Counter(trade.trade_id for trade in trades).values()) == 1
        sizes, expected = fsum(trade.size for trade in trades), fsum(made.size for made in truth[name])
        assert isclose(sizes, expected, rel_tol=1e-9)
        past = [trade for trade in trades if trade.backfilled]
        live = [trade for trade in trades if not trade.recovered]
        assert len(past) >= BEFORE
        assert max(trade.ts_exchange or 0 for trade in past) <= min(trade.ts_exchange or 0 for trade in live)
    assert not any(each["refused"] for each in rest.values()), rest
    _check_requests(env)


async def _all_trade(venues: Venues) -> None:
    await asyncio.gather(*(trade(venues, name, symbol, BEFORE) for name, symbol in SYMBOLS.items()))


def _check_requests(env: Mapping[str, str]) -> None:
    """A kill repeats at most what was in flight: else no id is in two answers."""
    records = asyncio.run(read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}.raw.crypto"))
    for name in SYMBOLS:
        of, ids = provider(name), Counter[str]()
        for record in records:
            if dict(record.headers)["p"] == name.encode() and (record.value or b"").startswith(REST_MARK):
                ids.update(tick.trade_id for tick in of.decode(record.value) if isinstance(tick, TradeTick))
        twice = sum(number - 1 for number in ids.values())
        assert twice <= KILLS * IN_FLIGHT * HISTORIES[name].most_rows, name


def test_backfill_without_live_trades_is_refused_and_changes_nothing(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """With what to do. Nothing of the venue is asked for, or on the raw topic."""
    env |= simulated(processes, tmp_path / "journal.jsonl").urls
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    processes.worker("core", port=free_port(), env=env)
    done = run_mdstream(*backfill("binance"), env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert "binance BTCUSDT: not done: no live trade of it was published: start `mdstream ingest`" in done.stderr
    assert published(env) == {}


class Damaged(Slow):
    """A venue that answers with more than one trade in a form that is not its own."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.query["limit"] == "1":
            return await super().answer(request)
        return web.json_response({"code": "0", "msg": "", "data": [{"tradeId": None}]})


def test_trades_that_cannot_be_understood_are_missing_still(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """The venue has them: the command does not end as if all that can be had were there."""
    venues = simulated(processes, tmp_path / "journal.jsonl")
    asyncio.run(asyncio.wait_for(trade(venues, "okx", "ETHUSDT", 100), LIMIT_S))
    env |= {**venues.urls, "MDSTREAM_REPAIR_PATIENCE_S": "1"}
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    processes.worker("core", port=free_port(), env=env)
    processes.mdstream("ingest", "--provider", "okx", "--symbols", "ETHUSDT", "--port", free_port(), env=env)
    wait_until(lambda: published(env), what="live trades")
    with front(Damaged(env["OKX_API_BASE_URL"]).answer) as address:
        done = run_mdstream(*backfill("okx"), env=env | {"OKX_API_BASE_URL": address})
    assert done.returncode == 1, done.stdout
    assert "okx ETHUSDT: missing still: " in done.stderr
    assert "the venue's answer cannot be understood" in done.stderr
    assert "does not have" not in done.stdout


async def test_an_answer_is_not_lost_among_those_of_another_backfill_of_the_symbol(
    processes: Processes, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was stopped for a while (Ctrl-Z) finds more of them than it keeps, behind its own."""
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    processes.worker("core", port=free_port(), env=env)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    settings = config.load()
    raw_log, topic = RawLog(settings), f"{settings.topic_prefix}.gaps"
    await raw_log.start()
    try:
        async with asyncio.timeout(LIMIT_S), reader(settings.bootstrap_servers) as consumer:
            partition = TopicPartition(topic, Partitioner(settings.partitions)(b"BTCUSDT"))
            consumer.assign([partition])
            consumer.pause(partition)
            await consumer.seek_to_end(partition)
            stream = Stream(raw_log, consumer, "binance", "BTCUSDT")
            minute = RangeRequest("BTCUSDT", "binance", "1m", 0, 60_000_000_000)
            offset = await stream.write(minute)
            for _ in range(MAX_UNCLAIMED // 100 * 2):
                await asyncio.gather(*(raw_log.question(minute, now_ns=1) for _ in range(100)))
            while len(await read_topic(settings.bootstrap_servers, topic)) <= 2 * MAX_UNCLAIMED:  # noqa: ASYNC110  there is no event to wait for
                await asyncio.sleep(0.1)
            consumer.resume(partition)
            assert (await stream.answer(offset)).request_offset == offset
    finally:
        await raw_log.stop()


def test_broker_that_goes_away_is_waited_for_and_said(processes: Processes, env: dict[str, str]) -> None:
    """Nothing that was written or read would say it."""
    port = free_port()
    broker = processes.mdstream("broker", "--port", port)
    broker.wait_for("Kafka-compatible broker at")
    env |= {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"}
    process = processes.mdstream(*backfill("binance"), env=env)
    wait_until(lambda: _requests(env), what="the first question to the stream")
    broker.kill()
    process.wait_for(f"waiting for Kafka: no Kafka broker answers at 127.0.0.1:{port}")


def test_broker_that_goes_away_between_two_symbols_is_waited_for(processes: Processes, env: dict[str, str]) -> None:
    """Each has a connection of its own; what became of the others is said in the end."""
    port = free_port()
    broker = processes.mdstream("broker", "--port", port)
    broker.wait_for("Kafka-compatible broker at")
    env |= {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"}
    symbols = [f"{a}{b}{c}USDT" for a in ascii_uppercase for b in ascii_uppercase for c in "XYZ"]
    options = ("--symbols", ",".join(symbols), "--interval", "1d", "--start", ago(60), "--end", ago(30))
    process = processes.mdstream("backfill", "--provider", "binance", *options, env=env)
    wait_until(lambda: _requests(env) is not None or not process.running, what="its topics", every_s=0.02)
    time.sleep(1.0)  # its producer starts now, then the first symbols
    broker.kill()
    wait_until(
        lambda: "USDT: waiting for Kafka: " in process.output() or not process.running, what="a word about the broker"
    )
    processes.mdstream("broker", "--port", port).wait_for("Kafka-compatible broker at")
    assert process.wait() == 0, process.output()[-2_000:]
    assert process.output().count(": nothing is missing") == len(symbols)


def _requests(env: Mapping[str, str]) -> int | None:
    try:
        records = read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}.raw.crypto")
        return len(asyncio.run(records))
    except BrokerError:  # no topic yet
        return None


def test_what_cannot_be_asked_for_is_refused_at_once(env: dict[str, str]) -> None:
    """A range that is empty or to come, no symbol, a contract whose worth in the past is not known."""
    for options, expected in (
        (("--provider", "binance", "--symbols", "BTCUSDT", "--start", "1h", "--end", "2h"), "the range is empty"),
        (("--provider", "binance", "--symbols", "BTCUSDT", "--start", "2999-01-01"), "is not in the past"),
        (("--provider", "binance", "--symbols", ",", "--start", "1h"), "names none"),
        (("--provider", "okx", "--symbols", "BTCUSDT-PERP", "--start", "1h"), "what its contracts were worth"),
        (("--provider", "binance", "--symbols", "BTCUSDT", "--start", "yesterday"), "is not a time"),
    ):
        done = run_mdstream("backfill", *options, env=env)
        assert done.returncode in (1, 2)
        assert expected in done.stderr
