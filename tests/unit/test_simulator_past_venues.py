"""The past over REST of Coinbase, OKX, Bybit and Kraken: pages, limits and errors as the venues document them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_simulator_rest_venues import NOW_NS, Venue

from mdstream.simulator.market import SECOND_NS

MINUTE_NS = 60 * SECOND_NS
NOW_S = NOW_NS // SECOND_NS
OPEN_S = NOW_S // 60 * 60
"""When the minute of now began."""


class Past(Venue):
    """A venue with one order at `minutes` before now, each."""

    def __init__(self, name: str, *minutes: int, symbols: tuple[str, ...] = ("BTCUSDT", "BTCUSD")) -> None:
        super().__init__(name, 0, symbols=symbols, opened_ns=NOW_NS - 1_000 * MINUTE_NS)
        for ago in minutes:
            self.orders.append(self.listing.instrument.order(NOW_NS - ago * MINUTE_NS))


def rows(name: str, answer: Any) -> list[list[Any]]:
    """The candles of an answer."""
    found: dict[str, Any] = {
        "okx": lambda: answer["data"],
        "bybit": lambda: answer["result"]["list"],
        "coinbase": lambda: answer,
        "kraken": lambda: answer["result"]["XXBTZUSD"],
    }
    read: list[list[Any]] = found[name]()
    return read


def minutes_ago(name: str, answer: Any) -> list[int]:
    """When the candles of an answer begin, in minutes before the minute of now."""
    scale = 1 if name in ("coinbase", "kraken") else 1000
    return [(OPEN_S - int(row[0]) // scale) // 60 for row in rows(name, answer)]


def test_coinbase_gives_candles_of_trades_only_newest_first() -> None:
    """`start` and `end` are both included; low comes before high, and open behind both."""
    venue = Past("coinbase", 7, 5, 2, 0)
    path = "/products/BTC-USD/candles?granularity=60"
    answer = venue.json(f"{path}&start={OPEN_S - 300}&end={OPEN_S - 120}")
    assert minutes_ago("coinbase", answer) == [2, 5]
    _, low, high, opened, close, volume = answer[0]
    fills = venue.orders[2].fills
    prices = [float(venue.listing.price(fill.ticks)) for fill in fills]
    assert (low, high, opened, close) == (min(prices), max(prices), prices[0], prices[-1])
    assert volume == float(venue.listing.size(sum(fill.lots for fill in fills)))
    assert minutes_ago("coinbase", venue.json(path)) == [0, 2, 5, 7]


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("granularity=60&start=0&end=18060", 400, "exceeds 300"),
        ("granularity=120&start=0&end=60", 400, "Unsupported granularity"),
        ("granularity=60&start=x&end=60", 400, "Invalid start"),
    ],
)
def test_coinbase_refuses_candles(query: str, status: int, message: str) -> None:
    """More than 300, other intervals, what is no time."""
    answer = Past("coinbase").get(f"/products/BTC-USD/candles?{query}")
    assert answer.status == status
    assert message in json.loads(answer.body)["message"]
    assert Past("coinbase").json("/products/BTC-USD/candles?granularity=60&start=0&end=18000") == []


def test_okx_gives_every_candle_newest_first_between_after_and_before() -> None:
    """Neither is included; the open one is not confirmed; one without trades is flat."""
    venue, path = Past("okx", 4, 1, 0), "/api/v5/market/history-candles?instId=BTC-USDT&bar=1m"
    newest = venue.json(path)
    assert minutes_ago("okx", newest) == [0, 1, 2, 3, 4]
    assert [row[8] for row in newest["data"]] == ["0", "1", "1", "1", "1"]
    flat, before = newest["data"][3], newest["data"][4]
    assert set(flat[1:5]) == {before[4]}
    assert float(flat[5]) == 0
    after, earlier = (OPEN_S - 60) * 1000, (OPEN_S - 240) * 1000
    assert minutes_ago("okx", venue.json(f"{path}&after={after}&before={earlier}")) == [2, 3]
    assert minutes_ago("okx", venue.json(f"{path}&after={after}&limit=1")) == [2]


def test_okx_gives_the_volume_of_a_contract_in_contracts_and_in_base() -> None:
    """Of a pair in base and in quote."""
    venue = Past("okx", 1, symbols=("BTCUSDT", "BTCUSDT-PERP"))
    swap = venue.rest._exchange.listing("BTC-USDT-SWAP", NOW_NS - MINUTE_NS)
    assert swap is not None
    swap.instrument.order(NOW_NS - MINUTE_NS)
    path = "/api/v5/market/history-candles?limit=2&instId="
    pair, contract = (venue.json(f"{path}{name}")["data"][1] for name in ("BTC-USDT", "BTC-USDT-SWAP"))
    assert pair[6] == pair[7]
    assert float(contract[5]) == pytest.approx(float(contract[6]) / 0.0005)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("instId=BTC-USDT&bar=6H", 400, "51000"),
        ("instId=BTC-USDT&limit=301", 400, "51000"),
        ("instId=BTC-USDT&after=x", 400, "51000"),
        ("instId=ETH-USDT", 200, "51001"),
        ("bar=1m", 400, "50014"),
    ],
)
def test_okx_refuses_candles(query: str, status: int, code: str) -> None:
    """With the venue's codes."""
    answer = Past("okx").get(f"/api/v5/market/history-candles?{query}")
    assert (answer.status, json.loads(answer.body)["code"]) == (status, code)


def test_bybit_gives_every_candle_newest_first_from_start_to_end() -> None:
    """Both included; 200 unless asked for more, the newest."""
    venue, path = Past("bybit", 250, 4, 0), "/v5/market/kline?category=spot&symbol=BTCUSDT&interval=1"
    assert minutes_ago("bybit", venue.json(path)) == list(range(200))
    window = f"start={(OPEN_S - 240) * 1000}&end={(OPEN_S - 120) * 1000}"
    assert minutes_ago("bybit", venue.json(f"{path}&{window}")) == [2, 3, 4]
    assert minutes_ago("bybit", venue.json(f"{path}&{window}&limit=1")) == [2]
    assert len(rows("bybit", venue.json(f"{path}&limit=1000"))) == 251


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("category=spot&symbol=BTCUSDT&interval=2", "interval"),
        ("category=spot&symbol=BTCUSDT&interval=1&limit=1001", "limit"),
        ("category=spot&symbol=BTCUSDT&interval=1&start=x", "start"),
        ("category=spot&symbol=ETHUSDT&interval=1", "Not supported symbols"),
        ("category=linear&symbol=BTCUSDT&interval=1", "Category"),
    ],
)
def test_bybit_refuses_candles(query: str, message: str) -> None:
    """With 10001, and HTTP 200."""
    answer = json.loads(Past("bybit").get(f"/v5/market/kline?{query}").body)
    assert answer["retCode"] == 10001
    assert message in answer["retMsg"]


def test_kraken_gives_the_newest_candles_after_since_the_open_one_last() -> None:
    """At most 720, however far back is asked; `last` is the newest that is closed."""
    venue, path = Past("kraken", 900, 3, 1), "/0/public/OHLC?pair=XBTUSD&interval=1"
    assert minutes_ago("kraken", venue.json(f"{path}&since=0")) == list(range(719, -1, -1))
    answer = venue.json(f"{path}&since={OPEN_S - 180}")
    assert minutes_ago("kraken", answer) == [2, 1, 0]
    assert [row[7] for row in rows("kraken", answer)] == [0, len(venue.orders[2].fills), 0]
    assert answer["result"]["last"] == OPEN_S - 60


def test_kraken_gives_trades_from_a_time_on_oldest_first() -> None:
    """In seconds or nanoseconds, at most 1,000; without a time the newest."""
    venue, path = Venue("kraken", 400), "/0/public/Trades?pair=XBTUSD"

    def trades(query: str) -> list[int]:
        return [row[6] for row in venue.json(f"{path}&{query}")["result"]["XXBTZUSD"]]

    order = venue.orders[100]
    assert trades(f"since={order.ts_ns}&count=3") == [order.fills[0].trade_id + number for number in range(3)]
    assert trades(f"since={order.ts_ns + 1}&count=1") == [order.fills[-1].trade_id + 1]
    assert trades(f"since={NOW_S}&count=2") == venue.ids[:2]
    assert trades("count=5000") == venue.ids[-1000:]
    assert trades(f"since={venue.orders[-1].ts_ns + 1}") == []
    last = venue.json(f"{path}&since={order.ts_ns}&count={len(order.fills)}")["result"]["last"]
    assert last == str(order.ts_ns)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("/0/public/OHLC?pair=XBTUSD&interval=2", "EGeneral:Invalid arguments:interval"),
        ("/0/public/OHLC?pair=XBTUSD&since=x", "EGeneral:Invalid arguments:since"),
        ("/0/public/Trades?pair=XBTUSD&since=1e9", "EGeneral:Invalid arguments:since"),
        ("/0/public/Trades?pair=XBTUSD&count=-1", "EGeneral:Invalid arguments:count"),
        ("/0/public/Trades?pair=ETHXBT", "EQuery:Unknown asset pair"),
        ("/0/public/OHLC", "EQuery:Unknown asset pair"),
    ],
)
def test_kraken_refuses_with_http_200(target: str, error: str) -> None:
    """Its errors are a list."""
    answer = Past("kraken").get(target)
    assert (answer.status, json.loads(answer.body)) == (200, {"error": [error]})


def test_kraken_names_pairs_as_its_rest_interface_does() -> None:
    """XBT for bitcoin and XDG for dogecoin, on either side; the answer has the venue's internal name."""
    venue = Past("kraken", symbols=("BTCUSD", "ETHBTC", "DOGEEUR", "SOLUSD"))
    for name, key in (("XBTUSD", "XXBTZUSD"), ("ETHXBT", "ETHXBT"), ("XDGEUR", "XXDGZEUR"), ("SOLUSD", "SOLUSD")):
        answer = venue.json(f"/0/public/Trades?pair={name}")
        assert answer["result"].keys() == {key, "last"}
