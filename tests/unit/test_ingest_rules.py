"""The ingestor's rules: when to try again, what is healthy, what was asked for."""

from __future__ import annotations

import itertools
import random
import re
import sys
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream import config
from mdstream.errors import ListingError, SettingsError, SymbolError, UnknownError
from mdstream.events import ListedInstrument
from mdstream.ingest.feed import feed_url
from mdstream.ingest.health import problems_of
from mdstream.ingest.plan import Listing, contract_sizes_of, plan, raw_topics, wanted_of
from mdstream.ingest.selection import Selection, expand
from mdstream.net.backoff import delays_s
from mdstream.venues.providers import FEEDS, PROVIDERS, provider

# ------------------------------------------------------------------------------------------------------------- backoff


@given(st.integers())
def test_delays_stay_between_a_second_and_a_minute(seed: int) -> None:
    """Whatever the random numbers, and however many attempts it takes."""
    assert all(1 <= delay <= 60 for delay in itertools.islice(delays_s(random.Random(seed)), 100))


@given(st.integers())
def test_delays_double_up_to_a_minute(seed: int) -> None:
    """Each lies in the upper half of its ceiling: 2, 4, 8, 16, 32, 60, 60 ... seconds."""
    ceilings = [2, 4, 8, 16, 32, 60, 60, 60]
    for ceiling, delay in zip(ceilings, delays_s(random.Random(seed)), strict=False):
        assert ceiling / 2 <= delay <= ceiling


def test_delays_of_two_clients_differ() -> None:
    """Clients that a venue dropped at the same time reconnect at different times."""
    first, second = (list(itertools.islice(delays_s(random.Random(seed)), 8)) for seed in (1, 2))
    assert all(a != b for a, b in zip(first, second, strict=True))


# -------------------------------------------------------------------------------------------------------------- health


def test_ingestor_has_no_problems_when_everything_flows() -> None:
    """Feeds connected, Kafka taking records."""
    assert problems_of(started=True, feeds={"binance": None, "okx": None}, stalled_s=0.2, ready_s=10) == []


def test_feed_that_is_down_is_a_problem() -> None:
    """Each with its reason."""
    assert problems_of(started=True, feeds={"binance": None, "okx": "disconnected"}, stalled_s=0, ready_s=10) == [
        "okx: disconnected"
    ]


@pytest.mark.parametrize(("stalled_s", "count"), [(9.9, 0), (10, 1), (3600, 1)])
def test_records_that_kafka_does_not_take_are_a_problem(stalled_s: float, count: int) -> None:
    """After ten seconds. The watchdog judges whether that is our fault."""
    found = problems_of(started=True, feeds={"binance": None}, stalled_s=stalled_s, ready_s=10)
    assert found == [f"Kafka has taken nothing for {stalled_s:.0f} s"] * count


# ---------------------------------------------------------------------------------------------------------------- plan


def test_plan_names_each_symbol_once_and_canonically() -> None:
    """However it was written."""
    (wanted,) = plan("okx", ["BTCUSDT", "btc-usdt", "BTC-USDT-SWAP"])
    assert (wanted.provider.name, wanted.symbols) == ("okx", ("BTCUSDT", "BTC-USDT-SWAP"))


def test_plan_of_all_asks_every_provider() -> None:
    """Each that has a feed, for its own symbols, or for those that are given."""
    feeds = {name: PROVIDERS[name] for name in FEEDS}
    assert {w.provider.name: w.symbols for w in plan("all")} == {n: tuple(p.default_symbols) for n, p in feeds.items()}
    wanted = {w.provider.name: w.symbols for w in plan("all", ["BTCUSDT", "AAPL"])}
    assert sorted(wanted) == sorted(feeds)
    assert (wanted["okx"], wanted["alpaca"]) == (("BTCUSDT",), ("AAPL",))


@pytest.mark.parametrize(
    ("name", "settings", "remedy"),
    [
        ("alpaca", {}, "set ALPACA_KEY and ALPACA_SECRET"),
        ("alpaca_crypto", {"ALPACA_KEY": "x"}, "set ALPACA_SECRET"),
        ("alpaca", {"ALPACA_KEY": "x", "ALPACA_SECRET": "x"}, None),
        ("alpaca", {"ALPACA_KEY": "x", "ALPACA_SECRET": "x", "ALPACA_DRY_RUN": "true"}, "unset ALPACA_DRY_RUN"),
        ("massive", {}, "set MASSIVE_API_KEY"),
        ("binance", {}, None),
    ],
)
def test_provider_runs_dry_without_its_credentials(name: str, settings: dict[str, str], remedy: str | None) -> None:
    """The reason is what to set."""
    assert provider(name).dry(settings) == remedy


def test_plan_of_several_providers_has_each_once() -> None:
    """In the order given."""
    assert [w.provider.name for w in plan("okx, binance,okx", ["BTCUSDT"])] == ["okx", "binance"]


def test_plan_of_all_leaves_out_a_venue_that_has_none_of_the_symbols() -> None:
    """With the reason, which is logged; an error if no venue has any."""
    wanted = {w.provider.name: w for w in plan("all", ["BTC-USDT-SWAP"])}
    assert (wanted["binance"].symbols, wanted["okx"].symbols) == ((), ("BTC-USDT-SWAP",))
    assert wanted["binance"].refused[0].startswith("binance has no symbol of the form 'BTC-USDT-SWAP'")
    with pytest.raises(SymbolError, match="has no symbol of the form 'B T C'"):
        plan("all", ["B T C"])


@pytest.mark.parametrize(
    ("name", "symbols", "left", "refused"),
    [
        ("okx", "BTC-USDT,BTC-USDG", ("BTCUSDT",), "okx has no symbol of the form 'BTC-USDG'"),
        ("coinbase", "BTC-TUSD,BTC-USD", ("BTCUSD",), "coinbase has no symbol of the form 'BTC-TUSD'"),
        ("binance", "BTC USDT,ETHUSDT", ("ETHUSDT",), "binance has no symbol of the form 'BTC USDT'"),
    ],
)
def test_plan_refuses_a_symbol_by_name_and_keeps_the_others(
    name: str, symbols: str, left: tuple[str, ...], refused: str
) -> None:
    """One that the venue cannot have, or whose joined name would ask for something else (BTCT-USD)."""
    (wanted,) = plan(name, symbols.split(","))
    assert wanted.symbols == left
    (reason,) = wanted.refused
    assert reason.startswith(refused)
    assert "expected" in reason


def test_plan_refuses_a_provider_of_which_no_symbol_is_left() -> None:
    """With the reason of the first, and what to do."""
    with pytest.raises(
        SymbolError, match=r"'BTC-USDG': expected one in a currency that .*/okx/feed.py knows: add it to QUOTES"
    ):
        plan("okx", ["BTC-USDG"])


def test_plan_refuses_an_unknown_provider() -> None:
    """And says which there are."""
    with pytest.raises(SettingsError, match=f"no provider 'nyse': there are {', '.join(sorted(PROVIDERS))}"):
        plan("nyse", ["IBM"])


def test_plan_refuses_a_provider_without_a_feed() -> None:
    """TradingView calls us: an ingestor would wait for nothing."""
    with pytest.raises(SettingsError, match="tradingview has no feed to read: it calls `mdstream api`"):
        plan("binance,tradingview")


# ----------------------------------------------------------------------------------------------------------- selection

GROUPS = {"majors": ["BTCUSDT", "ETHUSDT"], "none": []}


def test_symbols_come_from_the_command_line_groups_and_files(tmp_path: Path) -> None:
    """Each once, in the order given; a file may have comments and any white space."""
    path = tmp_path / "symbols.txt"
    path.write_text("SOLUSDT  # the fourth\n\n# not this: DOGEUSDT\nBTCUSDT,XRPUSDT LTCUSDT\n")
    assert expand(f"LTCUSDT, @majors,file:{path},", GROUPS) == ["LTCUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no symbols in '': name some, separated by commas, like BTCUSDT,ETHUSDT"),
        (" , ,", "no symbols in ' , ,': name some"),
        ("@none", "no symbols in '@none'"),
        ("@minors", "no group @minors in mdstream.toml; it has @majors, @none"),
        ("file:gone.txt", "gone.txt cannot be read: No such file or directory"),
        ("file:binary.txt", "binary.txt is no UTF-8: invalid start byte at byte 0"),
    ],
)
def test_selection_that_comes_to_nothing_says_why(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked for, and where."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary.txt").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=re.escape(message)):
        expand(text, GROUPS)


async def test_selection_without_symbols_is_each_venues_own() -> None:
    """So the first try needs none."""
    (wanted,) = await Selection("okx", None).plan({}, {"OKX_WS_URL": "ws://127.0.0.1:1"})
    assert wanted.symbols == tuple(provider("okx").default_symbols)


def listed(
    symbol: str, volume: float | None = None, status: Literal["trading", "not_trading"] = "trading"
) -> ListedInstrument:
    return ListedInstrument(symbol, "okx", symbol, "spot", "X", "Y", None, None, "1", "X", status, 1, volume)


LISTED = [listed(f"{base}{quote}", 1.0) for base in ("ADA", "BTC", "ETH") for quote in ("USD", "USDT")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("BTCUSDT,btc-usdt", ("BTCUSDT",)),
        ("*USDT", ("ADAUSDT", "BTCUSDT", "ETHUSDT")),
        ("ETHUSD,*usdt,?THUSD", ("ETHUSD", "ADAUSDT", "BTCUSDT", "ETHUSDT")),
    ],
)
def test_patterns_stand_for_what_the_venue_lists(text: str, found: tuple[str, ...]) -> None:
    """Each symbol once, in the order given; what does not trade is taken by its name only."""
    listing = [*LISTED, listed("OLDUSDT", status="not_trading")]
    assert plan("okx", text.split(","), {"okx": listing})[0].symbols == found
    assert plan("okx", ["OLDUSDT"], {"okx": listing})[0].symbols == ("OLDUSDT",)


@given(st.lists(st.none() | st.floats(0, 1e9), min_size=1, max_size=8), st.integers(1, 10))
def test_the_top_has_the_highest_volumes(volumes: list[float | None], most: int) -> None:
    """As many as are asked for, or all; none that is left out has more than one that is there."""
    listing = [listed(f"{'ABCDEFGH'[i]}XUSDT", volume) for i, volume in enumerate(volumes)]
    wanted = wanted_of(provider("okx"), [f"top:{most}:*USDT"], listing)
    if set(volumes) == {None}:
        assert wanted.refused == (f"okx does not list top:{most}:*USDT: the venue's list has no volumes to rank by",)
        return
    by_symbol = {each.symbol: each.volume_24h or 0.0 for each in listing}
    taken = [by_symbol.pop(symbol) for symbol in wanted.symbols]
    assert len(taken) == min(most, len(volumes))
    assert taken == sorted(taken, reverse=True)
    assert not by_symbol or min(taken) >= max(by_symbol.values())


@pytest.mark.parametrize(
    ("text", "listing", "reason"),
    [
        ("BTXUSDT", LISTED, "okx does not list BTXUSDT: the nearest are BTCUSDT, "),
        ("SOL*", LISTED, "okx does not list SOL*: nothing that trades matches"),
        ("top:0:*", LISTED, "okx does not list top:0:*: expected top:COUNT:PATTERN, like top:20:*USDT"),
        ("*USDT", ListingError("okx", "HTTP 503"), "okx: *USDT needs the venue's list of instruments: HTTP 503"),
        ("top:3:*", None, "okx: top:3:* needs the venue's list of instruments: it was not asked for"),
    ],
)
def test_symbols_that_the_venue_does_not_list_are_refused_by_name(
    text: str, listing: Listing | None, reason: str
) -> None:
    """And the others stay."""
    (wanted,) = plan("okx", [text, "ETHUSDT"], {"okx": listing} if listing else None)
    (refused,) = wanted.refused
    assert refused.startswith(reason)
    assert wanted.symbols == ("ETHUSDT",)


@pytest.mark.parametrize(
    ("name", "addresses", "reason"),
    [
        (
            "okx",
            {"OKX_WS_URL": "ws://x"},
            "only OKX_WS_URL of OKX_WS_URL and OKX_API_BASE_URL is set: set both, or neither",
        ),
        ("okx", {"OKX_API_BASE_URL": "http://x"}, "only OKX_API_BASE_URL of OKX_WS_URL and OKX_API_BASE_URL is set: "),
        ("alpaca", {}, "nothing here asks this venue"),
    ],
)
async def test_venues_are_asked_where_they_are_read(name: str, addresses: dict[str, str], reason: str) -> None:
    """A websocket elsewhere, a test server's or a proxy's, lists other symbols than the venue: a pattern says so."""
    with pytest.raises(UnknownError, match=re.escape(reason)):
        await Selection(name, "X*").plan({}, addresses)


PERP = ListedInstrument("BTCUSDT-PERP", "okx", "BTC-USDT-SWAP", "perpetual", "BTC", "USDT", None, None, "0.01", "BTC",
                        "trading", 1)  # fmt: skip


def test_plan_says_what_contracts_are_worth() -> None:
    """By the venue's list; without that a contract keeps the venue's name, as its sizes stay in contracts."""
    asked = ["BTCUSDT", "btc-usdt-swap", "BTCUSDT-PERP", "ETHUSDT-PERP", "BTC-USD-SWAP"]
    contract_sizes = {"okx": {"BTCUSDT-PERP": "0.01", "SOLUSDT-PERP": "1"}}
    (wanted,) = plan("okx", asked, None, contract_sizes)
    assert wanted.symbols == ("BTCUSDT", "BTCUSDT-PERP", "ETH-USDT-SWAP", "BTC-USD-SWAP")
    assert (wanted.contract_size, wanted.in_contracts) == (contract_sizes["okx"], ("ETH-USDT-SWAP",))
    (other,) = plan("binance_usdm", ["BTCUSDT-PERP"], None, contract_sizes)
    assert (other.symbols, other.contract_size, other.in_contracts) == (("BTCUSDT-PERP",), {}, ())


def test_worths_are_known_of_venues_that_were_asked() -> None:
    """And whose sizes count contracts."""
    lists: dict[str, Listing] = {
        "okx": [PERP],
        "binance_usdm": [PERP],
        "bybit_linear": ListingError("bybit_linear", ""),
    }
    assert contract_sizes_of(lists) == {"okx": {"BTCUSDT-PERP": "0.01"}}


def test_raw_topics_are_those_of_the_markets_in_the_plan() -> None:
    """One per market, with the partitions of the settings."""
    topics = raw_topics(plan("all"), config.load(partitions=3, topic_prefix="x"))
    assert {market: (topic.name, topic.partitions) for market, topic in topics.items()} == {
        "crypto": ("x.raw.crypto", 3),
        "equities": ("x.raw.equities", 3),
    }


def test_raw_topics_refuse_a_market_that_is_not_in_the_settings() -> None:
    """Its topic would not exist."""
    with pytest.raises(SettingsError, match="no market crypto in MDSTREAM_MARKETS=equities: add it there"):
        raw_topics(plan("binance", ["BTCUSDT"]), config.load(markets="equities"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://h:1", "IB_WS_URL='ws://h:1': expected an address that begins with ib://"),
        ("ib://h", "IB_WS_URL='ib://h': expected ib://HOST:PORT or ib://HOST:PORT?clientId=NUMBER"),
        ("ib://h:99999", "expected ib://HOST:PORT"),
        ("ib://h:1?clientId=x", "expected ib://HOST:PORT"),
        ("ib://h:1?clientId=-1", "expected ib://HOST:PORT"),
        ("ib://h:1?clientid=1", "expected ib://HOST:PORT"),
    ],
)
async def test_feed_url_refuses_what_is_no_address_of_a_library(url: str, expected: str) -> None:
    """Its link judges what follows the scheme."""
    with pytest.raises(SettingsError, match=re.escape(expected)):
        feed_url(provider("ib"), {"IB_WS_URL": url})


async def test_feed_url_names_the_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is an extra; nothing else needs it."""
    monkeypatch.setitem(sys.modules, "ib_async", None)
    monkeypatch.delitem(sys.modules, "mdstream.venues.ib.link", raising=False)
    with pytest.raises(SettingsError, match=re.escape("package ib_async is not installed: pip install 'mdstream[ib]'")):
        feed_url(provider("ib"), {})


def test_feed_url_refuses_what_is_no_websocket() -> None:
    """The error names the variable that holds it."""
    with pytest.raises(SettingsError, match="OKX_WS_URL='http://x': expected an address that begins with ws://"):
        feed_url(provider("okx"), {"OKX_WS_URL": "http://x"})
