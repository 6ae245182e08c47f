"""The simulator's faults as clients meet them: over sockets, asked for on the command line and over HTTP."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from processes import Process, Processes, run_mdstream, wait_until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from mdstream.errors import MdstreamError
from mdstream.simulator.venues import EXCHANGES
from mdstream.stream.book import Book, UpdateResult
from mdstream.ticks import BookUpdate, TradeTick
from mdstream.venues.providers import provider

pytestmark = pytest.mark.system

SYMBOLS = {"binance": "BTCUSDT", "okx": "BTCUSDT", "coinbase": "BTCUSD"}


class Simulator:
    """A running simulator, its venues and its control endpoint."""

    def __init__(self, process: Process) -> None:
        self.process = process
        process.wait_for("export COINBASE_WS_URL=")
        lines = [line for line in process.output().splitlines() if line.startswith("export ")]
        self.urls = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        self.root = self.urls["COINBASE_API_BASE_URL"].removesuffix("/coinbase")

    def request(self, method: str, path: str, content: Any = None) -> tuple[int, Any]:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.root + path, data=body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def begin(self, venue: str, kind: str, **parameters: Any) -> str:
        """A fault that begins now; its id."""
        status, fault = self.request("POST", "/faults", {"venue": venue, "kind": kind} | parameters)
        assert status == 201, fault
        return str(fault["id"])

    def end(self, fault_id: str) -> dict[str, Any]:
        status, fault = self.request("DELETE", f"/faults/{fault_id}")
        assert (status, fault["state"]) == (200, "ended")
        return dict(fault)

    def made(self, venue: str) -> int:
        """Trades so far."""
        return int(self.request("GET", "/status")[1]["trades"][venue])

    def fills(self, venue: str, first_id: int, last_id: int) -> list[int]:
        """The ids of a range that the venue's REST endpoint has."""
        paths = {
            "binance": f"/binance/api/v3/historicalTrades?symbol=BTCUSDT&fromId={first_id}&limit=1000",
            "coinbase": f"/coinbase/products/BTC-USD/trades?after={last_id + 1}&limit=1000",
        }
        _, rows = self.request("GET", paths[venue])
        ids = sorted(row["id"] if venue == "binance" else row["trade_id"] for row in rows)
        return [i for i in ids if first_id <= i <= last_id]


Start = Callable[..., Simulator]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts simulators at free ports, with further options."""
    with Processes(tmp_path) as processes:
        yield lambda *args: Simulator(processes.mdstream("simulate", "--port", 0, "--rate", 2000, *args))


class Client:
    """A subscriber of one venue that keeps every frame it gets."""

    def __init__(self, venue: str, connection: ClientConnection) -> None:
        self.venue, self.connection = venue, connection
        self.frames: list[bytes] = []
        self.code: int | None = None
        self._came = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for frame in self.connection:
                self.frames.append(frame.encode() if isinstance(frame, str) else frame)
                self._came.set()
        except ConnectionClosed:
            pass
        self.code = self.connection.close_code

    @property
    def ids(self) -> list[int]:
        """Of the trades that can be understood."""
        return [int(t.trade_id) for t in ticks(self.venue, self.frames)[0]]

    async def more(self, count: int = 200) -> None:
        """Wait for further frames."""
        wanted = len(self.frames) + count
        await self.until(lambda: len(self.frames) >= wanted)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for frames that make a condition true."""
        async with asyncio.timeout(60):
            while not condition():
                self._came.clear()
                await self._came.wait()

    async def closed(self) -> int | None:
        """Wait for the end of the connection; its close code."""
        await asyncio.wait_for(self._reading, 60)
        return self.code


def ticks(venue: str, frames: list[bytes]) -> tuple[list[TradeTick], int]:
    """Trades in the order they came, the answers to subscriptions left out; and frames that cannot be understood."""
    of, trades, bad = provider(venue), list[TradeTick](), 0
    for frame in frames:
        try:
            trades += [tick for tick in of.decode(frame) if isinstance(tick, TradeTick) and not tick.resume]
        except (MdstreamError, ValueError):
            bad += 1
    return trades, bad


@asynccontextmanager
async def subscribed(simulator: Simulator, venue: str, *channels: str) -> AsyncIterator[Client]:
    """Trades of BTC at a venue; of Coinbase with heartbeats, and with further `channels`."""
    request = {
        "binance": {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1},
        "okx": {"op": "subscribe", "args": [{"channel": "trades", "instId": "BTC-USDT"}]},
        "coinbase": {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["matches", "heartbeat", *channels]},
    }[venue]
    url = simulator.urls[f"{venue.upper()}_WS_URL"]
    async with connect(url, compression=None, max_queue=None) as connection:
        client = Client(venue, connection)
        await connection.send(json.dumps(request))
        yield client


def contiguous(ids: list[int]) -> bool:
    return ids == list(range(ids[0], ids[0] + len(ids)))


async def test_stall_is_silence_on_a_living_connection(start: Start) -> None:
    """Neither trades nor heartbeats, but pongs and answers; the market goes on, other venues notice nothing."""
    simulator = start()
    async with subscribed(simulator, "coinbase") as client, subscribed(simulator, "binance") as other:
        await client.more()
        fault_id = simulator.begin("coinbase", "stall")
        await other.more(2000)
        await (await client.connection.ping())
        status = simulator.request("GET", "/status")[1]
        assert status["faults"] == [{"id": fault_id, "venue": "coinbase", "kind": "stall"}]
        fault = simulator.end(fault_id)
        await client.more()
        ids = client.ids
        (hole,) = [range(a + 1, b) for a, b in pairwise(ids) if b != a + 1]
        assert fault["counts"]["trades"] == len(hole) > 100
        assert fault["counts"]["frames"] > len(hole)
        assert fault["spans"][0][0] < fault["spans"][0][1]
        assert simulator.fills("coinbase", hole[0], hole[-1]) == list(hole)[-1000:]
        assert contiguous(other.ids)


async def test_book_starts_again_after_a_stall(start: Start) -> None:
    """What changed meanwhile was not sent, so the next change would not follow on: a snapshot comes first."""
    simulator, kept = start("--venues", "coinbase"), Book()
    async with subscribed(simulator, "coinbase", "level2_batch") as client:
        await client.more(1000)
        fault_id = simulator.begin("coinbase", "stall")
        await asyncio.sleep(0.5)
        simulator.end(fault_id)
        await client.more(1000)
        of = provider("coinbase")
        updates = [t for frame in client.frames for t in of.decode(frame) if isinstance(t, BookUpdate)]
        assert [update.whole for update in updates].count(True) == 2
        message = {kept.apply(update, at) for at, update in enumerate(updates)}
        assert message <= {UpdateResult.TOP, UpdateResult.LEVELS}
        picture = kept.picture("BTCUSD")
        assert (len(picture.bids), len(picture.asks)) == (20, 20)


async def test_stall_with_replay_sends_all_of_it_late(start: Start) -> None:
    """At the end of the stall, in order, without a hole."""
    simulator = start("--fault", "binance:stall:at=1s,for=1s,replay=true")
    async with subscribed(simulator, "binance") as client:
        await asyncio.to_thread(simulator.process.wait_for, "binance: stall (f1) ended")
        await client.more()
        assert contiguous(client.ids)
        assert simulator.request("GET", "/faults/f1")[1]["counts"]["trades"] > 100


async def test_disconnect_and_close_end_connections(start: Start) -> None:
    """Cut without a word, or closed with code and reason; only of that venue. With --linger the market goes on."""
    simulator = start("--linger", 30)
    async with subscribed(simulator, "binance") as cut, subscribed(simulator, "okx") as other:
        await cut.more()
        simulator.begin("binance", "disconnect")
        assert await cut.closed() == 1006
        made = simulator.made("binance")
        await asyncio.to_thread(
            wait_until, lambda: simulator.made("binance") > made + 200, what="200 trades for nobody"
        )
        async with subscribed(simulator, "binance") as again:
            await again.more()
            simulator.begin("binance", "close", code=4123, reason="Go away", symbols=["ETHUSDT"])
            await again.more()
            simulator.begin("binance", "close", code=4123, reason="Go away", symbols=["BTCUSDT"])
            assert await again.closed() == 4123
            assert again.connection.close_reason == "Go away"
            assert again.ids[0] > cut.ids[-1] + 200
            missed = range(cut.ids[-1], again.ids[0] + 1)
            assert simulator.fills("binance", missed[0], missed[-1]) == list(missed)[:1000]
        await other.more()
        assert other.code is None


async def test_refuse_keeps_clients_out(start: Start) -> None:
    """An HTTP status or no answer at all, for new websockets of that venue, and for REST where asked for."""
    simulator = start()
    url = simulator.urls["BINANCE_WS_URL"]
    async with subscribed(simulator, "binance") as inside:
        first = simulator.begin("binance", "refuse", status=429)
        with pytest.raises(InvalidStatus) as refused:
            await connect(url)
        assert refused.value.response.status_code == 429
        assert simulator.request("GET", "/binance/api/v3/aggTrades?symbol=BTCUSDT")[0] == 200
        assert simulator.end(first)["counts"] == {"handshakes": 1}
        second = simulator.begin("binance", "refuse", status=0, rest=True)
        with pytest.raises((InvalidMessage, ConnectionError, EOFError)):
            await connect(url)
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            simulator.request("GET", "/binance/api/v3/aggTrades?symbol=BTCUSDT")
        assert simulator.end(second)["counts"] == {"handshakes": 1, "requests": 1}
        await inside.more()
        async with subscribed(simulator, "binance"), subscribed(simulator, "okx"):
            pass


async def test_slow_handshake_answers_late(start: Start) -> None:
    """A client that does not wait so long gives up; one that does is served."""
    simulator = start("--fault", "okx:slow_handshake:ms=60000")
    url = simulator.urls["OKX_WS_URL"]
    with pytest.raises(TimeoutError):
        await connect(url, open_timeout=0.5)
    assert simulator.request("GET", "/faults/f1")[1]["counts"] == {"handshakes": 1}
    simulator.request("DELETE", "/faults/f1")
    simulator.begin("okx", "slow_handshake", ms=200)
    async with subscribed(simulator, "okx") as client:
        await client.more()
    assert simulator.request("GET", "/faults/f2")[1]["counts"] == {"handshakes": 1}


async def test_dropped_trades_are_in_rest_and_in_the_journal(start: Start) -> None:
    """Unless they are unrecoverable: then REST has them not, and the journal says so."""
    simulator = start("--journal", "journal.jsonl", "--fault", "binance:drop:share=0.2,run=5")
    simulator.begin("coinbase", "drop", run=50, unrecoverable=True)
    async with subscribed(simulator, "binance") as some, subscribed(simulator, "coinbase") as one:
        await some.more(300)
        await one.more(300)
        got, gone = some.ids, one.ids
        whole = range(got[0], got[-1] + 1)
        assert 0 < len(set(whole) - set(got)) < len(whole)
        assert simulator.fills("binance", whole[0], whole[-1]) == list(whole)[:1000]
        rest = simulator.fills("coinbase", 0, gone[-1])
        assert rest == [i for i in gone if i >= rest[0]]
    assert simulator.process.stop() == 0
    made = [json.loads(line) for line in (simulator.process.log.parent / "journal.jsonl").read_text().splitlines()]
    ids = {venue: [int(row["trade_id"]) for row in made if row["provider"] == venue] for venue in SYMBOLS}
    assert contiguous(ids["binance"])
    assert contiguous(ids["coinbase"])
    assert ids["coinbase"][50] == gone[0]
    lost = [int(row["trade_id"]) for row in made if row.get("unrecoverable")]
    assert lost == ids["coinbase"][:50]


async def test_disturbed_frames_leave_the_trades_as_they_were(start: Start) -> None:
    """Doubled, shuffled, late and corrupt frames together: every trade comes, and the journal has each of them once."""
    simulator = start(
        "--journal", "journal.jsonl", "--trades", 2000,
        "--fault", "okx:duplicate:share=0.2,late_ms=50", "--fault", "okx:reorder:window=10",
        "--fault", "okx:delay:ms=100", "--fault", "okx:malformed:share=0.2",
    )  # fmt: skip
    async with subscribed(simulator, "okx") as client:
        await asyncio.to_thread(simulator.process.wait_for, "finished: 2000 trades")
        for fault in simulator.request("DELETE", "/faults")[1]["faults"]:
            assert fault["counts"]["frames"] > 100
        await client.until(lambda: len(set(client.ids)) == 2000)
    got, bad = ticks("okx", client.frames)
    assert simulator.process.stop() == 0
    made = [json.loads(line) for line in (simulator.process.log.parent / "journal.jsonl").read_text().splitlines()]
    assert bad > 100
    assert len(made) == 2000
    assert {(t.trade_id, t.price, t.size) for t in got} == {(r["trade_id"], r["price"], r["size"]) for r in made}
    times = Counter(t.trade_id for t in got)
    assert set(times.values()) == {1, 2}
    assert list(times) != [row["trade_id"] for row in made]


async def test_sequence_reset_begins_ids_again(start: Start) -> None:
    """On the websocket, in REST and in the journal."""
    simulator = start("--journal", "journal.jsonl")
    async with subscribed(simulator, "binance") as client:
        await client.more()
        fault_id = simulator.begin("binance", "sequence_reset", first_id=5)
        await client.more()
        ids = client.ids
        assert 5 in ids
        old, new = ids[: ids.index(5)], ids[ids.index(5) :]
        assert contiguous(old)
        assert contiguous(new)
        assert simulator.fills("binance", 0, new[-1])[: len(new)] == new[:1000]
        assert simulator.request("GET", f"/faults/{fault_id}")[1]["counts"] == {"instruments": 1}
    assert simulator.process.stop() == 0
    made = [json.loads(line) for line in (simulator.process.log.parent / "journal.jsonl").read_text().splitlines()]
    assert [int(row["trade_id"]) for row in made][: len(ids)] == ids


async def test_clock_skew_moves_the_venues_times(start: Start) -> None:
    """By what was asked for and for no other venue; instruments that are opened later included."""
    simulator = start()
    simulator.begin("coinbase", "clock_skew", ms=-3_600_000)
    async with subscribed(simulator, "coinbase") as wrong, subscribed(simulator, "binance") as right:
        await wrong.more()
        await right.more()
        behind = [t.ts_exchange or 0 for t in ticks("coinbase", wrong.frames)[0]]
        true = [t.ts_exchange or 0 for t in ticks("binance", right.frames)[0]]
    assert true[0] - behind[0] == pytest.approx(3_600e9, abs=60e9)
    times = [json.loads(frame)["time"] for frame in wrong.frames if b'"heartbeat"' in frame and b'"time"' in frame]
    assert all(behind[0] - 60e9 < nanoseconds(time) < behind[-1] + 60e9 for time in times)


def nanoseconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1e9


async def test_control_says_what_is_wrong(start: Start) -> None:
    """400 for what cannot be, 404 for what is not there, 405 for what cannot be done to it; nothing is begun."""
    simulator = start("--venues", "coinbase")
    for content, sentence in (
        ({"venue": "coinbase", "kind": "foo"}, "there is no fault of the kind 'foo'"),
        ({"venue": "okx", "kind": "stall"}, "venue: 'okx' is not served here; these are: coinbase"),
        ({"venue": "coinbase", "kind": "delay", "ms": -1}, "ms: Expected `float` >= 1.0"),
    ):
        status, answer = simulator.request("POST", "/faults", content)
        assert (status, answer["error"][: len(sentence)]) == (400, sentence)
    assert simulator.request("DELETE", "/faults/f9")[0] == 404
    assert simulator.request("POST", "/faults/f9")[0] == 404
    assert simulator.request("PUT", "/faults")[0] == 405
    assert simulator.request("GET", "/faults") == (200, {"faults": []})


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("binance:stall:for=x", "for: expected a time such as 500ms, 30s or 2m, not 'x'"),
        ("bitstamp:stall", f"venue: 'bitstamp' is not served here; these are: {', '.join(EXCHANGES)}"),
    ],
)
def test_bad_fault_is_one_clear_line(fault: str, message: str) -> None:
    """At the end of stderr, with exit status 2; nothing is served."""
    done = run_mdstream("simulate", "--port", 0, "--fault", fault)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]


async def test_shutdown_is_announced_before_the_connections_close(start: Start) -> None:
    """Only those that were told; one that is made meanwhile stays. A venue without a notice refuses the fault."""
    simulator = start()
    async with subscribed(simulator, "okx") as told:
        await told.more()
        fault_id = simulator.begin("okx", "shutdown")
        async with subscribed(simulator, "okx") as later:
            await told.more()
            assert sum(b'"code":"64008"' in frame for frame in told.frames) == 1
            assert simulator.end(fault_id)["counts"] == {"connections": 1}
            assert await told.closed() == 1012
            await later.more()
            assert later.code is None
    refused = simulator.request("POST", "/faults", {"venue": "kraken", "kind": "shutdown"})
    assert refused == (400, {"error": "kind: kraken announces no shutdown; use close"})
