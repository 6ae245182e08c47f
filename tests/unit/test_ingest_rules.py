"""The ingestor's rules: when to try again, when a connection is dead, what is healthy, what was asked for."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream import config
from mdstream.backoff import delays_s
from mdstream.errors import SettingsError, SymbolError
from mdstream.ingest.feed import feed_url
from mdstream.ingest.health import Health, assess
from mdstream.ingest.plan import plan, raw_topics
from mdstream.ingest.watch import Watch
from mdstream.venues.providers import PROVIDERS, provider
from mdstream.watchdog.rule import Verdict

# ------------------------------------------------------------------------------------------------------------- backoff


@given(st.integers())
def test_delays_stay_between_a_second_and_a_minute(seed: int) -> None:
    """Whatever the dice say, and however many attempts it takes."""
    assert all(1 <= delay <= 60 for delay in itertools.islice(delays_s(random.Random(seed)), 100))


@given(st.integers())
def test_delays_double_up_to_a_minute(seed: int) -> None:
    """Each lies in the upper half of its ceiling: 2, 4, 8, 16, 32, 60, 60 ... seconds."""
    ceilings = [2, 4, 8, 16, 32, 60, 60, 60]
    for ceiling, delay in zip(ceilings, delays_s(random.Random(seed)), strict=False):
        assert ceiling / 2 <= delay <= ceiling


def test_delays_of_two_clients_differ() -> None:
    """Clients that a venue dropped at the same moment come back apart."""
    first, second = (list(itertools.islice(delays_s(random.Random(seed)), 8)) for seed in (1, 2))
    assert all(a != b for a, b in zip(first, second, strict=True))


# --------------------------------------------------------------------------------------------------------------- watch


Step = tuple[float, int, bool]
"""Time in seconds, frames so far, whether the backlog is full."""


def verdicts(watch: Watch, steps: list[Step]) -> list[str]:
    return [watch.step(now_s=now_s, frames=frames, blocked=blocked) for now_s, frames, blocked in steps]


def test_watch_waits_while_frames_arrive() -> None:
    """Nothing to do, however long it goes on."""
    watch = Watch(now_s=0, silence_s=30, keepalive_s=20)
    assert verdicts(watch, [(29, 1, False), (58, 2, False), (77, 3, False)]) == ["wait"] * 3


def test_watch_finds_a_silent_connection_dead() -> None:
    """
    frames  ...|                      |
    seconds    0                 30 dead
    """
    watch = Watch(now_s=0, silence_s=30, keepalive_s=None)
    assert verdicts(watch, [(29.9, 0, False), (30, 0, False)]) == ["wait", "dead"]


def test_watch_pings_before_it_gives_up() -> None:
    """
    frames  ...|
    seconds    0       10 ping        20 ping        25 dead
    """
    watch = Watch(now_s=0, silence_s=25, keepalive_s=10)
    steps: list[Step] = [(9, 0, False), (10, 0, False), (11, 0, False), (20, 0, False), (25, 0, False)]
    assert verdicts(watch, steps) == ["wait", "ping", "wait", "ping", "dead"]


def test_watch_starts_over_with_an_answer_to_its_ping() -> None:
    """Any frame is a sign of life, a pong too."""
    watch = Watch(now_s=0, silence_s=25, keepalive_s=10)
    steps: list[Step] = [(10, 0, False), (11, 1, False), (20, 1, False), (21, 1, False), (35, 1, False), (36, 1, False)]
    assert verdicts(watch, steps) == ["ping", "wait", "wait", "ping", "ping", "dead"]


def test_watch_does_not_blame_the_venue_for_our_own_pause() -> None:
    """While the backlog is full nothing is read: that silence is ours."""
    watch = Watch(now_s=0, silence_s=30, keepalive_s=20)
    steps: list[Step] = [(100, 0, True), (200, 0, True), (219, 0, False), (220, 0, False), (230, 0, False)]
    assert verdicts(watch, steps) == ["wait", "wait", "wait", "ping", "dead"]


def test_watch_is_asked_often_enough_for_its_limits() -> None:
    """No limit is missed by more than a tenth, and a second is often enough."""
    assert Watch(now_s=0, silence_s=30, keepalive_s=20).interval_s == 1.0
    assert Watch(now_s=0, silence_s=2, keepalive_s=None).interval_s == pytest.approx(0.2)


# -------------------------------------------------------------------------------------------------------------- health


FINE = Verdict("ok", live=True, ready=True)


def test_health_is_ready_when_everything_flows() -> None:
    """Feeds connected, Kafka taking records."""
    health = assess(feeds={"binance": None, "okx": None}, stalled_s=0.2, ready_s=10, verdict=FINE)
    assert health == Health(live=True, ready=True, status="ok", problems=())


def test_health_is_not_ready_but_live_while_a_feed_is_down() -> None:
    """It reconnects by itself: a restart would not help."""
    health = assess(feeds={"binance": None, "okx": "disconnected"}, stalled_s=0, ready_s=10, verdict=FINE)
    assert health == Health(live=True, ready=False, status="degraded", problems=("okx: disconnected",))


@pytest.mark.parametrize(("stalled_s", "ready"), [(9.9, True), (10, False), (3600, False)])
def test_health_follows_progress_into_kafka(stalled_s: float, ready: bool) -> None:
    """Records that nobody takes: not ready after ten seconds. Whether that is our fault is the watchdog's to say."""
    health = assess(feeds={"binance": None}, stalled_s=stalled_s, ready_s=10, verdict=FINE)
    assert (health.live, health.ready) == (True, ready)


@pytest.mark.parametrize("live", [True, False])
def test_health_is_live_as_the_watchdog_says(live: bool) -> None:
    """With its reasons beside those of the feeds."""
    stuck = Verdict("stuck", live=live, ready=False, problems=("stuck: x",))
    health = assess(feeds={"okx": "disconnected"}, stalled_s=0, ready_s=10, verdict=stuck)
    assert health == Health(live=live, ready=False, status="stuck", problems=("okx: disconnected", "stuck: x"))


# ---------------------------------------------------------------------------------------------------------------- plan


def test_plan_names_each_symbol_once_and_canonically() -> None:
    """However it was written."""
    (wanted,) = plan("okx", "BTCUSDT, btc-usdt,BTC-USDT-SWAP,")
    assert (wanted.provider.name, wanted.symbols) == ("okx", ("BTCUSDT", "BTC-USDT-SWAP"))


def test_plan_of_all_asks_every_provider() -> None:
    """Each for the same symbols."""
    assert [(w.provider.name, w.symbols) for w in plan("all", "BTCUSDT")] == [
        (n, ("BTCUSDT",)) for n in sorted(PROVIDERS)
    ]


def test_plan_of_all_refuses_a_symbol_that_one_venue_cannot_have() -> None:
    """Rather than leave it out there without a word."""
    with pytest.raises(SymbolError, match="binance has no symbol of the form 'BTC-USDT-SWAP'"):
        plan("all", "BTC-USDT-SWAP")


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
    (wanted,) = plan(name, symbols)
    assert wanted.symbols == left
    (reason,) = wanted.refused
    assert reason.startswith(refused)
    assert "expected" in reason


def test_plan_refuses_a_provider_of_which_no_symbol_is_left() -> None:
    """With the reason of the first, and what to do."""
    with pytest.raises(
        SymbolError, match=r"'BTC-USDG': expected one in a currency that .*/okx/feed.py knows: add it to QUOTES"
    ):
        plan("okx", "BTC-USDG")


@pytest.mark.parametrize("symbols", ["", " , ,"])
def test_plan_refuses_no_symbols(symbols: str) -> None:
    """With an example of some."""
    with pytest.raises(SettingsError, match=r"no symbols in .*: name some, separated by commas"):
        plan("binance", symbols)


def test_plan_refuses_an_unknown_provider() -> None:
    """And says which there are."""
    with pytest.raises(SettingsError, match="no provider 'nyse': there are binance, coinbase, okx"):
        plan("nyse", "IBM")


def test_raw_topics_are_those_of_the_markets_in_the_plan() -> None:
    """One per market, with the partitions of the settings."""
    topics = raw_topics(plan("all", "BTCUSDT"), config.load(partitions=3, topic_prefix="x"))
    assert {market: (topic.name, topic.partitions) for market, topic in topics.items()} == {
        "crypto": ("x.raw.crypto", 3)
    }


def test_raw_topics_refuse_a_market_that_is_not_in_the_settings() -> None:
    """Its topic would not exist."""
    with pytest.raises(SettingsError, match="no market crypto in MDSTREAM_MARKETS=equities: add it there"):
        raw_topics(plan("binance", "BTCUSDT"), config.load(markets="equities"))


def test_feed_url_refuses_what_is_no_websocket() -> None:
    """The error names the variable that holds it."""
    with pytest.raises(SettingsError, match="OKX_WS_URL='http://x': expected an address that begins with ws://"):
        feed_url(provider("okx"), {"OKX_WS_URL": "http://x"})
