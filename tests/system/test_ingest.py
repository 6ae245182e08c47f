"""`mdstream ingest` as users run it: a real process, a websocket server that speaks as Binance does, a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from itertools import pairwise
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from processes import Process, Processes, free_port, run_mdstream, until
from servers import Broker, chosen_broker, on_apache_kafka, read_topic
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from mdstream.kafka.publisher import Partitioner
from mdstream.venues.providers import FEEDS, PROVIDERS

pytestmark = pytest.mark.system

PARTITIONS = 4
WEBSOCKETS = {name: PROVIDERS[name] for name in FEEDS if not (PROVIDERS[name].library or PROVIDERS[name].framer)}
OTHERS = sorted(WEBSOCKETS.keys() - {"binance"})
OPEN = sorted(name for name, each in WEBSOCKETS.items() if not each.credentials)
Records = list[ConsumerRecord[bytes, bytes]]


class Venue:
    """A websocket server that keeps what clients ask for, acknowledges it, and sends what a test says."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.requested: list[tuple[str, str]] = []
        """(path, frame) of everything clients sent."""
        self.refuse: bytes | None = None
        """Answer to every subscription, in the place of the acknowledgement."""
        self.closed_path = ""
        """Handshakes at this path are answered with HTTP 401."""
        self.denied = 0
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Venue]:
        serving = serve(
            self._serve, "127.0.0.1", 0, compression=None, close_timeout=1, process_request=self._check_access
        )
        async with serving as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    def url(self, path: str = "/stream") -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def _check_access(self, socket: ServerConnection, request: Request) -> Response | None:
        if request.path != self.closed_path:
            return None
        self.denied += 1
        return socket.respond(HTTPStatus.UNAUTHORIZED, "no\n")

    async def _serve(self, socket: ServerConnection) -> None:
        self.connections.append(socket)
        path = socket.request.path if socket.request else ""
        try:
            async for frame in socket:
                self.requested.append((path, str(frame)))
                if path == "/stream":
                    answer = self.refuse or json.dumps({"result": None, "id": json.loads(frame)["id"]}).encode()
                    await socket.send(answer, text=True)
        except ConnectionClosed:
            pass  # the client left without a goodbye; it is taken off the list below
        finally:
            self.connections.remove(socket)

    @property
    def streams(self) -> list[str]:
        """The streams asked for, over all connections there have been, in order."""
        return [stream for path, frame in self.requested if path == "/stream" for stream in json.loads(frame)["params"]]

    async def send(self, *frames: bytes) -> None:
        """To the first client, each as a text frame."""
        for frame in frames:
            await self.connections[0].send(frame, text=True)


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    async with Venue().running() as running:
        yield running


def trade(number: int, symbol: str = "BTCUSDT") -> bytes:
    data = {"e": "trade", "s": symbol, "t": number, "p": "1.5", "q": "2", "T": 1767625200000 + number, "m": True}
    return json.dumps({"stream": f"{symbol.lower()}@trade", "data": data}, separators=(",", ":")).encode()


class Ingestor:
    """A running `mdstream ingest`, and what it has written."""

    def __init__(self, processes: Processes, venue: Venue, env: Mapping[str, str]) -> None:
        self._processes, self._venue, self._env = processes, venue, env
        self.port = free_port()
        self.process: Process

    async def start(
        self, *options: object, provider: str = "binance", symbols: str | None = "BTCUSDT,ETHUSDT"
    ) -> Ingestor:
        """Start it and wait until it has subscribed."""
        env = {"BINANCE_WS_URL": self._venue.url()} | {
            f"{name.upper()}_WS_URL": self._venue.url(f"/{name}") for name in OTHERS
        }
        given = () if symbols is None else ("--symbols", symbols)
        args = ("--provider", provider, *given, "--port", self.port, *options)
        self.process = self._processes.mdstream("ingest", *args, env={**self._env, **env})
        await until(lambda: " connected" in self.process.output() or not self.process.running, "a connection")
        return self

    async def stop(self, limit_s: float = 15.0) -> int:
        """SIGTERM; its exit status. The venue is served meanwhile, so it can answer the goodbye."""
        return await asyncio.to_thread(self.process.stop, limit_s)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of an HTTP request; (0, "") while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def stats(self) -> Any:
        return json.loads(self.get("/bus-stats")[1])

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def has_read(self, frames: int) -> bool:
        """Whether this process has read so many trades and quotes."""
        name = 'mdstream_ingest_frames_total{kind="%s",provider="binance"}'
        return self.metric(name % "trade") + self.metric(name % "quote") == frames

    def has_spooled(self) -> bool:
        """Whether nothing waits for the spool, and it can be written."""
        stats = self.stats()
        return stats["diverted"] and not stats["overflow"]["records"] and stats["spool"]["error"] is None

    async def records(self) -> Records:
        return await read_topic(
            self._env["KAFKA_BOOTSTRAP_SERVERS"], f"{self._env['MDSTREAM_TOPIC_PREFIX']}.raw.crypto"
        )


@pytest.fixture
def ingestor(processes: Processes, venue: Venue, env: dict[str, str]) -> Ingestor:
    return Ingestor(processes, venue, env)


def of_kind(records: Records, *kinds: bytes) -> Records:
    return [record for record in records if dict(record.headers)["k"] in kinds]


def decoded(records: Records) -> list[Any]:
    return [json.loads(record.value) for record in records]


def states(records: Records, partition: int) -> list[str]:
    """What the status records of a partition say, in order."""
    return [
        message["state"] for message in decoded([r for r in of_kind(records, b"status") if r.partition == partition])
    ]


async def test_frames_arrive_untouched_and_in_order(ingestor: Ingestor, venue: Venue) -> None:
    """Byte for byte, whatever they are: keyed by symbol, on the key's partition, with the headers p, t, k, via, c."""
    started_ns = time.time_ns()
    await ingestor.start()
    frames = [trade(n, symbol) for n in range(500) for symbol in ("BTCUSDT", "ETHUSDT")]
    odd = [b"{}", b"not json \xe2\x82\xac", b'{"stream":"btcusdt@kline_1m","data":{"k":1}}', b" "]
    quote = b'{"stream":"ethusdt@bookTicker","data":{"u":1,"s":"ETHUSDT","b":"1","B":"1","a":"2","A":"1"}}'
    book = b'{"stream":"ethusdt@depth20@100ms","data":{"lastUpdateId":1,"bids":[],"asks":[]}}'
    other = 'mdstream_ingest_frames_total{kind="other",provider="binance"}'
    await until(lambda: ingestor.metric(other) == 1, "the answer to the subscription")
    await venue.send(*frames, *odd, quote, book)
    await until(
        lambda: ingestor.metric('mdstream_ingest_frames_total{kind="book",provider="binance"}') == 1, "the last frame"
    )
    assert await ingestor.stop() == 0
    records = of_kind(await ingestor.records(), b"trade", b"quote", b"book", b"other")
    partition_of = Partitioner(PARTITIONS)
    for key, kind, sent in (
        (b"BTCUSDT", b"trade", frames[0::2]),
        (b"ETHUSDT", b"trade", frames[1::2]),
        (b"ETHUSDT", b"quote", [quote]),
        (b"ETHUSDT", b"book", [book]),
        (b"BTCUSDT", b"other", [odd[2]]),
        (b"binance", b"other", [b'{"result": null, "id": 1}', odd[0], odd[1], odd[3]]),
    ):
        got = [r for r in of_kind(records, kind) if r.key == key]
        assert [r.value for r in got] == sent, (key, kind)
        assert {r.partition for r in got} == {partition_of(key)}
    for record in records:
        (p, t, k, via, c) = record.headers
        assert (p, k[0], via) == (("p", b"binance"), "k", ("via", b"ws"))
        assert (t[0], c[0]) == ("t", "c")
        assert started_ns < int.from_bytes(c[1], "big") < int.from_bytes(t[1], "big") < time.time_ns()


async def test_a_lost_connection_is_made_again_with_all_subscriptions(ingestor: Ingestor, venue: Venue) -> None:
    """The venue closes; the ingestor reconnects, subscribes to the same, and reports it on every partition."""
    await ingestor.start()
    first = list(venue.streams)
    assert sorted(first) == sorted(
        f"{symbol}@{channel}"
        for symbol in ("btcusdt", "ethusdt")
        for channel in ("trade", "bookTicker", "depth20@100ms")
    )
    await venue.send(trade(1))
    await venue.connections[0].close(1001, "going away")
    await until(lambda: ingestor.process.output().count("binance connected") == 2, "the second connection")
    assert venue.streams == first * 2
    await venue.send(trade(2))
    await until(
        lambda: ingestor.metric('mdstream_ingest_frames_total{kind="trade",provider="binance"}') == 2, "its frame"
    )
    assert ingestor.metric('mdstream_ingest_disconnections_total{provider="binance"}') == 1
    assert await ingestor.stop() == 0
    records = await ingestor.records()
    assert [r.value for r in of_kind(records, b"trade")] == [trade(1), trade(2)]
    for partition in range(PARTITIONS):
        assert states(records, partition) == ["connected", "disconnected", "connected", "disconnected"]
    reasons = [
        message["reason"] for message in decoded(of_kind(records, b"status")) if message["state"] == "disconnected"
    ]
    assert "1001 (going away) going away" in reasons[0]
    assert reasons[1] == "the ingestor stops"


async def test_heartbeats_reach_every_partition_each_second(ingestor: Ingestor) -> None:
    """Keyed by the provider, with what is connected and how many symbols; their times a second apart."""
    await ingestor.start()
    await until(lambda: ingestor.stats()["sent"]["records"] >= 6 * PARTITIONS, "some heartbeats")
    assert await ingestor.stop() == 0
    records = of_kind(await ingestor.records(), b"heartbeat")
    for partition in range(PARTITIONS):
        heartbeats = [r for r in records if r.partition == partition]
        messages = decoded(heartbeats)
        assert {r.key for r in heartbeats} == {b"binance"}
        assert {(m["type"], m["provider"], m["symbols"]) for m in messages} == {("heartbeat", "binance", 2)}
        assert messages[-1]["connected"] is True
        times = [message["ts"] for message in messages]
        assert [int.from_bytes(dict(r.headers)["t"], "big") for r in heartbeats] == times
        # How late a beat may come depends on the machine; that none is made up for in a burst does not.
        assert all(later - earlier > 500_000_000 for earlier, later in pairwise(times))


async def test_sigterm_writes_what_has_arrived_then_reports_disconnected(ingestor: Ingestor, venue: Venue) -> None:
    """Exit status 0, every frame that the venue had sent, and `disconnected` as the last word in every partition."""
    await ingestor.start()
    frames = [trade(n) for n in range(3_000)]
    await venue.send(*frames)
    ingestor.process.signal(signal.SIGTERM)
    await until(lambda: not ingestor.process.running, "the end of the process")
    assert ingestor.process.wait() == 0
    records = await ingestor.records()
    got = [r.value for r in of_kind(records, b"trade")]
    assert got == frames
    for partition in range(PARTITIONS):
        last = [r for r in records if r.partition == partition and dict(r.headers)["k"] != b"heartbeat"][-1]
        assert json.loads(last.value)["state"] == "disconnected"


async def test_a_rejected_subscription_is_logged_and_counted(ingestor: Ingestor, venue: Venue) -> None:
    """The venue's error is seen at once, and is on the raw topic like every frame."""
    venue.refuse = b'{"code":2,"msg":"Invalid request: unknown stream","id":1}'
    await ingestor.start()
    await until(lambda: ingestor.metric('mdstream_ingest_venue_errors_total{provider="binance"}') == 1, "the count")
    assert "binance answered with an error: code 2: Invalid request: unknown stream" in ingestor.process.output()
    rejected = json.loads(ingestor.get("/health")[1])["feeds"]["binance"]["rejected"]
    assert rejected == sorted(venue.streams), "the venue rejects a request as a whole"
    assert ingestor.metric('mdstream_ingest_rejected_subscriptions_total{provider="binance"}') == len(rejected)
    assert await ingestor.stop() == 0
    assert venue.refuse in [r.value for r in of_kind(await ingestor.records(), b"other")]


async def test_a_frame_above_the_limit_ends_its_connection_only(ingestor: Ingestor, venue: Venue) -> None:
    """A frame that fits is carried, of any size; one that does not is counted, and the feed goes on."""
    await ingestor.start()
    large = b'{"stream":"btcusdt@trade","data":"' + b"x" * (10 << 20) + b'"}'
    await venue.send(large)
    with suppress(ConnectionClosed):  # where the client hung up in the middle of it
        await venue.send(b"x" * (15 << 20))
    await until(lambda: ingestor.process.output().count("binance connected") == 2, "the second connection")
    await venue.send(trade(1))
    await until(
        lambda: ingestor.metric('mdstream_ingest_frames_total{kind="trade",provider="binance"}') == 2, "the next frame"
    )
    assert ingestor.metric('mdstream_ingest_oversized_total{provider="binance"}') == 1
    assert "message too big" in ingestor.process.output()
    assert await ingestor.stop() == 0
    got = [r.value for r in of_kind(await ingestor.records(), b"trade")]
    assert [len(value) for value in got] == [len(large), len(trade(1))]


async def test_more_symbols_than_a_connection_takes_are_spread(ingestor: Ingestor, venue: Venue) -> None:
    """Two connections, each symbol on one of them, and one feed: connected when both are."""
    symbols = [f"C{n}USDT" for n in range(400)]
    await ingestor.start(symbols=",".join(symbols))
    assert len(venue.connections) == 2
    assert len(venue.streams) == len(set(venue.streams)) == 3 * 400
    assert json.loads(ingestor.get("/health")[1])["feeds"]["binance"]["symbols"] == 400
    await venue.connections[1].close()
    await until(lambda: ingestor.process.output().count("binance connected") == 2, "both again")
    assert await ingestor.stop() == 0
    assert states(await ingestor.records(), 0) == ["connected", "disconnected", "connected", "disconnected"]


async def test_all_providers_run_in_one_process(ingestor: Ingestor, venue: Venue) -> None:
    """Each in its own words at its own address, with heartbeats and status of its own; dry where there is no key."""
    await ingestor.start(provider="all", symbols=None)
    await until(lambda: all(f"{name} connected" in ingestor.process.output() for name in OPEN), "all of them")
    assert {path for path, _ in venue.requested} == {"/stream", *(f"/{name}" for name in OPEN if name != "binance")}
    assert "massive disconnected: runs dry: set MASSIVE_API_KEY" in ingestor.process.output()
    await until(lambda: ingestor.get("/ready")[0] == 200, "readiness")
    assert await ingestor.stop() == 0
    records = await ingestor.records()
    for partition in range(PARTITIONS):
        statuses = decoded([r for r in of_kind(records, b"status") if r.partition == partition])
        for name in OPEN:
            assert [m["state"] for m in statuses if m["provider"] == name] == ["connected", "disconnected"]
        assert [m["reason"] for m in statuses if m["provider"] == "alpaca_crypto"] == [
            "runs dry: set ALPACA_KEY and ALPACA_SECRET",
            "the ingestor stops",
        ]


async def test_a_feed_that_the_venue_refuses_is_given_up_and_the_others_go_on(ingestor: Ingestor, venue: Venue) -> None:
    """One attempt, one line that says what to set, the last status `gave_up`; the other venues' frames arrive."""
    venue.closed_path = "/okx"
    await ingestor.start(provider="all", symbols="BTCUSDT")
    await until(lambda: "okx refuses us" in ingestor.process.output(), "the end of the feed")
    await until(lambda: "binance connected" in ingestor.process.output(), "another feed")
    assert re.search(
        r"okx refuses us: ws://127\.0\.0\.1:\d+/okx answers HTTP 401: set OKX_WS_URL to an address with access",
        ingestor.process.output(),
    )
    missing = sorted(f"{channel} BTC-USDT" for channel in ("matches", "ticker", "heartbeat", "level2_batch"))
    await until(
        lambda: json.loads(ingestor.get("/health")[1])["feeds"]["coinbase"]["missing"] == missing,
        "the subscriptions that this venue never acknowledges",
    )
    assert ingestor.metric('mdstream_ingest_missing_subscriptions_total{provider="coinbase"}') == 4
    (client,) = [c for c in venue.connections if c.request and c.request.path == "/stream"]
    await client.send(trade(1), text=True)
    await until(
        lambda: ingestor.metric('mdstream_ingest_frames_total{kind="trade",provider="binance"}') == 1, "a frame"
    )
    assert venue.denied == 1
    assert ingestor.get("/live")[0] == 200
    assert await ingestor.stop() == 0
    records = await ingestor.records()
    for partition in range(PARTITIONS):
        statuses = decoded([r for r in of_kind(records, b"status") if r.partition == partition])
        assert [m["state"] for m in statuses if m["provider"] == "okx"] == ["disconnected", "gave_up"]
    assert [r.value for r in of_kind(records, b"trade")] == [trade(1)]


async def test_an_ingestor_that_every_venue_refuses_ends_as_with_a_wrong_setting(
    venue: Venue, env: dict[str, str]
) -> None:
    """Status 2: a supervisor does not start it again, to be refused again."""
    venue.closed_path = "/stream"
    env["BINANCE_WS_URL"] = venue.url()
    args = ("--provider", "binance", "--symbols", "BTCUSDT", "--port", free_port())
    done = await asyncio.to_thread(run_mdstream, "ingest", *args, env=env)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mdstream: ")]
    assert line.startswith(f"mdstream: binance refuses us: {venue.url()} answers HTTP 401: set BINANCE_WS_URL")
    assert venue.denied == 1


async def test_http_reports_the_state(ingestor: Ingestor, venue: Venue) -> None:
    """Ready while everything flows, not while the feed is down, and live all along."""
    await ingestor.start()
    await venue.send(trade(1))
    await until(
        lambda: ingestor.metric('mdstream_ingest_frames_total{kind="trade",provider="binance"}') == 1, "a frame"
    )
    assert ingestor.get("/ready") == (200, '{"ready":true,"problems":[],"stale":{"binance":{}}}')
    assert ingestor.get("/live") == (200, '{"live":true,"problems":[]}')
    status, body = ingestor.get("/health")
    assert (status, json.loads(body)["status"]) == (200, "ok")
    assert json.loads(body)["feeds"]["binance"]["frames"]["trade"] == 1
    stats = ingestor.stats()
    assert list(stats["topics"].values()) == [PARTITIONS]
    assert stats["sent"]["errors"] == stats["times_diverted"] == 0
    await venue.connections[0].close()
    await until(lambda: ingestor.get("/ready")[0] == 503, "the feed to be missed")
    assert ingestor.get("/live")[0] == 200
    await until(lambda: ingestor.get("/ready")[0] == 200, "readiness again")


# -------------------------------------------------------------------------------------------------- when Kafka is away


@contextmanager
def outage(broker: Broker) -> Iterator[None]:
    """The broker does not answer. Apache Kafka is stopped and started; the embedded one, all memory, is held still."""
    if on_apache_kafka():
        broker.stop()
        yield
        broker.start()
        return
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


@pytest.fixture
def own_broker(env: dict[str, str]) -> Iterator[Broker]:
    """A broker that nobody else uses, for a test that stops it."""
    with chosen_broker() as own:
        env["KAFKA_BOOTSTRAP_SERVERS"] = own.bootstrap
        yield own


def quote(number: int) -> bytes:
    data = {"u": number, "s": "BTCUSDT", "b": "1.5", "B": "2", "a": "1.6", "A": "2"}
    return json.dumps({"stream": "btcusdt@bookTicker", "data": data}, separators=(",", ":")).encode()


def first_of_each(records: Records, kind: bytes) -> list[bytes]:
    """The frames of a kind, each once: what was under way when Kafka went away may come twice."""
    return list(dict.fromkeys(record.value or b"" for record in of_kind(records, kind)))


async def test_frames_of_an_outage_survive_a_full_disk_and_a_kill(
    own_broker: Broker, ingestor: Ingestor, venue: Venue
) -> None:
    """Kafka is away, the disk is full for a while, the ingestor is killed and started again, still without Kafka.

    Afterwards every trade is there, in order. Quotes were dropped only while there was no room, and each is counted.
    """
    await ingestor.start(symbols="BTCUSDT")
    trades, quotes = [trade(n) for n in range(80_000)], [quote(n) for n in range(60_000)]
    await venue.send(*trades[:1_000])
    with outage(own_broker):
        await venue.send(*trades[1_000:20_000], *quotes[:1_000])
        await until(lambda: ingestor.stats()["spool"]["written"] >= 19_000, "the spool to be written")
        pid = ingestor.process.popen.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        await venue.send(*trades[20_000:70_000])
        await until(lambda: "cannot write the spool" in ingestor.get("/ready")[1], "the full disk to be told")
        await venue.send(*quotes[1_000:])
        await until(lambda: ingestor.stats()["dropped"]["quote"] > 0, "quotes to be dropped")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await until(lambda: ingestor.has_read(130_000) and ingestor.has_spooled(), "the spool to have it all")
        dropped = ingestor.stats()["dropped"]
        assert dropped["trade"] == 0
        ingestor.process.kill()
        await ingestor.start(symbols="BTCUSDT")
        await venue.send(*trades[70_000:])
        await until(lambda: ingestor.has_read(10_000) and ingestor.has_spooled(), "the rest")
        assert "they are sent first" in ingestor.process.output()
        assert (ingestor.get("/ready")[0], ingestor.get("/live")[0]) == (503, 200)
    await until(lambda: ingestor.stats()["spool"]["bytes"] == 0, "the spool to be empty")
    await until(lambda: ingestor.get("/ready")[0] == 200, "readiness")
    assert await ingestor.stop() == 0
    records = await ingestor.records()
    assert first_of_each(records, b"trade") == trades
    numbers = [json.loads(frame)["data"]["u"] for frame in first_of_each(records, b"quote")]
    assert len(numbers) + dropped["quote"] == len(quotes)
    assert numbers == sorted(numbers)


async def test_ingestor_stopped_without_kafka_leaves_its_frames_to_the_next(
    own_broker: Broker, ingestor: Ingestor, venue: Venue
) -> None:
    """Status 0 within ten seconds; the next start sends them."""
    await ingestor.start(symbols="BTCUSDT")
    frames = [trade(n) for n in range(1_000)]
    with outage(own_broker):
        await venue.send(*frames)
        await until(lambda: ingestor.has_read(len(frames)), "the frames to be read")
        assert await ingestor.stop(limit_s=10) == 0
        assert "the spool has them, the next start sends them" in ingestor.process.output()
    await ingestor.start(symbols="BTCUSDT")
    await until(lambda: ingestor.stats()["spool"]["bytes"] == 0, "the spool to be empty")
    assert await ingestor.stop() == 0
    assert first_of_each(await ingestor.records(), b"trade") == frames


async def test_without_a_spool_memory_is_what_there_is(
    own_broker: Broker, ingestor: Ingestor, venue: Venue, env: dict[str, str]
) -> None:
    """MDSTREAM_SPOOL_MB=0: an end in an outage says what is lost, with status 1."""
    env["MDSTREAM_SPOOL_MB"] = "0"
    await ingestor.start(symbols="BTCUSDT")
    with outage(own_broker):
        await venue.send(*[trade(n) for n in range(1_000)])
        await until(lambda: ingestor.has_read(1_000), "the frames to be read")
        assert await ingestor.stop(limit_s=15) == 1
    assert "the spool is switched off (MDSTREAM_SPOOL_MB=0): they are lost" in ingestor.process.output()


# ----------------------------------------------------------------------------------------------- what cannot be helped


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (
            ("--provider", "nyse", "--symbols", "IBM"),
            2,
            f"no provider 'nyse': there are {', '.join(sorted(PROVIDERS))}",
        ),
        (
            ("--provider", "binance", "--symbols", "BTC USDT"),
            2,
            "binance has no symbol of the form 'BTC USDT': expected",
        ),
        (("--provider", "all", "--symbols", "BTC USDT"), 2, "has no symbol of the form 'BTC USDT'"),
        (("--provider", "binance", "--symbols", ","), 2, "no symbols in ',': name some"),
        (
            ("--provider", "okx", "--symbols", "BTCUSDT", "--kafka", "127.0.0.1:1"),
            1,
            "no Kafka broker answers at 127.0.0.1:1",
        ),
    ],
)
def test_bad_arguments_end_in_one_clear_line(args: tuple[str, ...], code: int, message: str) -> None:
    """What was wrong and what to do; status 2 for arguments, 1 for anything else."""
    done = run_mdstream("ingest", *args, env={"HTTP_PORT": str(free_port())})
    assert done.returncode == code, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mdstream: ")]
    assert message in line
    assert "Traceback" not in done.stderr


def test_an_address_that_is_no_websocket_ends_in_one_clear_line(env: dict[str, str]) -> None:
    """The error names the variable it came from."""
    done = run_mdstream(
        "ingest", "--provider", "binance", "--symbols", "BTCUSDT", env={**env, "BINANCE_WS_URL": "http://127.0.0.1:1"}
    )
    assert done.returncode == 2
    assert "BINANCE_WS_URL='http://127.0.0.1:1': expected an address that begins with ws:// or wss://" in done.stderr


def test_a_port_in_use_ends_in_one_clear_line(env: dict[str, str]) -> None:
    """Before a single frame is read."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_mdstream("ingest", "--provider", "binance", "--symbols", "BTCUSDT", "--port", port, env=env)
    assert done.returncode == 2
    assert f"port {port} of 127.0.0.1 is in use: choose another with --port or HTTP_PORT" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_feed_is_given_up_after_the_attempts_allowed(
    ingestor: Ingestor, env: dict[str, str], prefix: str
) -> None:
    """Every partition gets a status record, and the process ends with an error that says why."""
    env["BINANCE_WS_URL"] = f"ws://127.0.0.1:{free_port()}"
    args = ("--provider", "binance", "--symbols", "BTCUSDT", "--max-attempts", 2, "--port", free_port())
    done = await asyncio.to_thread(run_mdstream, "ingest", *args, env=env)
    assert done.returncode == 1
    assert "mdstream: binance gave no data in 2 connections in a row, the last one: ws://127.0.0.1:" in done.stderr
    records = await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.raw.crypto")
    for partition in range(PARTITIONS):
        assert states(records, partition) == ["disconnected", "gave_up"]
