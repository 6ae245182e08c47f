"""The simulated pasts of Alpaca and Massive: what they refuse, and how they go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from mdstream.simulator.listing import Listing
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.simulator.rest import NO_HEADERS, Answer, Rest
from mdstream.simulator.server import Options, Simulator
from mdstream.simulator.venues import EXCHANGES, RESTS

NOW_NS = 1_767_628_800_000_000_000  # 2026-01-05T16:00:00Z
BEGIN_NS = NOW_NS - 3_600 * SECOND_NS
KEYS = {"apca-api-key-id": "key", "apca-api-secret-key": "secret"}
FREE_KEYS = {**KEYS, "apca-api-key-id": "FREE-1"}
BARS, TRADES = "/v2/stocks/bars?symbols=AAPL&timeframe=1Min", "/v2/stocks/trades?symbols=AAPL"
AGGS = "/v2/aggs/ticker/AAPL/range/{}/1767625200000/1767628799999?adjusted=false&sort=asc"
TICKS = "/v3/trades/AAPL?order=asc&sort=timestamp"
PAID, FREE = {"authorization": "Bearer paid"}, {"authorization": "Bearer FREE-1"}


class Venue:
    """A venue where AAPL was traded every twenty seconds for an hour, and its REST endpoint."""

    def __init__(self, name: str) -> None:
        exchange = EXCHANGES[name](Market(1, 1000))
        found = exchange.listing("AAPL" if name != "alpaca_crypto" else "BTC/USD", BEGIN_NS)
        assert found is not None
        self.listing: Listing = found
        self.rest: Rest = RESTS[name](exchange)
        for number in range(180):
            found.instrument.order(BEGIN_NS + number * 20 * SECOND_NS)

    def get(self, target: str, headers: Mapping[str, str] = NO_HEADERS, now_ns: int = NOW_NS) -> Answer:
        path, _, query = target.partition("?")
        return self.rest.get(path, query, now_ns, headers)

    def error(self, target: str, headers: Mapping[str, str]) -> tuple[int, Any]:
        answer = self.get(target, headers)
        return answer.status.value, json.loads(answer.body)

    def read(self, target: str, headers: Mapping[str, str]) -> Any:
        answer = self.get(target, headers)
        assert answer.status == 200, answer
        return json.loads(answer.body)


@pytest.mark.parametrize(
    "headers",
    [{}, {**KEYS, "apca-api-secret-key": "wrong"}, {"apca-api-key-id": "key"}, {"authorization": "Bearer key"}],
)
def test_alpaca_answers_nobody_without_keys(headers: dict[str, str]) -> None:
    """In two headers; crypto's history is public."""
    assert Venue("alpaca").error(BARS, headers) == (403, {"message": "forbidden."})
    crypto = Venue("alpaca_crypto").read("/v1beta3/crypto/us/bars?symbols=BTC/USD&timeframe=1Hour", headers)
    assert len(crypto["bars"]["BTC/USD"]) == 1


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("/v2/stocks/quotes?symbols=AAPL", 404, "endpoint not found."),
        ("/v2/stocks", 404, "endpoint not found."),
        ("/v2/stocks/bars?timeframe=1Min", 400, "invalid symbol: "),
        ("/v2/stocks/bars?symbols=BTC/USD&timeframe=1Min", 400, "invalid symbol: BTC/USD"),
        ("/v2/stocks/bars?symbols=AAPL", 400, "invalid timeframe: "),
        ("/v2/stocks/bars?symbols=AAPL&timeframe=60Min", 400, "invalid timeframe: 60Min"),
        ("/v2/stocks/bars?symbols=AAPL&timeframe=1Day", 400, "invalid timeframe: 1Day"),
        (f"{TRADES}&timeframe=1Min", 400, "unexpected query parameter(s): timeframe"),
        (f"{BARS}&limit=10001", 400, "invalid limit: 10001"),
        (f"{BARS}&limit=0", 400, "invalid limit: 0"),
        (f"{BARS}&limit=many", 400, "invalid limit: many"),
        (f"{BARS}&sort=desc", 400, "invalid sort: desc"),
        (f"{BARS}&adjustment=split", 400, "invalid adjustment: split"),
        (f"{BARS}&feed=delayed_sip", 400, "invalid feed: delayed_sip"),
        (f"{BARS}&start=today", 400, "invalid start: today"),
        (f"{BARS}&end=2026-13-01", 400, "invalid end: 2026-13-01"),
        (f"{BARS}&end=2026-01-05T15:00", 400, "invalid end: 2026-01-05T15:00"),
        (f"{BARS}&start=2026-01-05&end=2026-01-04", 422, "end should not be before start"),
        (f"{BARS}&page_token=x", 400, "invalid page_token"),
    ],
)
def test_alpaca_refuses_bad_requests(target: str, status: int, message: str) -> None:
    """A status and a message."""
    assert Venue("alpaca").error(target, KEYS) == (status, {"message": message})


def test_alpaca_s_free_plan_has_the_tape_of_a_quarter_of_an_hour_ago() -> None:
    """Up to now is too recent, as is a second of it; IEX has no such limit, nor has another plan."""
    venue, of = Venue("alpaca"), f"{BARS}&feed=sip&end=2026-01-05T15:"
    refused = (403, {"message": "subscription does not permit querying recent SIP data"})
    assert venue.error(f"{BARS}&feed=sip", FREE_KEYS) == venue.error(f"{of}45:00.000000001Z", FREE_KEYS) == refused
    assert len(venue.read(f"{of}44:59.999999999Z", FREE_KEYS)["bars"]["AAPL"]) == 45
    assert venue.read(f"{BARS}&feed=sip", KEYS) == venue.read(f"{BARS}&feed=iex", FREE_KEYS)


def test_alpaca_goes_on_with_a_token() -> None:
    """The last page has none."""
    venue = Venue("alpaca")
    for target, kind in ((BARS, "bars"), (TRADES, "trades")):
        every = venue.read(f"{target}&limit=10000", KEYS)
        assert every["next_page_token"] is None
        rows, token = [], ""
        while token is not None:
            page = venue.read(f"{target}&limit=7{token}", KEYS)
            rows += page[kind]["AAPL"]
            token = page["next_page_token"] and f"&page_token={page['next_page_token']}"
        ids = [row.get("i", row["t"]) for row in rows if row.get("u") != "incorrect"]  # a fill's two rows stay together
        assert ids == [row.get("i", row["t"]) for row in every[kind]["AAPL"] if row.get("u") != "incorrect"]


def test_alpaca_says_what_became_of_a_trade() -> None:
    """Cancelled, or wrong and followed by what it should have been: as the feed's corrections and cancels."""
    rows = Venue("alpaca").read(f"{TRADES}&limit=10000", KEYS)["trades"]["AAPL"]
    by_id = {row["i"]: row for row in rows}
    assert {row.get("u") for row in rows} == {None, "canceled", "incorrect", "corrected"}
    for row in rows:
        if row.get("u") == "incorrect":
            new = by_id[(1 << 60) + row["i"]]
            assert (new["t"], new["p"], new["s"], new["u"]) == (row["t"], row["p"], row["s"] + 1, "corrected")


def test_a_symbol_without_trades_has_no_rows() -> None:
    """Alpaca does not name it, Massive leaves the field out."""
    assert Venue("alpaca").read(BARS.replace("AAPL", "MSFT"), KEYS) == {"bars": {}, "next_page_token": None}
    answer = Venue("massive").read(AGGS.format("1/minute").replace("AAPL", "MSFT"), PAID)
    assert (answer["ticker"], answer["resultsCount"], "results" in answer) == ("MSFT", 0, False)
    assert Venue("massive").read(TICKS.replace("AAPL", "MSFT"), PAID)["results"] == []


def test_alpaca_allows_two_hundred_requests_a_minute() -> None:
    """The next one is 429, until the first of them is a minute old."""
    venue = Venue("alpaca")
    statuses = [venue.get("/v2/stocks", KEYS).status.value for _ in range(201)]
    assert statuses == [404] * 200 + [429]
    assert venue.error(BARS, KEYS) == (429, {"message": "too many requests."})
    assert venue.get(BARS, KEYS, NOW_NS + 60 * SECOND_NS).status == 200


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic key"}, {"authorization": "Bearer "}]
)
def test_massive_answers_nobody_without_a_key(headers: dict[str, str]) -> None:
    """In the header for it."""
    error = {"status": "ERROR", "request_id": "0", "error": "Unknown API Key"}
    assert Venue("massive").error(AGGS.format("1/minute"), headers) == (401, error)


def test_massive_s_free_plan_has_five_requests_a_minute_and_no_trades() -> None:
    """Another plan has trades, and no limit."""
    venue, aggs = Venue("massive"), AGGS.format("1/minute")
    status, error = venue.error(TICKS, FREE)
    assert (status, error["status"]) == (403, "NOT_AUTHORIZED")
    assert error["message"].startswith("You are not entitled to this data.")
    assert [venue.get(aggs, FREE).status.value for _ in range(5)] == [200] * 4 + [429]
    assert "exceeded the maximum requests per minute" in json.loads(venue.get(aggs, FREE).body)["error"]
    assert {venue.get(target, PAID).status.value for target in [TICKS, aggs] * 10} == {200}
    assert venue.get(aggs, FREE, NOW_NS + 60 * SECOND_NS).status == 200


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (AGGS.format("1/day"), "only unadjusted minutes and hours are simulated, oldest first"),
        (
            AGGS.format("1/minute").replace("false", "true"),
            "only unadjusted minutes and hours are simulated, oldest first",
        ),
        (f"{AGGS.format('1/minute')}&limit=50001", "limit must be between 1 and 50000"),
        (f"{TICKS}&limit=0", "limit must be between 1 and 50000"),
        (f"{TICKS}&limit=many", "invalid limit"),
        (f"{TICKS}&timestamp.gte=2026-01-05", "failed to parse timestamp.gte: 2026-01-05"),
        ("/v3/trades/AAPL", "only order=asc and sort=timestamp are simulated"),
        ("/v3/trades/AAPL?cursor=x", "invalid cursor"),
        ("/v3/trades/AAPL?cursor=YXQ9eA==", "invalid cursor"),
    ],
)
def test_massive_refuses_bad_requests(target: str, error: str) -> None:
    """In its envelope, with the status 400."""
    found = {"status": "ERROR", "request_id": "0", "error": error}
    assert Venue("massive").error(target, PAID) == (400, found)


def test_massive_goes_on_with_a_cursor() -> None:
    """At its own address; a limit counts minutes, and what is no whole aggregate begins the next page."""
    venue = Venue("massive")
    every = venue.read(f"{TICKS}&limit=50000", PAID)["results"]
    assert len(every) > 180
    for target, whole in ((f"{TICKS}&limit=7", every), (f"{AGGS.format('5/minute')}&limit=7", None)):
        whole = whole or venue.read(AGGS.format("5/minute"), PAID)["results"]
        rows: list[Any] = []
        following = target
        while following:
            page = venue.read(following, PAID)
            rows += page["results"]
            following = page.get("next_url", "").removeprefix("https://api.massive.com")
        assert rows == whole


async def test_headers_reach_the_endpoint_over_http() -> None:
    """Whatever the case of their names."""
    simulator = Simulator(Options(port=0, venues=("alpaca", "massive")), print)
    at = f"http://127.0.0.1:{await simulator.start()}"
    try:
        async with aiohttp.ClientSession() as session:
            for target, headers in (
                (f"/alpaca{BARS}", {name.upper(): value for name, value in KEYS.items()}),
                (f"/massive{AGGS.format('1/minute')}", {"Authorization": "Bearer key"}),
            ):
                async with session.get(at + target) as refused, session.get(at + target, headers=headers) as answer:
                    assert (refused.status in (401, 403), answer.status) == (True, 200)
    finally:
        await simulator.stop()
