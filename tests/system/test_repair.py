"""`mdstream repair` as users run it: a real process, a real broker, and the simulated venues' REST interfaces.

venue ─ websocket, some trades dropped ─> holes ─> md.gaps ─> mdstream repair ─ REST ─> raw topic
  └──── journal: every trade there was ──────────────── compared with ───────────────────────┘
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from processes import LIMIT_S, Process, Processes, free_port, run_mdstream, wait_until
from servers import read_topic
from websockets.asyncio.client import connect

from mdstream import kafka
from mdstream.config import Settings, load
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.records import REPAIR, ProducerRecord, contract_size_of
from mdstream.repairs import REST_MARK, RepairRequest, Unrecoverable, decode_report, encode
from mdstream.ticks import TradeTick
from mdstream.venues.providers import provider
from topics import Topics

pytestmark = pytest.mark.system

SYMBOLS = {"binance": "BTCUSDT", "binance_coinm": "BTCUSD-PERP", "okx": "BTCUSDT-PERP", "coinbase": "BTCUSD"}
WORTH = {"okx": "0.0005"}
"""What the simulated contracts are worth."""
AGGREGATED = "ETHUSDT"
Market = tuple[str, str, str]
"""Provider, symbol, id space."""


# ----------------------------------------------------------------------------------------------------------- the venue


class Simulator:
    """A running simulator, its market paused once `watch` has returned."""

    def __init__(self, processes: Processes, journal: Path, *options: object) -> None:
        symbols = "BTCUSDT,BTCUSD,BTCUSDT-PERP,BTCUSD-PERP,ETHUSDT"
        args = ("--port", 0, "--rate", 5000, "--symbols", symbols, "--journal", journal)
        self.process = processes.mdstream("simulate", *args, *options)
        self.process.wait_for("export COINBASE_WS_URL=")
        lines = [line.removeprefix("export ") for line in self.process.output().splitlines() if "_URL=" in line]
        self.env = {name: url for name, _, url in (line.partition("=") for line in lines)}
        """What points `mdstream repair` at it."""
        self._address = self.env["BINANCE_WS_URL"].split("/")[2]
        self._journal = journal

    def call(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"http://{self._address}{path}", method=method, data=body)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    async def watch(
        self, venues: Iterable[str], *, at_least: int, fault: Mapping[str, Any] | None = None
    ) -> dict[Market, list[TradeTick]]:
        """The trades that the venues send, until each market has so many; then the market stops.

        Each venue has the `fault` once half of its trades are there, and goes on until one is that was made after it:
        they are known to be on both sides of it.
        """
        seen: dict[Market, list[TradeTick]] = defaultdict(list)
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*(self._watch(name, seen, at_least, fault) for name in venues))
        await asyncio.to_thread(self.call, "POST", "/pause")
        return dict(seen)

    async def _watch(
        self, name: str, seen: dict[Market, list[TradeTick]], at_least: int, fault: Mapping[str, Any] | None
    ) -> None:
        venue, begun_ns = provider(name), 0
        async with connect(self.env[f"{name.upper()}_WS_URL"], compression=None, max_queue=None) as socket:
            for request in venue.subscribe([SYMBOLS[name]]):
                await socket.send(request.frame)
            if name == "binance":
                stream = f"{AGGREGATED.lower()}@aggTrade"
                await socket.send(json.dumps({"method": "SUBSCRIBE", "params": [stream], "id": 9}))
            while True:
                for tick in venue.decode(await socket.recv(decode=False), WORTH.get(name, "").encode()):
                    if isinstance(tick, TradeTick) and not tick.resume:
                        seen[name, tick.symbol, tick.id_space].append(tick)
                came = [ticks for market, ticks in seen.items() if market[0] == name]
                fewest = min(map(len, came)) if len(came) == 1 + (name == "binance") else 0
                if fault is not None and fewest >= at_least / 2:
                    await asyncio.to_thread(self.call, "POST", "/faults", {"venue": name, **fault})
                    fault, begun_ns = None, time.time_ns()
                if fewest >= at_least and all((ticks[-1].ts_exchange or 0) > begun_ns for ticks in came):
                    return

    def journal(self) -> dict[Market, dict[str, dict[str, Any]]]:
        """Every trade there was, by market and id; ends the simulator."""
        self.process.stop()
        found: dict[Market, dict[str, dict[str, Any]]] = defaultdict(dict)
        for line in self._journal.read_text().splitlines():
            row = json.loads(line)
            id_space = row.get("view") or {"binance": "trade", "okx": "trades"}.get(row["provider"], "")
            found[row["provider"], row["symbol"], id_space][row["trade_id"]] = row
        return found


def holes(ticks: list[TradeTick]) -> list[tuple[int, int]]:
    """First and last of each range of ids that did not come, between the first and the last that did."""
    ordered = sorted(ticks, key=lambda tick: tick.first_id)
    return [(a.last_id + 1, b.first_id - 1) for a, b in pairwise(ordered) if b.first_id > a.last_id + 1]


def ids(spans: Iterable[tuple[int, int]]) -> set[int]:
    return {number for first, last in spans for number in range(first, last + 1)}


# --------------------------------------------------------------------------------------------------------- the repairs


@dataclass
class Repaired:
    """The records of the raw topic."""

    trades: dict[Market, dict[int, TradeTick]] = field(default_factory=lambda: defaultdict(dict))
    lost: dict[Market, list[Unrecoverable]] = field(default_factory=lambda: defaultdict(list))
    records: list[ConsumerRecord[bytes, bytes]] = field(default_factory=list)

    def lost_ids(self, market: Market) -> set[int]:
        return ids((loss.first_id, loss.last_id) for loss in self.lost[market])


class Bench:
    """Topics of the test's own, and processes that repair what is asked for on them."""

    def __init__(self, processes: Processes, env: Mapping[str, str], simulator: Simulator) -> None:
        self.settings: Settings = load(
            bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"],
            topic_prefix=env["MDSTREAM_TOPIC_PREFIX"],
            partitions=int(env["MDSTREAM_PARTITIONS"]),
        )
        self.topics = Topics(self.settings)
        self.port = free_port()
        self._processes, self._env = processes, {**simulator.env, "MDSTREAM_REPAIR_PATIENCE_S": "1.4"}

    def start(self, *options: object) -> Process:
        return self._processes.mdstream("repair", "--port", self.port, *options, env=self._env)

    async def ask(self, *values: RepairRequest | bytes) -> None:
        """Put requests on md.gaps, as the canonical stream does."""
        await kafka.create_topics(self.settings.bootstrap_servers, self.topics)
        publisher, partition = Publisher(self.settings.bootstrap_servers, client_id="test"), Partitioner(4)
        await publisher.start()
        for value in values:
            key, content = (b"x", value) if isinstance(value, bytes) else (value.symbol.encode(), encode(value))
            record: ProducerRecord = (key, content, time.time_ns() // 1_000_000, [])
            await asyncio.gather(*await publisher.send(self.topics.gaps.name, partition(key), [record]))
        await publisher.stop()

    def get(self, path: str) -> str:
        """The body of an HTTP request, whatever its status; empty while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""

    def health(self) -> Any:
        return json.loads(self.get("/health") or '{"venues":{},"partitions":[]}')

    def partitions(self) -> list[int]:
        return list(self.health()["partitions"])

    def done(self, name: str) -> dict[str, int]:
        """Finished requests of a venue by outcome."""
        return dict(self.health()["venues"].get(name, {"requests": {}})["requests"])

    def has_done(self, name: str, requests: Mapping[str, int]) -> bool:
        return self.done(name) == requests

    def all_done(self, requests: int) -> bool:
        return sum(sum(self.done(name).values()) for name in SYMBOLS) >= requests

    def committed(self) -> int:
        """Requests that the group has behind it, over all partitions."""
        return asyncio.run(self._committed())

    async def _committed(self) -> int:
        partitions = await kafka.partitions_of(self.settings.bootstrap_servers, self.topics.gaps.name)
        async with AIOKafkaConsumer(
            bootstrap_servers=str(self.settings.bootstrap_servers),
            group_id=f"{self.settings.topic_prefix}.repair",
            enable_auto_commit=False,
        ) as consumer:
            consumer.assign(partitions)
            return sum([await consumer.committed(partition) or 0 for partition in partitions])

    def repaired(self) -> Repaired:
        """All that was written to the raw topic; the Unrecoverable of a market come after its frames."""
        return asyncio.run(self._repaired())

    async def _repaired(self) -> Repaired:
        repaired = Repaired()
        repaired.records = await self.read(self.topics.raw["crypto"].name)
        for record in repaired.records:
            headers = dict(record.headers)
            name = headers["p"].decode()
            assert [key for key, _ in record.headers if key != "v"] == ["p", "t", "k", "via"]
            assert headers["via"] == b"rest"
            assert ("v" in headers) == (headers["k"] == b"trade" and headers["p"] == b"okx")
            assert record.partition == Partitioner(4)(record.key)
            if headers["k"] == REPAIR:
                loss = decode_report(record.value)
                assert isinstance(loss, Unrecoverable)
                assert (loss.provider, loss.symbol.encode()) == (name, record.key)
                repaired.lost[name, loss.symbol, loss.id_space].append(loss)
                continue
            assert headers["k"] == b"trade"
            for tick in provider(name).decode(record.value, contract_size_of(record)):
                assert isinstance(tick, TradeTick)
                assert tick.recovered
                assert tick.symbol.encode() == record.key
                repaired.trades[name, tick.symbol, tick.id_space][tick.first_id] = tick
        return repaired

    async def read(self, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
        return await read_topic(self.settings.bootstrap_servers, topic)


@pytest.fixture
def clean(processes: Processes) -> Iterator[Processes]:
    """Processes of which none may have ended on its own."""
    yield processes
    for process in processes.started:
        assert "Traceback" not in process.output(), process.output()[-3000:]


def requests_for(market: Market, spans: Iterable[tuple[int, int]]) -> list[RepairRequest]:
    name, symbol, id_space = market
    contract_size = WORTH.get(name, "")
    return [RepairRequest(symbol, name, id_space, first, last, 1, contract_size) for first, last in spans]


def test_repair_brings_back_what_was_dropped_and_declares_the_rest_lost(
    clean: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """Of four venues and five kinds of ids, each missing trade is on the raw topic as it was, or declared lost.

    Lost are those that the venue has no more, and no other; what is not a request goes to md.dead; a request that came
    twice is answered once.
    """
    drops = [f"{name}:drop:share=0.08,run=4" for name in SYMBOLS]
    simulator = Simulator(clean, tmp_path / "journal.jsonl", *(part for fault in drops for part in ("--fault", fault)))
    gone = {"kind": "drop", "run": 6, "unrecoverable": True}
    seen = asyncio.run(simulator.watch(SYMBOLS, at_least=400, fault=gone))
    assert len(seen) == 5
    missing = {market: holes(ticks) for market, ticks in seen.items()}
    requested = [request for market, spans in missing.items() for request in requests_for(market, spans)]
    unknown = [
        RepairRequest("DOGEUSDT", "binance", "trade", 5, 9, 1),
        RepairRequest("BTCUSDT-PERP", "okx", "trades", 1, 3, 1, WORTH["okx"]),
        RepairRequest("BTCUSDT", "binance", "sideways", 1, 1, 1),
    ]
    refused = [
        b"nonsense",
        encode(RepairRequest("X", "nobody", "", 1, 2, 1)),
        encode(requested[0]).replace(b"_id", b"_di"),
    ]

    bench = Bench(clean, env, simulator)
    asyncio.run(bench.ask(*requested, *unknown, *refused, requested[0]))
    process = bench.start()
    wait_until(lambda: bench.all_done(len(requested) + len(unknown)), what="the end of all requests")
    total = len(requested) + len(unknown) + len(refused) + 1
    wait_until(lambda: bench.committed() == total, what="the commit of all requests")
    metrics = bench.get("/metrics")
    assert process.stop() == 0

    repaired, truth = bench.repaired(), simulator.journal()
    for market, spans in missing.items():
        recovered, lost = repaired.trades[market].keys() & ids(spans), repaired.lost_ids(market) - {1, 2, 3}
        assert recovered | lost == ids(spans), market
        assert not recovered & lost, market
        assert recovered, market
        assert lost, market
        _check_trades(market, truth[market], repaired.trades[market], seen[market])
    reasons = {
        (loss.symbol, loss.id_space): (loss.first_id, loss.last_id, loss.reason)
        for losses in repaired.lost.values()
        for loss in losses
    }
    assert reasons["DOGEUSDT", "trade"] == (5, 9, "-1121 Invalid symbol.")
    assert reasons["BTCUSDT", "sideways"][2] == "binance gives no history of sideways"
    assert repaired.lost_ids(("okx", "BTCUSDT-PERP", "trades")) >= {1, 2, 3}

    dead = asyncio.run(bench.read(bench.topics.dead.name))
    assert len(dead) == len(refused)
    assert {json.loads(letter.value)["source_topic"] for letter in dead} == {bench.topics.gaps.name}
    assert f"mdstream_repair_refused_total {float(len(refused))}" in metrics
    assert 'mdstream_repair_requests_total{outcome="recovered",provider="coinbase"}' in metrics
    assert 'mdstream_repair_oldest_request_seconds{provider="okx"} 0.0' in metrics
    assert " recovered in " in process.output()
    _check_replay(bench, env, tmp_path / "capture.jsonl", repaired)


def _check_replay(bench: Bench, env: Mapping[str, str], capture: Path, repaired: Repaired) -> None:
    """A capture of the raw topic, replayed under another prefix, puts every REST frame where it was."""
    assert run_mdstream("record", capture, "--from-beginning", "--to-end", env=env).returncode == 0
    elsewhere = {**env, "MDSTREAM_TOPIC_PREFIX": env["MDSTREAM_TOPIC_PREFIX"] + "-again"}
    assert run_mdstream("topics", "--create", env=elsewhere).returncode == 0
    assert run_mdstream("replay", capture, "--as-fast-as-possible", env=elsewhere).returncode == 0
    again = asyncio.run(bench.read(f"{elsewhere['MDSTREAM_TOPIC_PREFIX']}.raw.crypto"))

    def places(records: Iterable[ConsumerRecord[bytes, bytes]]) -> list[tuple[int, bytes, bytes, bytes]]:
        frames = ((r, dict(r.headers)) for r in records if r.value.startswith(REST_MARK))
        return sorted((r.partition, r.key, headers["k"], r.value) for r, headers in frames)

    assert places(again) == places(repaired.records)


def _check_trades(
    market: Market, truth: Mapping[str, Mapping[str, Any]], recovered: Mapping[int, TradeTick], seen: list[TradeTick]
) -> None:
    """Every recovered trade is the journal's; OKX's are its fills one by one, which add up to the journal's."""
    live = {number for tick in seen for number in range(tick.first_id, tick.last_id + 1)}
    fills: dict[str, float] = defaultdict(float)
    ends = sorted(map(int, truth))
    for number, tick in recovered.items():
        if number in live or number > ends[-1]:
            continue
        row = truth[str(next(end for end in ends if end >= number))]
        assert (tick.price, tick.side) == (row["price"], row["side"])
        assert tick.ts_exchange == row["ts_exchange"]
        assert tick.last_id == number
        fills[row["trade_id"]] += tick.size
    assert fills
    whole = {trade_id: row["size"] for trade_id, row in truth.items() if int(trade_id) in recovered}
    for trade_id in fills.keys() & whole.keys():
        assert fills[trade_id] == pytest.approx(whole[trade_id]), (market, trade_id)


def test_repair_of_a_venue_in_trouble_waits_while_the_others_go_on(
    clean: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """503 is no loss: it is asked for again until it comes, also by the next process. 429's Retry-After is heeded.

    Binance's requests come after OKX's in the same partition: done, but not committed before those are.
    """
    simulator = Simulator(clean, tmp_path / "journal.jsonl", "--rest-budget", "binance=100/3")
    id_spaces = {"okx": "trades", "binance": "trade", "coinbase": ""}
    seen = asyncio.run(simulator.watch(id_spaces, at_least=60))
    spans = {
        name: [(tick.first_id, tick.last_id) for tick in ticks[10:50:4]]
        for (name, symbol, _), ticks in seen.items()
        if symbol == SYMBOLS[name]
    }
    fault = simulator.call("POST", "/faults", {"venue": "okx", "kind": "refuse", "status": 503, "rest": True})
    bench = Bench(clean, env, simulator)
    for name in id_spaces:
        asyncio.run(bench.ask(*requests_for((name, SYMBOLS[name], id_spaces[name]), spans[name])))
    process = bench.start()
    everything = {"recovered": 10, "partly": 0, "unrecoverable": 0}
    for name in ("binance", "coinbase"):
        wait_until(partial(bench.has_done, name, everything), what=f"the repairs of {name}")
    health = bench.health()
    assert health["status"] == "degraded"
    assert "HTTP 503" in health["venues"]["okx"]["problem"]
    assert health["venues"]["okx"]["open"] == 10
    assert json.loads(bench.get("/live"))["live"] is True
    assert 1 <= simulator.call("GET", "/status")["rest"]["binance"]["refused"] <= 5
    assert process.stop() == 0
    assert bench.committed() <= 10, "only coinbase's may be in a partition of their own"

    simulator.call("DELETE", f"/faults/{fault['id']}")
    process = bench.start()
    wait_until(partial(bench.has_done, "okx", everything), what="the repairs of okx")
    wait_until(lambda: bench.committed() == 30, what="the commit of all requests")
    assert process.stop() == 0
    repaired = bench.repaired()
    for name, requested in spans.items():
        assert repaired.trades[name, SYMBOLS[name], id_spaces[name]].keys() == ids(requested), name
    assert repaired.lost == {}


def test_repair_that_is_killed_is_carried_on_by_another_process(
    clean: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """kill -9 in the middle of a long repair, with a second process in the group: it brings the rest.

    One that comes when all is done finds nothing to do.
    """
    simulator = Simulator(clean, tmp_path / "journal.jsonl")
    (market, ticks), *_ = asyncio.run(simulator.watch(["okx"], at_least=2500)).items()
    span = (ticks[0].first_id, ticks[-1].last_id)
    bench, other = Bench(clean, env, simulator), Bench(clean, env, simulator)
    asyncio.run(bench.ask(*requests_for(market, [span])))
    first = bench.start()
    wait_until(lambda: bench.repaired().records, what="the first page", every_s=0.05)
    second = other.start()
    first.signal(signal.SIGKILL)
    first.wait()
    before = bench.repaired()
    assert before.trades[market].keys() < ids([span])

    wait_until(lambda: other.done("okx").get("recovered") == 1, what="the repair")
    wait_until(lambda: other.committed() == 1, what="its commit")
    assert second.stop() == 0
    repaired = bench.repaired()
    assert repaired.trades[market].keys() == ids([span])
    assert repaired.lost == {}

    third = bench.start()
    wait_until(lambda: len(bench.health()["partitions"]) == 4, what="the third one's partitions")
    assert third.stop() == 0
    assert len(bench.repaired().records) == len(repaired.records)


def shared(one: list[int], other: list[int]) -> bool:
    """Whether each partition has one of two owners: the group takes its time to let the second one in."""
    return bool(one and other) and sorted(one + other) == [0, 1, 2, 3]


def test_repair_shares_its_work_with_a_process_that_joins(
    clean: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """Two of a group have each some partitions; what was in hand when the second joined is lost by neither."""
    simulator = Simulator(clean, tmp_path / "journal.jsonl")
    seen = asyncio.run(simulator.watch(["okx", "coinbase"], at_least=400))
    markets = {name: (market, ticks) for market, ticks in seen.items() for name in market[:1]}
    bench, other = Bench(clean, env, simulator), Bench(clean, env, simulator)
    for market, ticks in markets.values():
        asyncio.run(bench.ask(*requests_for(market, [(tick.first_id, tick.last_id) for tick in ticks[50:100]])))
    first = bench.start()
    wait_until(lambda: bench.repaired().records, what="the first page", every_s=0.05)
    second = other.start()
    wait_until(lambda: bench.committed() == 100, what="the commit of all requests")
    wait_until(lambda: shared(bench.partitions(), other.partitions()), what="partitions for both")
    assert (first.stop(), second.stop()) == (0, 0)
    repaired = bench.repaired()
    for market, ticks in markets.values():
        assert repaired.trades[market].keys() == ids((tick.first_id, tick.last_id) for tick in ticks[50:100])
    assert repaired.lost == {}


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("OKX_API_BASE_URL", "okx.com", "OKX_API_BASE_URL='okx.com': expected an address like https://"),
        ("BINANCE_API_BASE_URL", "https://testnet.binance.vision", "trades are repaired from where they are"),
        ("MDSTREAM_REPAIR_PATIENCE_S", "-1", "MDSTREAM_REPAIR_PATIENCE_S='-1'"),
        ("MDSTREAM_MARKETS", "equities", "MDSTREAM_MARKETS=equities: add it there"),
    ],
)
def test_repair_refuses_settings_that_cannot_work(env: dict[str, str], variable: str, value: str, words: str) -> None:
    """One line that says what to change, and exit status 2."""
    ended = run_mdstream("repair", "--port", free_port(), env={**env, variable: value})
    assert ended.returncode == 2
    assert words in ended.stderr
    assert len([line for line in ended.stderr.splitlines() if line.startswith("mdstream: ")]) == 1
