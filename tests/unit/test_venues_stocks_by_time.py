"""mdstream/venues/*/timed.py of Alpaca and Massive: what is asked for, with which key, and which page follows."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, parse_qsl, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from venue_symbols import SETTINGS

from mdstream.errors import FrameError, SettingsError
from mdstream.repair.budget import Budget
from mdstream.repair.venues import TIMED
from mdstream.repairs import rest_frame
from mdstream.venues.massive.timed import MassiveTimed
from mdstream.venues.past import Page
from mdstream.venues.providers import provider
from mdstream.venues.rest import PermanentError
from mdstream.venues.timed import TRADES, Endpoint, Timed

BEGIN_NS = 1_767_625_200_000_000_000  # 2026-01-05T15:00:00Z
HOUR_NS = 3_600_000_000_000
VENUES = ("alpaca", "alpaca_crypto", "massive")
STAMPS = "timestamp.gte=1767625200000000000&timestamp.lt=1767628800000000000"
TIMES = "start=2026-01-05T15:00:00.000000000Z&end=2026-01-05T15:59:59.999999999Z"
TOKENS = st.text(st.characters(codec="ascii"), min_size=1, max_size=40)


def page_of(venue: str, symbol: str, interval: str = TRADES, **settings: str) -> Page:
    page = TIMED[venue](settings).ask(symbol, interval, BEGIN_NS, BEGIN_NS + HOUR_NS)
    assert isinstance(page, Page)
    return page


def next_url(url: str) -> bytes:
    return json.dumps({"results": [], "status": "OK", "next_url": url}).encode()


@pytest.mark.parametrize(
    ("venue", "symbol", "interval", "target", "rows", "cost"),
    [
        (
            "alpaca", "BRK.B", "1m",
            f"/v2/stocks/bars?symbols=BRK.B&timeframe=1Min&{TIMES}&limit=10000&adjustment=raw&feed=iex&sort=asc",
            10_000, 1.0,
        ),
        ("alpaca", "AAPL", TRADES, f"/v2/stocks/trades?symbols=AAPL&{TIMES}&limit=5000&feed=iex&sort=asc", 5_000, 1.0),
        (
            "alpaca_crypto", "BTCUSD", "1h",
            f"/v1beta3/crypto/us/bars?symbols=BTC/USD&timeframe=1Hour&{TIMES}&limit=10000&sort=asc",
            10_000, 1.0,
        ),
        (
            "alpaca_crypto", "ETHBTC", TRADES,
            f"/v1beta3/crypto/us/trades?symbols=ETH/BTC&{TIMES}&limit=5000&sort=asc",
            5_000, 1.0,
        ),
        (
            "massive", "BRK.B", "5m",
            "/v2/aggs/ticker/BRK.B/range/5/minute/1767625200000/1767628799999?adjusted=false&sort=asc&limit=50000",
            20_000, 1.0,
        ),
        (
            "massive", "AAPL", TRADES,
            f"/v3/trades/AAPL?{STAMPS}&order=asc&sort=timestamp&limit=5000",
            5_000, 0.01,
        ),
    ],
)  # fmt: skip
def test_a_request_has_the_window_as_the_venue_counts_it(
    venue: str, symbol: str, interval: str, target: str, rows: int, cost: float
) -> None:
    """From its beginning, included, to its end, not included; prices as they were, oldest first."""
    assert page_of(venue, symbol, interval) == Page(target, rows, cost)


@pytest.mark.parametrize(
    ("feed", "asked"), [("iex", "iex"), ("sip", "sip"), ("delayed_sip", "sip"), ("test", "iex"), (None, "iex")]
)
def test_history_is_of_the_feed_that_is_read_live(feed: str | None, asked: str) -> None:
    """The delayed feed's is the tape's; the test feed has none, and its symbol no trades elsewhere."""
    settings = {} if feed is None else {"ALPACA_FEED": feed}
    for interval in ("1m", TRADES):
        assert f"&feed={asked}&" in page_of("alpaca", "AAPL", interval, **settings).target
        assert "feed" not in page_of("alpaca_crypto", "BTCUSD", interval, **settings).target


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 2 * 10**7))
def test_massive_s_trades_are_asked_for_with_the_window_that_they_are_read_in(begin: int, end: int, at: int) -> None:
    """Their times are cut off to milliseconds: one just behind a window's end would be in no answer, and before it."""
    page = MassiveTimed().ask("AAPL", TRADES, BEGIN_NS + begin, BEGIN_NS + end)
    assert isinstance(page, Page)
    query = dict(parse_qsl(urlsplit(page.target).query))
    asked = int(query["timestamp.gte"]) <= BEGIN_NS + at < int(query["timestamp.lt"])
    assert asked == (begin <= at // 10**6 * 10**6 < end)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("interval", ["1s", "1d", "7m"])
def test_bars_that_do_not_fit_are_refused(venue: str, interval: str) -> None:
    """A day of theirs begins at midnight in America; the others they do not have."""
    found = TIMED[venue]().ask("X", interval, BEGIN_NS, BEGIN_NS + HOUR_NS)
    assert found == PermanentError(f"{venue} has no past bars of {interval}")


@pytest.mark.parametrize("venue", VENUES)
def test_a_symbol_that_the_venue_cannot_have_is_refused(venue: str) -> None:
    """With what would be one."""
    found = TIMED[venue]().ask("BTC_USDT.BINANCE", "1m", BEGIN_NS, BEGIN_NS + HOUR_NS)
    assert isinstance(found, PermanentError)
    assert f"{venue} has no symbol of the form" in found.reason


def test_keys_are_in_headers() -> None:
    """As each of the two wants them; crypto needs none, and gets none."""
    assert TIMED["alpaca"]().headers(SETTINGS) == {
        "APCA-API-KEY-ID": "test-alpaca_key",
        "APCA-API-SECRET-KEY": "test-alpaca_secret",
    }
    assert TIMED["massive"]().headers(SETTINGS) == {"Authorization": "Bearer test-massive_api_key"}
    assert TIMED["alpaca_crypto"]().headers(SETTINGS) == {}


@pytest.mark.parametrize(
    ("venue", "settings", "remedy"),
    [
        ("alpaca", {"ALPACA_KEY": ""}, "set ALPACA_KEY"),
        ("alpaca", {"ALPACA_SECRET": ""}, "set ALPACA_SECRET"),
        ("alpaca", {"ALPACA_DRY_RUN": "true"}, "unset ALPACA_DRY_RUN"),
        ("massive", {"MASSIVE_API_KEY": ""}, "set MASSIVE_API_KEY"),
    ],
)
def test_without_a_key_it_is_told_what_to_set(venue: str, settings: dict[str, str], remedy: str) -> None:
    """Before anything is asked for; nor is anything asked for if the feed is to be dry."""
    with pytest.raises(SettingsError, match=f"'s past cannot be asked for: {remedy}$"):
        TIMED[venue]().headers({**SETTINGS, **settings})


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("interval", ["1m", TRADES])
def test_no_key_is_in_a_target(venue: str, interval: str) -> None:
    """Targets are written to Kafka and to the log."""
    symbol = provider(venue).default_symbols[0]
    target = page_of(venue, symbol, interval, **SETTINGS).target
    assert not [name for name in SETTINGS if SETTINGS[name] in target]


@pytest.mark.parametrize("venue", ["alpaca", "alpaca_crypto"])
@given(tokens=st.lists(TOKENS, min_size=1, max_size=3, unique=True))
def test_alpaca_s_token_leads_to_the_next_page(venue: str, tokens: list[str]) -> None:
    """In place of the last one, whatever characters it has; the request is otherwise the same, and of the same head."""
    timed, symbol = TIMED[venue](), provider(venue).default_symbols[0]
    first = page = page_of(venue, symbol)
    for token in tokens:
        following = timed.more(page, json.dumps({"trades": {}, "next_page_token": token}).encode())
        assert following is not None
        page = following
    assert page == first._replace(target=page.target)
    before, after = (parse_qs(urlsplit(each.target).query, strict_parsing=True) for each in (first, page))
    assert after == {**before, "page_token": [tokens[-1]]}
    routes = [provider(venue).route(rest_frame(each.target, TRADES, b"[]")) for each in (first, page)]
    assert routes[0] == routes[1] == (symbol.encode(), b"trade")


@pytest.mark.parametrize("body", [b'{"trades":{},"next_page_token":null}', b'{"trades":{},"next_page_token":""}'])
def test_alpaca_s_last_page_has_no_token(body: bytes) -> None:
    """Then the window is done."""
    assert TIMED["alpaca"]().more(page_of("alpaca", "AAPL"), body) is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"trades":{}}', msgspec.ValidationError),
        (b'{"trades":{},"next_page_token":7}', msgspec.ValidationError),
        (b'{"trades":{},"next_page_token":"%s"}' % (b"x" * 1_001), FrameError),
        (b"<html>", msgspec.DecodeError),
    ],
)
def test_alpaca_s_answer_without_a_sensible_token_is_an_error(body: bytes, error: type[Exception]) -> None:
    """A missing one is not taken for the end: trades would be missed without a word."""
    with pytest.raises(error):
        TIMED["alpaca"]().more(page_of("alpaca", "AAPL"), body)


@pytest.mark.parametrize("cursor", ["YXA9MQ", "YXA9MQ==", "a+b/c="])
@pytest.mark.parametrize("host", ["https://api.massive.com", "https://api.polygon.io", "http://127.0.0.1:9"])
def test_massive_s_next_page_is_asked_for_where_the_first_one_was(host: str, cursor: str) -> None:
    """Whatever host the answer names, and without a key that it may have."""
    page = page_of("massive", "AAPL")
    quoted = cursor.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    found = MassiveTimed().more(page, next_url(f"{host}/v3/trades/AAPL?apiKey=secret&cursor={quoted}"))
    assert found == page._replace(target=f"/v3/trades/AAPL?cursor={quoted}")
    assert provider("massive").route(rest_frame(found.target, TRADES, b"[]")) == (b"AAPL", b"trade")


def test_massive_s_next_page_of_aggregates_begins_later() -> None:
    """Its path has the time to go on from."""
    page, path = page_of("massive", "AAPL", "1h"), "/v2/aggs/ticker/AAPL/range/1/hour/1767628800000/1767632399999"
    found = MassiveTimed().more(page, next_url(f"https://api.massive.com{path}?cursor=bGltaXQ"))
    assert found == page._replace(target=f"{path}?cursor=bGltaXQ")
    assert provider("massive").route(rest_frame(found.target, "1h", b"[]")) == (b"AAPL", b"bar")


@pytest.mark.parametrize(("begin", "is_whole"), [(0, False), (60_000, False), (3_599_999, False), (3_600_000, True)])
def test_massive_s_page_that_ends_within_an_aggregate_is_an_error(begin: int, is_whole: bool) -> None:
    """The next page would have the whole one, or the rest of it: the first to come would stand."""
    page, last = page_of("massive", "AAPL", "1h"), 1_767_625_200_000
    path = f"/v2/aggs/ticker/AAPL/range/1/hour/{last + begin}/1767632399999?cursor=a"
    body = json.dumps({"results": [{"t": last - 3_600_000}, {"t": last}], "next_url": f"https://x{path}"}).encode()
    if is_whole:
        assert MassiveTimed().more(page, body) == page._replace(target=path)
    else:
        with pytest.raises(FrameError, match=f"within an aggregate: the next one begins at {last + begin} ms"):
            MassiveTimed().more(page, body)


@pytest.mark.parametrize("body", [b"{}", b'{"next_url":null}', b'{"next_url":""}'])
def test_massive_s_last_page_names_no_other(body: bytes) -> None:
    """Then the window is done."""
    assert MassiveTimed().more(page_of("massive", "AAPL"), body) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://api.massive.com/v3/trades/MSFT?cursor=a",
        "https://api.massive.com/v3/quotes/AAPL?cursor=a",
        "https://api.massive.com/v2/aggs/ticker/AAPL/range/1/hour/1/2?cursor=a",
        f"https://api.massive.com/v3/trades/AAPL?cursor={'x' * 1_001}",
        "https://api.massive.com/v3/trades/AAPL",
        "https://api.massive.com/v3/trades/AAPL?cursor=",
        "https://[/v3/trades/AAPL?cursor=a",
        "next",
    ],
)
def test_massive_s_next_page_of_something_else_is_an_error(url: str) -> None:
    """Its trades would be taken for those of this symbol."""
    with pytest.raises(FrameError, match="a next page"):
        MassiveTimed().more(page_of("massive", "AAPL"), next_url(url))


@given(st.binary(max_size=60) | st.text(max_size=40).map(next_url))
@pytest.mark.parametrize("venue", VENUES)
def test_whatever_is_answered_there_is_a_page_or_an_error_that_readers_expect(venue: str, body: bytes) -> None:
    """It comes from the wire."""
    try:
        found = TIMED[venue]().more(page_of(venue, provider(venue).default_symbols[0]), body)
    except (FrameError, msgspec.MsgspecError, UnicodeDecodeError):
        return
    assert found is None


@pytest.mark.parametrize(
    ("limit", "left", "load"),
    [
        ("200", "150", 0.25),
        ("200", "0", 1.0),
        ("200", "200", 0.0),
        ("9" * 5_000, "1", 1.0),
        ("0", "0", None),
        ("", "", None),
        ("²", "1", None),
    ],
)
def test_alpaca_reports_how_much_of_the_keys_limit_is_used(limit: str, left: str, load: float | None) -> None:
    """By whomever, with these keys; what is no number says nothing."""
    headers = {"x-ratelimit-limit": limit, "x-ratelimit-remaining": left}
    assert TIMED["alpaca"]().load(headers) == load
    assert TIMED["massive"]().load(headers) is None


@pytest.mark.parametrize(
    ("environment", "sure"),
    [
        ({}, True),
        ({"ALPACA_FEED": "sip"}, True),
        ({"ALPACA_WS_URL": "wss://stream.data.sandbox.alpaca.markets/v2/iex"}, None),
        ({"ALPACA_WS_URL": "ws://127.0.0.1:9440/alpaca/v2/iex"}, False),
    ],
)
def test_alpaca_s_sandbox_and_the_exchange_are_two_sites(environment: dict[str, str], sure: bool | None) -> None:
    """Trades of one would be history of the other; an unknown address is doubted."""
    timed = TIMED["alpaca"]()
    if sure is None:
        with pytest.raises(SettingsError, match="sandbox"):
            timed.check_addresses(environment)
    else:
        assert (timed.check_addresses(environment) is None) is sure


@pytest.mark.parametrize(
    "host", ["socket.massive.com", "delayed.massive.com", "socket.polygon.io", "delayed.polygon.io"]
)
def test_massive_is_one_site_by_either_name(host: str) -> None:
    """The vendor was renamed."""
    assert MassiveTimed().check_addresses({"MASSIVE_WS_URL": f"wss://{host}/stocks"}) is None


def test_massive_s_free_plan_is_not_asked_more_than_five_times_a_minute() -> None:
    """In any minute; trades, which it does not have, are asked for as fast as they come."""
    budget, asked = Budget(MassiveTimed.limits), [0.0]
    while asked[-1] < 300:
        budget.spend(page_of("massive", "AAPL", "1m").cost, asked[-1])
        asked.append(asked[-1] + budget.wait_s(1.0, asked[-1]))
    assert max(sum(at <= other <= at + 60 for other in asked) for at in asked) == 5
    assert page_of("massive", "AAPL").cost / MassiveTimed.limits.per_s < 0.2


class Plain(Timed):
    """A venue whose requests depend on no setting."""

    name, default_url = "massive", "https://api.example.com"
    error, limits, intervals = MassiveTimed.error, MassiveTimed.limits, MassiveTimed.intervals
    bars = Endpoint("/bars?{begin_iso},{end_iso},{last_iso}", 10)
    complaint = MassiveTimed.complaint


def test_times_are_written_to_the_nanosecond() -> None:
    """The last one of a window is a nanosecond before its end."""
    page = Plain(SETTINGS).ask("AAPL", "1m", BEGIN_NS, BEGIN_NS + 1)
    begin, end = "2026-01-05T15:00:00.000000000Z", "2026-01-05T15:00:00.000000001Z"
    assert page == Page(f"/bars?{begin},{end},{begin}", 10, 1.0)
