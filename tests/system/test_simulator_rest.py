"""The simulator's REST endpoints as clients meet them: over HTTP, for the trades that the websockets reported."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from processes import Process, Processes, run_mdstream
from websockets.asyncio.client import connect

from mdstream.ticks import TradeTick
from mdstream.venues.providers import provider

pytestmark = pytest.mark.system

TRADES = 300
SYMBOLS = {"binance": "BTCUSDT", "okx": "BTCUSDT", "coinbase": "BTCUSD"}

Start = Callable[..., tuple[Process, dict[str, str]]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts simulators at free ports; gives the process and the variables it printed."""
    with Processes(tmp_path) as processes:

        def run(*args: object) -> tuple[Process, dict[str, str]]:
            process = processes.mdstream("simulate", "--port", 0, *args)
            process.wait_for("export COINBASE_WS_URL=")
            lines = [line for line in process.output().splitlines() if line.startswith("export ")]
            return process, dict(line.removeprefix("export ").split("=", 1) for line in lines)

        yield run


async def trades_of(venue: str, url: str) -> list[TradeTick]:
    """The first trades that our provider gets over the websocket."""
    of, got = provider(venue), list[TradeTick]()
    async with connect(url, compression=None) as client:
        for request in of.subscribe([SYMBOLS[venue]]):
            await client.send(request.frame)
        while len(got) < TRADES:
            ticks = of.decode(await client.recv(decode=False))
            got += [tick for tick in ticks if isinstance(tick, TradeTick) and not tick.resume]
    return got


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


async def test_rest_serves_what_the_websockets_reported(start: Start) -> None:
    """Each venue's trades, asked for by the ids that came over its websocket: the same prices, sizes and sides."""
    _, urls = start("--rate", 3000, "--venues", "binance,okx,coinbase")
    sent = await trades_of("binance", urls["BINANCE_WS_URL"])
    path = f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={sent[0].trade_id}&limit={len(sent)}"
    got = [
        (str(t["id"]), float(t["price"]), float(t["qty"]), "sell" if t["isBuyerMaker"] else "buy")
        for t in get(urls["BINANCE_API_BASE_URL"] + path)
    ]
    assert got == [(t.trade_id, t.price, t.size, t.side) for t in sent]

    sent = await trades_of("coinbase", urls["COINBASE_WS_URL"])
    path = f"/products/BTC-USD/trades?after={int(sent[-1].trade_id) + 1}&limit={len(sent)}"
    got = [
        (str(t["trade_id"]), float(t["price"]), float(t["size"]), "sell" if t["side"] == "buy" else "buy")
        for t in get(urls["COINBASE_API_BASE_URL"] + path)
    ]
    assert got[::-1] == [(t.trade_id, t.price, t.size, t.side) for t in sent]

    sent = (await trades_of("okx", urls["OKX_WS_URL"]))[-20:]
    path = f"/api/v5/market/history-trades?instId=BTC-USDT&type=1&after={sent[-1].last_id + 1}"
    fills = {int(t["tradeId"]): t for t in get(urls["OKX_API_BASE_URL"] + path)["data"]}
    for trade in (t for t in sent if t.first_id >= min(fills)):
        parts = [fills[trade_id] for trade_id in range(trade.first_id, trade.last_id + 1)]
        assert {float(part["px"]) for part in parts} == {trade.price}
        assert {part["side"] for part in parts} == {trade.side}
        assert sum(float(part["sz"]) for part in parts) == pytest.approx(trade.size)


async def test_one_connection_carries_many_requests(start: Start) -> None:
    """Clients keep their connection; a budget of one's own ends in 429 with Retry-After, and /status counts it."""
    _, urls = start("--rest-budget", "binance=20/600", "--rest-budget", "okx=1/600")
    url = urls["BINANCE_API_BASE_URL"] + "/api/v3/aggTrades"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as client:
        for _ in range(5):
            async with client.get(url, params={"symbol": "BTCUSDT"}) as answer:
                assert (answer.status, await answer.json()) == (200, [])
        async with client.get(url, params={"symbol": "BTCUSDT"}) as answer:
            assert answer.status == 429
            assert 1 <= int(answer.headers["Retry-After"]) <= 600
        async with client.post(url) as answer:
            assert answer.status == 405
    status = get(urls["BINANCE_API_BASE_URL"].removesuffix("/binance") + "/status")
    assert status["rest"]["binance"] == {"requests": 6, "refused": 1, "budget": [20, 600.0]}
    assert status["rest"]["okx"]["budget"] == [1, 600.0]


def test_unknown_paths_say_so(start: Start) -> None:
    """A venue that is not served has no endpoint either."""
    _, urls = start("--venues", "coinbase")
    root = urls["COINBASE_API_BASE_URL"].removesuffix("/coinbase")
    for path in ("/binance/api/v3/aggTrades?symbol=BTCUSDT", "/nothing"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(root + path)
        assert refused.value.code == 404
        assert "nothing is at" in json.load(refused.value)["error"]


@pytest.mark.parametrize("budget", ["coinapi=1", "binance", "binance=0", "okx=5/0"])
def test_bad_budget_is_one_clear_line(budget: str) -> None:
    """What is expected, and exit status 2."""
    done = run_mdstream("simulate", "--port", 0, "--rest-budget", budget)
    assert done.returncode == 2
    assert f"{budget}: expected VENUE=COUNT or VENUE=COUNT/SECONDS" in done.stderr
