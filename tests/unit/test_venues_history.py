"""mdstream/repair/{binance,coinbase,okx}.py: what is asked for, and what the venues' answers mean."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.errors import SettingsError
from mdstream.repair.venues import HISTORIES
from mdstream.repairs import RepairRequest
from mdstream.venues import rest_setting, ws_setting
from mdstream.venues.history import History
from mdstream.venues.past import Page
from mdstream.venues.rest import MAX_WAIT_S, PermanentError, retry_after_s
from mdstream.venues.spans import Span

NOW_S = 1_767_625_200.0  # 2026-01-05T15:00:00Z
ID_SPACES = [("binance", "trade"), ("binance", "aggTrade"), ("coinbase", ""), ("okx", "trades"), ("okx", "trades-all")]


def history(name: str) -> History:
    return HISTORIES[name]()


def request(name: str, id_space: str, symbol: str = "BTCUSDT") -> RepairRequest:
    return RepairRequest(symbol, name, id_space, 1, 9, 0)


@pytest.mark.parametrize(
    ("name", "id_space", "symbol", "page"),
    [
        (
            "binance",
            "trade",
            "BTCUSDT",
            Page("/api/v3/historicalTrades?symbol=BTCUSDT&fromId=100&limit=50", 50, 25.0),
        ),
        ("binance", "aggTrade", "BTCUSDT", Page("/api/v3/aggTrades?symbol=BTCUSDT&fromId=100&limit=50", 50, 4.0)),
        ("coinbase", "", "BTCUSD", Page("/products/BTC-USD/trades?after=150&limit=50", 50, 1.0)),
        (
            "okx",
            "trades",
            "BTC-USDT-SWAP",
            Page("/api/v5/market/history-trades?instId=BTC-USDT-SWAP&type=1&after=150&limit=50", 50, 1.0),
        ),
        (
            "okx",
            "trades-all",
            "BTCUSDT",
            Page("/api/v5/market/history-trades?instId=BTC-USDT&type=1&after=150&limit=50", 50, 1.0),
        ),
    ],
)
def test_ask_names_the_page_with_exactly_the_missing_ids(name: str, id_space: str, symbol: str, page: Page) -> None:
    """Trades 100..149, from the endpoint of the id space, at the weight that the venue charges."""
    assert history(name).ask(request(name, id_space, symbol), Span(100, 149)) == page


@pytest.mark.parametrize("name", HISTORIES)
def test_ask_fails_for_an_id_space_that_the_venue_does_not_have(name: str) -> None:
    """For good, in words that name it."""
    assert history(name).ask(request(name, "sideways"), Span(1, 1)) == PermanentError(
        f"{name} gives no history of sideways"
    )


@pytest.mark.parametrize(("name", "id_space"), [("binance", "trade"), ("coinbase", ""), ("okx", "trades")])
def test_ask_fails_for_a_symbol_that_the_venue_cannot_have(name: str, id_space: str) -> None:
    """With what would be one."""
    found = history(name).ask(request(name, id_space, "%"), Span(1, 1))
    assert isinstance(found, PermanentError)
    assert f"{name} has no symbol of the form '%'" in found.reason


def test_base_url_is_the_venue_s_own_unless_overridden() -> None:
    """By the name that users know; a slash at its end is nothing."""
    assert history("binance").base_url({}) == "https://api.binance.com"
    overridden = {"BINANCE_API_BASE_URL": "http://127.0.0.1:9440/binance/"}
    assert history("binance").base_url(overridden) == "http://127.0.0.1:9440/binance"


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("binance", {"BINANCE_WS_URL": "wss://stream.testnet.binance.vision/stream"}),
        ("binance", {"BINANCE_API_BASE_URL": "https://api.binance.us"}),
        ("binance", {"BINANCE_WS_URL": "wss://fstream.binance.com/stream"}),
        ("coinbase", {"COINBASE_WS_URL": "wss://ws-feed-public.sandbox.exchange.coinbase.com"}),
        ("okx", {"OKX_WS_URL": "wss://wspap.okx.com:8443/ws/v5/public"}),
    ],
)
def test_addresses_of_two_exchanges_are_refused(name: str, environment: dict[str, str]) -> None:
    """Trades of one exchange would fill the gaps of another; the error names both addresses."""
    variables = rest_setting(name), ws_setting(name)
    with pytest.raises(SettingsError, match=r"one is of .*, the other of ") as error:
        history(name).check_addresses(environment)
    assert all(variable in str(error.value) for variable in variables)


@pytest.mark.parametrize(
    ("environment", "sure"),
    [
        ({}, True),
        ({"BINANCE_WS_URL": "wss://data-stream.binance.vision/stream"}, True),
        (
            {"BINANCE_WS_URL": "wss://stream.binance.us:9443/stream", "BINANCE_API_BASE_URL": "https://api.binance.us"},
            True,
        ),
        ({"BINANCE_WS_URL": "ws://127.0.0.1:9101/stream", "BINANCE_API_BASE_URL": "http://127.0.0.1:9101"}, True),
        ({"BINANCE_WS_URL": "ws://127.0.0.1:9101/stream"}, False),
        ({"BINANCE_API_BASE_URL": "http://[::1"}, False),
    ],
)
def test_addresses_of_which_one_is_unknown_are_doubted(environment: dict[str, str], sure: bool) -> None:
    """A proxy or a simulator may be at any address: a warning says so, and trades are compared with the gap."""
    assert (history("binance").check_addresses(environment) is None) is sure


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("Mon, 05 Jan 2026 15:00:30 GMT", 30.0),
        ("Mon, 05 Jan 2026 14:00:00 GMT", 0.0),
        ("Mon, 05 Jan 2026 15:00:30", 30.0),
        ("999999999", MAX_WAIT_S),
        ("9" * 5_000, MAX_WAIT_S),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_WAIT_S),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("Fri, 01 Jan 99999999999 00:00:00 GMT", None),
        ("1.5", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, wait_s: float | None) -> None:
    """RFC 9110; what is neither says nothing, and no ban is longer than three days."""
    assert retry_after_s({"retry-after": text}, now_s=NOW_S) == wait_s


@given(st.text(max_size=40))
def test_retry_after_never_raises(text: str) -> None:
    """It comes from the wire."""
    wait_s = retry_after_s({"retry-after": text}, now_s=NOW_S)
    assert wait_s is None or 0 <= wait_s <= MAX_WAIT_S


@pytest.mark.parametrize(
    ("header", "load"),
    [("3000", 0.5), ("6000", 1.0), ("0", 0.0), ("9" * 5_000, inf), ("", None), ("many", None), ("²", None)],
)
def test_binance_reports_how_much_of_the_address_s_weight_is_used(header: str, load: float | None) -> None:
    """By whomever at this address: the budget of one process does not know of the others."""
    assert history("binance").load({"x-mbx-used-weight-1m": header}) == load


@pytest.mark.parametrize("name", ["coinbase", "okx"])
def test_the_others_report_no_load(name: str) -> None:
    """There is no such header."""
    assert history(name).load({"x-mbx-used-weight-1m": "6000"}) is None
