"""`mdstream simulate` as a process: its sockets, its journal, its end."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from processes import Process, Processes, run_mdstream, wait_until
from venue_symbols import SETTINGS, ticks_of
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from mdstream.simulator.venues import EXCHANGES
from mdstream.ticks import Control, TradeTick
from mdstream.venues.providers import provider

pytestmark = pytest.mark.system

VENUES = {  # those with a websocket
    "alpaca": ("ALPACA_WS_URL", "/alpaca/v2/iex", "AAPL"),
    "alpaca_crypto": ("ALPACA_CRYPTO_WS_URL", "/alpaca_crypto/v1beta3/crypto/us", "BTCUSD"),
    "binance": ("BINANCE_WS_URL", "/binance/stream", "BTCUSDT"),
    "binance_coinm": ("BINANCE_COINM_WS_URL", "/binance_coinm/stream", "BTCUSD-PERP"),
    "binance_usdm": ("BINANCE_USDM_WS_URL", "/binance_usdm/public/stream", "BTCUSDT-PERP"),
    "bybit": ("BYBIT_WS_URL", "/bybit/v5/public/spot", "BTCUSDT"),
    "bybit_linear": ("BYBIT_LINEAR_WS_URL", "/bybit_linear/v5/public/linear", "BTCUSDT-PERP"),
    "kraken": ("KRAKEN_WS_URL", "/kraken/v2", "BTCUSD"),
    "massive": ("MASSIVE_WS_URL", "/massive/stocks", "AAPL"),
    "okx": ("OKX_WS_URL", "/okx/ws/v5/public", "BTCUSDT"),
    "coinapi": ("COINAPI_WS_URL", "/coinapi/v1", "BTC_USDT.BINANCE"),
    "coinbase": ("COINBASE_WS_URL", "/coinbase", "BTCUSD"),
    "coinbase_advanced": ("COINBASE_ADVANCED_WS_URL", "/coinbase_advanced", "BTCUSD"),
}
TRADES = json.dumps({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1})

Row = tuple[str, str, str, float, float, str, int]


class Simulator:
    """A running simulator: where its venues are, and its control endpoint."""

    def __init__(self, process: Process) -> None:
        self.process = process
        process.wait_for("export COINBASE_WS_URL=")
        lines = [line.removeprefix("export ") for line in process.output().splitlines() if line.startswith("export ")]
        self.urls = dict(line.split("=", 1) for line in lines)
        self.port = int(self.urls["BINANCE_WS_URL"].split(":")[2].split("/")[0])

    def url(self, venue: str) -> str:
        return self.urls[VENUES[venue][0]]

    def control(self, method: str, path: str) -> dict[str, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            content: dict[str, Any] = json.load(answer)
        return content

    def status(self) -> dict[str, Any]:
        return self.control("GET", "/status")


Start = Callable[..., Simulator]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts simulators at free ports, with further options."""
    with Processes(tmp_path) as processes:
        yield lambda *args: Simulator(processes.mdstream("simulate", "--port", 0, *args))


async def open_at(url: str) -> ClientConnection:
    """A client that takes whatever comes: no limit to its queue, so that it is never the slow one."""
    return await connect(url, compression=None, max_queue=None)


async def receive_all(client: ClientConnection) -> tuple[list[bytes], int]:
    """Every frame until the server closes, and its close code."""
    frames = []
    try:
        while True:
            frames.append(await client.recv(decode=False))
    except ConnectionClosed as closed:
        return frames, closed.rcvd.code if closed.rcvd else 1006


def requests(venue: str) -> list[str | bytes]:
    """What our provider sends, login and subscriptions."""
    of = provider(venue)
    login = of.login(SETTINGS)
    return [request.frame for request in ([login] if login else []) + of.subscribe([VENUES[venue][2]])]


def trades(venue: str, frames: list[bytes]) -> list[Row]:
    """The trades in frames, as the provider understands them, in the form of the journal.

    The answer to a subscription is left out: it only shows where the ids continue. So are corrections.
    """
    ticks = [tick for frame in frames for tick in ticks_of(provider(venue), frame)]
    return [
        (venue, t.symbol, t.trade_id, t.price, t.size, t.side or "", t.ts_exchange or 0)
        for t in ticks
        if isinstance(t, TradeTick) and not t.resume and t.correction is None
    ]


def journalled(path: Path) -> list[Row]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        (r["provider"], r["symbol"], r["trade_id"], r["price"], r["size"], r["side"] or "", r["ts_exchange"])
        for r in rows
    ]


def test_simulator_says_where_its_venues_are(start: Start) -> None:
    """In the shell's language, naming the port that is really bound; without a REST interface there is one address."""
    simulator = start()
    assert simulator.port > 0
    assert simulator.urls["ALPACA_API_BASE_URL"] == f"http://127.0.0.1:{simulator.port}/alpaca"
    assert not {"COINAPI_API_BASE_URL", "DTC_API_BASE_URL"} & simulator.urls.keys()
    for variable, path, _ in VENUES.values():
        assert simulator.urls[variable] == f"ws://127.0.0.1:{simulator.port}{path}"
    assert simulator.urls["DTC_WS_URL"].startswith("dtc://127.0.0.1:")
    assert simulator.urls["IB_WS_URL"].startswith("ib://127.0.0.1:")
    assert simulator.urls["IQFEED_WS_URL"].startswith("tcp://127.0.0.1:")


@pytest.mark.parametrize("venue", VENUES)
async def test_provider_subscribes_and_understands_everything(start: Start, venue: str) -> None:
    """What our provider asks for is granted, and every frame that follows is one it can decode."""
    simulator, of = start("--rate", 2000), provider(venue)
    kinds = set()
    async with await open_at(simulator.url(venue)) as client:
        for request in requests(venue):
            await client.send(request)
        for _ in range(1500):
            frame = await client.recv(decode=False)
            for tick in ticks_of(of, frame):
                assert not (isinstance(tick, Control) and tick.kind == "error"), frame
                kinds.add(type(tick).__name__)
    books = {"BookTick"} if venue.startswith(("binance", "coinapi")) else {"BookUpdate"}
    assert kinds >= {"TradeTick", "QuoteTick", "Control"} | (set() if of.market == "equities" else books)


@pytest.mark.parametrize(
    ("venue", "request_", "answer"),
    [
        ("binance", '{"method":"FOO","id":7}', {"code": 2, "id": 7}),
        ("binance", '{"method":"SUBSCRIBE","params":["nosuch@thing"],"id":8}', {"result": None, "id": 8}),
        (
            "okx",
            '{"op":"subscribe","args":[{"channel":"foo","instId":"BTC-USDT"}]}',
            {"event": "error", "code": "60018"},
        ),
        ("okx", "nonsense", {"event": "error", "code": "60012"}),
        ("coinbase", '{"type":"subscribe","product_ids":["X"],"channels":["matches"]}', {"type": "error"}),
    ],
)
async def test_bad_subscription_is_answered_as_the_venue_does(
    start: Start, venue: str, request_: str, answer: dict[str, Any]
) -> None:
    """An error of the venue's form, and the connection stays."""
    async with await open_at(start().url(venue)) as client:
        for _ in range(2):
            await client.send(request_)
            reply = json.loads(await client.recv())
            assert reply.items() >= answer.items()


async def test_pings_are_answered(start: Start) -> None:
    """Ping frames everywhere, OKX's ping in words."""
    simulator = start()
    for venue in VENUES:
        async with await open_at(simulator.url(venue)) as client:
            await (await client.ping())
    async with await open_at(simulator.url("okx")) as client:
        await client.send("ping")
        assert await client.recv() == "pong"


async def test_message_in_fragments_is_read_whole(start: Start) -> None:
    """A request may come in several frames."""
    async with await open_at(start().url("binance")) as client:
        await client.send(iter([TRADES[:10], TRADES[10:20], TRADES[20:]]))
        assert json.loads(await client.recv()) == {"result": None, "id": 1}


async def test_too_many_messages_close_the_connection(start: Start) -> None:
    """Binance takes five messages a second."""
    client = await open_at(start().url("binance"))
    for _ in range(6):
        await client.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
    assert (await receive_all(client))[1] == 1008


async def test_two_clients_get_the_same(start: Start) -> None:
    """Trades go to every subscriber, the same bytes in the same order; the journal has each of them once."""
    simulator = start("--rate", 2000, "--trades", 2000, "--journal", "journal.jsonl")
    clients = [await open_at(simulator.url("binance")) for _ in range(2)]
    simulator.control("POST", "/pause")
    for client in clients:
        await client.send(TRADES)
        assert json.loads(await client.recv()) == {"result": None, "id": 1}
    simulator.control("POST", "/resume")
    simulator.process.wait_for("finished: 2000 trades")
    simulator.process.popen.terminate()
    (first, _), (second, _) = await asyncio.gather(*map(receive_all, clients))
    assert simulator.process.wait() == 0
    assert first == second
    assert trades("binance", first) == journalled(simulator.process.log.parent / "journal.jsonl")
    assert len(first) == 2000


async def test_sigterm_closes_with_1001_and_completes_the_journal(start: Start) -> None:
    """In the middle of everything: each venue's client is closed properly, and the journal is what the clients got."""
    simulator = start("--rate", 5000, "--journal", "journal.jsonl")
    clients = {}
    for venue in VENUES:
        clients[venue] = await open_at(simulator.url(venue))
        for request in requests(venue):
            await clients[venue].send(request)
    await asyncio.to_thread(wait_until, lambda: sum(simulator.status()["trades"].values()) > 3000, what="3000 trades")
    simulator.process.popen.terminate()
    got = {venue: await receive_all(client) for venue, client in clients.items()}
    assert simulator.process.wait() == 0
    assert {code for _, code in got.values()} == {1001}
    written = journalled(simulator.process.log.parent / "journal.jsonl")
    for venue, (frames, _) in got.items():
        assert trades(venue, frames) == [row for row in written if row[0] == venue]


async def test_client_that_never_answers_does_not_hold_up_the_end(start: Start) -> None:
    """A client that ignores the close frame is dropped after a few seconds, and the simulator ends as it should."""
    simulator = start()
    with closing(silent_subscriber(simulator.port)):
        await asyncio.to_thread(wait_until, lambda: simulator.status()["clients"]["binance"] == 1, what="the client")
        assert await asyncio.to_thread(simulator.process.stop) == 0


async def test_waiting_handshake_does_not_hold_up_the_end(start: Start) -> None:
    """A client that waits for a slow handshake is cut off at once when the simulator stops."""
    simulator = start("--fault", "binance:slow_handshake:ms=60000")
    with closing(silent_subscriber(simulator.port)) as waiting:
        path, key = "/faults/f1", "handshakes"
        await asyncio.to_thread(
            wait_until, lambda: simulator.control("GET", path)["counts"].get(key) == 1, what="the handshake"
        )
        began = time.monotonic()
        assert await asyncio.to_thread(simulator.process.stop) == 0
        assert time.monotonic() - began < 5
        assert not waiting.recv(1000).startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize("code", [1000, 1001, 4005, 1005])
async def test_client_that_closes_gets_its_own_code_back(start: Start, code: int) -> None:
    """As RFC 6455, 7.1.5 has it; 1005: a close frame without a code is answered by one."""
    client = await open_at(start().url("binance"))
    client.protocol.send_close(None if code == 1005 else code, "")
    client.send_data()
    assert (await asyncio.wait_for(receive_all(client), 5))[1] == code


async def test_restarted_simulator_uses_no_id_again(start: Start) -> None:
    """First ids come from the time, so that a broker that outlives the simulator sees no id twice."""
    last = 0
    for _ in range(2):
        simulator = start("--rate", 50_000, "--trades", 5000, "--journal", "journal.jsonl")
        async with await open_at(simulator.url("binance")) as client:
            await client.send(TRADES)
            await asyncio.to_thread(simulator.process.wait_for, "finished: 5000 trades")
        simulator.process.stop()
        ids = [int(row[2]) for row in journalled(simulator.process.log.parent / "journal.jsonl")]
        assert ids[-5000] > last
        assert ids[-5000:] == list(range(ids[-5000], ids[-5000] + 5000))
        last = ids[-1]


async def test_same_seed_and_first_id_give_the_same_ids(start: Start) -> None:
    """--first-id sets the first id."""
    simulator = start("--first-id", 5_680_123_456, "--rate", 5000)
    async with await open_at(simulator.url("binance")) as client:
        await client.send(TRADES)
        await client.recv()
        assert json.loads(await client.recv())["data"]["t"] == 5_680_123_456


async def test_pause_stops_data_and_keeps_connections(start: Start) -> None:
    """Heartbeats go on while paused; after /resume the ids follow without a hole."""
    simulator = start("--rate", 1000)
    async with await open_at(simulator.url("coinbase")) as client:
        await client.send('{"type":"subscribe","product_ids":["BTC-USD"],"channels":["matches","heartbeat"]}')
        assert simulator.control("POST", "/pause")["paused"] is True
        seen: list[dict[str, Any]] = []
        while sum(message["type"] == "heartbeat" for message in seen) < 2:
            seen.append(json.loads(await client.recv()))
        before = [message["trade_id"] for message in seen if "trade_id" in message]
        assert seen[-1]["last_trade_id"] == before[-1]
        assert simulator.control("POST", "/resume")["paused"] is False
        while (message := json.loads(await client.recv()))["type"] != "match":
            assert message["type"] == "heartbeat"
        assert message["trade_id"] == before[-1] + 1


async def test_slow_client_is_cut_off(start: Start) -> None:
    """A client that does not read loses its connection; the one beside it loses nothing."""
    simulator = start("--rate", 10_000, "--send-queue", 4)
    reading = await open_at(simulator.url("binance"))
    await reading.send(TRADES)
    received = asyncio.create_task(receive_all(reading))
    with closing(silent_subscriber(simulator.port)):
        await asyncio.to_thread(
            wait_until, lambda: simulator.status()["clients_cut_off"] == 1, what="the cut", limit_s=120
        )
        assert simulator.status()["clients"]["binance"] == 1
    simulator.process.popen.terminate()
    frames, code = await received
    ids = [int(row[2]) for row in trades("binance", frames)]
    assert code == 1001
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def silent_subscriber(port: int) -> socket.socket:
    """A socket with a small buffer that subscribes and never reads."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.connect(("127.0.0.1", port))
    head = "GET /binance/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    found.sendall(f"{head}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    found.sendall(Frame(Opcode.TEXT, TRADES.encode()).serialize(mask=True))
    return found


async def test_status_counts(start: Start) -> None:
    """Clients by venue while they are connected, and no trades without a subscriber."""
    simulator = start("--venues", "okx,coinbase,binance")
    async with await open_at(simulator.url("okx")):
        status = simulator.status()
        assert status["clients"] == {"okx": 1, "coinbase": 0, "binance": 0}
        assert (status["frames"], status["paused"], status["finished"]) == (0, False, False)
    await asyncio.to_thread(wait_until, lambda: simulator.status()["clients"]["okx"] == 0, what="the client's leaving")


async def test_unknown_path_is_404(start: Start) -> None:
    """The answer names the path."""
    simulator = start()
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{simulator.port}/bitstamp")
    assert refused.value.response.status_code == 404
    assert b"/bitstamp" in (refused.value.response.body or b"")


async def test_garbage_does_not_stop_the_simulator(start: Start) -> None:
    """Bytes that are no HTTP, a wrong method, a message of a megabyte: that connection ends, and nothing else."""
    simulator = start()
    for garbage, status in (
        (b"\x00\xff" * 5000, b"400"),
        (b"POST /status HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
    ):
        with socket.create_connection(("127.0.0.1", simulator.port), timeout=10) as raw:
            raw.sendall(garbage)
            assert raw.recv(100).split(b" ", 2)[1] == status
    client = await open_at(simulator.url("okx"))
    await client.send("x" * (1 << 20))
    assert (await receive_all(client))[1] == 1009
    assert simulator.status()["clients"] == dict.fromkeys(EXCHANGES, 0)


def test_port_in_use_is_one_clear_line() -> None:
    """Which address, why, and what to do; exit status 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_mdstream("simulate", "--port", port)
    assert done.returncode == 2
    assert done.stderr.startswith(f"mdstream: cannot listen on 127.0.0.1:{port} (")
    assert done.stderr.endswith("choose another --port, or 0 for a free one\n")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--venues", "binance,bitstamp"), f"bitstamp: there are {', '.join(EXCHANGES)}"),
        (("--rate", "50001"), "'--rate': 50001 is not in the range"),
        (("--symbols", "BTC USDT"), "BTC USDT: expected pairs like BTCUSDT,ETHUSDT"),
        (("--journal", "missing/journal.jsonl"), "cannot write the journal missing/journal.jsonl: No such file"),
    ],
)
def test_bad_argument_is_one_clear_line(args: tuple[str, ...], text: str, tmp_path: Path) -> None:
    """The argument, what is wrong and what is allowed, at the end of stderr; exit status 2, nothing served."""
    done = run_mdstream("simulate", "--port", 0, *args, cwd=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr.splitlines()[-1]
    assert done.stdout == ""


async def test_full_disk_is_one_clear_line(start: Start) -> None:
    """A journal that cannot be written is no journal: the simulator says so and ends with status 1."""
    simulator = start("--journal", "/dev/full")
    client = await open_at(simulator.url("binance"))
    await client.send(TRADES)
    assert (await receive_all(client))[1] == 1001
    assert simulator.process.wait() == 1
    last = simulator.process.output().splitlines()[-1]
    assert last == "mdstream: cannot write the journal /dev/full: No space left on device"
