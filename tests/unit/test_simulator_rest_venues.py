"""The REST endpoints: the venues' true answers to good and bad requests, for exactly the trades that were made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import pytest

from mdstream.simulator.listing import Listing
from mdstream.simulator.market import SECOND_NS, Market, Order
from mdstream.simulator.rest import Answer, Budget, Rest
from mdstream.simulator.venues import EXCHANGES, RESTS

NOW_NS = 1_767_625_200_123_456_789
FIRST_ID = 1000
SYMBOLS = {
    **dict.fromkeys(("binance", "bybit", "bybit_linear"), "BTCUSDT"),
    "okx": "BTC-USDT",
    "coinbase": "BTC-USD",
    "kraken": "BTC/USD",
}
PLENTY = Budget(1_000_000, 60.0)


class Venue:
    """One venue that made `orders` of its instrument, one every 10 ms, and its REST endpoint."""

    def __init__(
        self,
        name: str,
        orders: int = 0,
        budget: Budget | None = PLENTY,
        symbols: Sequence[str] = ("BTCUSDT", "BTCUSD"),
        opened_ns: int = NOW_NS,
    ) -> None:
        exchange = EXCHANGES[name](Market(1, FIRST_ID), symbols)
        found = exchange.listing(SYMBOLS[name], opened_ns)
        assert found is not None
        self.listing: Listing = found
        self.rest: Rest = RESTS[name](exchange, budget)
        self.orders: list[Order] = [found.instrument.order(NOW_NS + i * 10_000_000) for i in range(orders)]

    def get(self, target: str, now_ns: int = NOW_NS) -> Answer:
        path, _, query = target.partition("?")
        return self.rest.get(path, query, now_ns)

    def json(self, target: str) -> Any:
        answer = self.get(target)
        assert answer.status is HTTPStatus.OK, answer
        return json.loads(answer.body)

    @property
    def ids(self) -> list[int]:
        """Ids of all fills, oldest first."""
        return [fill.trade_id for order in self.orders for fill in order.fills]


def test_binance_pages_upwards_by_id() -> None:
    """fromId is the first one of the page, limit its length; beyond the newest trade there is nothing."""
    venue = Venue("binance", 50)
    path = "/api/v3/historicalTrades?symbol=BTCUSDT"
    assert [t["id"] for t in venue.json(f"{path}&fromId=1003&limit=4")] == [1003, 1004, 1005, 1006]
    assert [t["id"] for t in venue.json(f"{path}&limit=3")] == venue.ids[-3:]
    assert venue.json(f"{path}&fromId={venue.ids[-1] + 1}") == []
    path = "/api/v3/aggTrades?symbol=BTCUSDT"
    assert [t["a"] for t in venue.json(f"{path}&fromId=1003&limit=4")] == [1003, 1004, 1005, 1006]
    assert [t["l"] for t in venue.json(f"{path}&limit=1")] == venue.ids[-1:]


def test_binance_aggregates_of_a_time() -> None:
    """startTime and endTime are in milliseconds and both included."""
    venue = Venue("binance", 50)
    start, end = NOW_NS // 1_000_000 + 100, NOW_NS // 1_000_000 + 200
    every = venue.json("/api/v3/aggTrades?symbol=BTCUSDT&limit=1000")
    path = "/api/v3/aggTrades?symbol=BTCUSDT"
    assert venue.json(f"{path}&startTime={start}&endTime={end}") == [t for t in every if start <= t["T"] <= end]
    assert venue.json(f"{path}&startTime={start}&limit=3") == [t for t in every if t["T"] >= start][:3]
    assert venue.json(f"{path}&endTime={end}&limit=3") == [t for t in every if t["T"] <= end][-3:]


@pytest.mark.parametrize(
    ("query", "code", "sentence"),
    [
        ("symbol=ETHUSDT", -1121, "Invalid symbol."),
        ("fromId=1", -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ("symbol=btcusdt", -1100, "Illegal characters found in parameter 'symbol'"),
        ("symbol=BTCUSDT&fromId=x", -1100, "Illegal characters found in parameter 'fromId'"),
        ("symbol=BTCUSDT&limit=-1", -1100, "Illegal characters found in parameter 'limit'"),
        ("symbol=BTCUSDT&limit=0", -1130, "Data sent for parameter 'limit' is not valid."),
        ("symbol=BTCUSDT&fromId=1&startTime=1", -1128, "Combination of optional parameters invalid."),
        ("symbol=BTCUSDT&x=1", -1104, "Not all sent parameters were read; read '1' parameter(s) but was sent '2'."),
    ],
)
def test_binance_refuses_bad_parameters(query: str, code: int, sentence: str) -> None:
    """HTTP 400 with the venue's code and sentence."""
    answer = Venue("binance").get(f"/api/v3/aggTrades?{query}")
    error = json.loads(answer.body)
    assert (answer.status, error["code"]) == (HTTPStatus.BAD_REQUEST, code)
    assert error["msg"].startswith(sentence)


def test_binance_counts_weights_by_the_minute() -> None:
    """4 for aggTrades, 25 for historicalTrades, errors included; the next minute begins at nothing."""
    venue, symbol = Venue("binance"), "symbol=BTCUSDT"
    used = [
        venue.get(f"/api/v3/{path}?{symbol}").headers["x-mbx-used-weight-1m"]
        for path in ("aggTrades", "historicalTrades")
    ]
    assert used == ["4", "29"]
    assert venue.get("/api/v3/aggTrades").headers["x-mbx-used-weight-1m"] == "33"
    assert venue.get(f"/api/v3/aggTrades?{symbol}", NOW_NS + 60 * SECOND_NS).headers["x-mbx-used-weight-1m"] == "4"


def test_binance_refuses_beyond_its_budget_then_bans() -> None:
    """
    second   0..10      : 429, Retry-After is what is left of the window; a client that continues gets 418 for two
    minutes
    """
    venue = Venue("binance", budget=Budget(8, 10.0))
    now_ns, target = NOW_NS - NOW_NS % (10 * SECOND_NS) + 3 * SECOND_NS, "/api/v3/aggTrades?symbol=BTCUSDT"
    answers = [venue.get(target, now_ns) for _ in range(13)]
    assert [a.status.value for a in answers] == [200, 200, *[429] * 10, 418]
    assert answers[2].headers["retry-after"] == "7"
    assert json.loads(answers[2].body)["code"] == json.loads(answers[-1].body)["code"] == -1003
    assert answers[-1].headers["retry-after"] == "120"
    assert venue.get(target, now_ns + 119 * SECOND_NS).status.value == 418
    assert venue.get(target, now_ns + 120 * SECOND_NS).status.value == 200
    assert (venue.rest.requests, venue.rest.refused) == (15, 12)


def test_binance_allows_again_when_the_window_is_over() -> None:
    """A client that waits as asked is served."""
    venue = Venue("binance", budget=Budget(4, 10.0))
    target = "/api/v3/aggTrades?symbol=BTCUSDT"
    venue.get(target)
    wait_s = int(venue.get(target).headers["retry-after"])
    assert venue.get(target, NOW_NS + wait_s * SECOND_NS).status is HTTPStatus.OK


def test_coinbase_pages_downwards_by_cursor() -> None:
    """`after` is older, `before` is newer, neither included; the headers hold the page's newest and oldest id."""
    venue = Venue("coinbase", 50)
    answer = venue.get("/products/BTC-USD/trades?after=1010&limit=3")
    assert [t["trade_id"] for t in json.loads(answer.body)] == [1009, 1008, 1007]
    assert answer.headers == {"cb-before": "1009", "cb-after": "1007"}
    assert [t["trade_id"] for t in venue.json("/products/BTC-USD/trades?after=1010&before=1007")] == [1009, 1008]
    nothing = venue.get("/products/BTC-USD/trades?after=1000")
    assert (nothing.body, nothing.headers) == (b"[]", {})


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("/products/ETH-USD/trades", 404, "NotFound"),
        ("/products/BTC-USD/foo", 404, "NotFound"),
        ("/products/BTC-USD/trades?after=x", 400, "Invalid after"),
        ("/products/BTC-USD/trades?limit=-1", 400, "Invalid limit"),
    ],
)
def test_coinbase_refuses_bad_requests(target: str, status: int, message: str) -> None:
    """A status and a message."""
    answer = Venue("coinbase").get(target)
    assert (answer.status.value, json.loads(answer.body)) == (status, {"message": message})


def test_coinbase_allows_a_burst_then_its_rate() -> None:
    """10 a second, 15 at once; then 429 until the bucket fills again."""
    venue, target = Venue("coinbase", budget=None), "/products/BTC-USD/trades"
    assert [venue.get(target).status.value for _ in range(17)] == [200] * 15 + [429] * 2
    assert venue.get(target, NOW_NS + SECOND_NS // 10).status.value == 200
    assert json.loads(venue.get(target).body) == {"message": "Public rate limit exceeded"}


def test_okx_pages_by_id_and_by_time() -> None:
    """`after` is older, `before` newer, neither included; type=2 means milliseconds."""
    venue, path = Venue("okx", 50), "/api/v5/market/history-trades?instId=BTC-USDT"
    ids = [t["tradeId"] for t in venue.json(f"{path}&type=1&after=1010&limit=3")["data"]]
    assert ids == ["1009", "1008", "1007"]
    ids = [t["tradeId"] for t in venue.json(f"{path}&after=1010&before=1007")["data"]]
    assert ids == ["1009", "1008"]
    middle = NOW_NS // 1_000_000 + 200
    times = [int(t["ts"]) for t in venue.json(f"{path}&type=2&after={middle}")["data"]]
    assert times
    assert max(times) < middle
    assert venue.json(f"{path}&after=1000")["data"] == []


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("instId=ETH-USDT", 200, "51001"),
        ("type=1", 400, "50014"),
        ("instId=BTC-USDT&type=3", 400, "51000"),
        ("instId=BTC-USDT&after=x", 400, "51000"),
        ("instId=BTC-USDT&limit=101", 400, "51000"),
    ],
)
def test_okx_refuses_bad_parameters(query: str, status: int, code: str) -> None:
    """The venue's code in its envelope."""
    answer = Venue("okx").get(f"/api/v5/market/history-trades?{query}")
    assert (answer.status.value, json.loads(answer.body)["code"]) == (status, code)


def test_okx_allows_twenty_requests_in_two_seconds() -> None:
    """The next one is 429 with code 50011."""
    venue, target = Venue("okx", budget=None), "/api/v5/market/history-trades?instId=BTC-USDT"
    assert [venue.get(target).status.value for _ in range(21)] == [200] * 20 + [429]
    assert json.loads(venue.get(target).body) == {"msg": "Too Many Requests", "code": "50011"}
    assert venue.get(target, NOW_NS + 2 * SECOND_NS).status.value == 200
