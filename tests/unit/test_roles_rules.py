"""From settings to the stream's rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdstream.config import load
from mdstream.errors import SettingsError
from mdstream.roles.rules import ALERTS, rules_of
from mdstream.stream.failover import Limits
from mdstream.stream.gaps import GapLimits
from mdstream.stream.rules import Policy, Rules
from mdstream.venues.providers import FEEDS, PROVIDERS


def test_defaults_of_the_settings_are_those_of_the_stream() -> None:
    """One truth: what docs/failover.md says, what `load()` gives, and what the rules are without any settings."""
    by_default = Policy(tuple(PROVIDERS), named=False)
    coverage = {name: provider.coverage for name, provider in PROVIDERS.items()}
    assert rules_of(load()) == Rules(by_default, (ALERTS,), coverage, limits=Limits(), gaps=GapLimits())


def test_crypto_venues_of_today_stand_in_for_each_other_by_default() -> None:
    """Each carries all of its own trades. A feed of one stock exchange is no stand-in for one of all."""
    rules, crypto = rules_of(load()), [name for name in FEEDS if PROVIDERS[name].market == "crypto"]
    assert all(rules.allows("BTCUSDT", one, beside=other) for one in crypto for other in crypto)
    assert not rules.allows("AAPL", "alpaca", beside="massive")
    assert not rules.allows("AAPL", "massive", beside="alpaca")


def test_instrument_may_have_sources_and_a_policy_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not say it has from the rest."""
    monkeypatch.setenv("MDSTREAM_SOURCES", "okx, binance")
    monkeypatch.setenv("MDSTREAM_INSTRUMENTS", '{"ethusdt":{"policy":"merge"},"SOLUSDT":{"sources":"binance"}}')
    rules = rules_of(load())
    assert rules.of("BTCUSDT") == Policy(("okx", "binance"))
    assert rules.of("ETHUSDT") == Policy(("okx", "binance"), merge=True)
    assert rules.of("SOLUSDT") == Policy(("binance",))


def test_instruments_may_be_set_by_pattern(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In mdstream.toml as a table [instruments."*USDT"], in the environment as a key; the case does not matter."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mdstream.toml").write_text('[instruments."*usdt"]\nsources = ["okx", "binance"]\n')
    assert rules_of(load()).of("ETHUSDT") == Policy(("okx", "binance"), named=True)
    monkeypatch.setenv("MDSTREAM_INSTRUMENTS", '{"*USDT":{"sources":["okx"]},"BTCUSDT":{"policy":"merge"}}')
    rules = rules_of(load())
    assert rules.of("BTCUSDT") == Policy(("okx",), merge=True)
    assert rules.of("BTCUSD") == Policy(tuple(PROVIDERS), named=False)


def test_alerts_have_their_own_source_whatever_venues_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an alert would be accepted, and never be on md.trades; a longer pattern can still say otherwise."""
    monkeypatch.setenv("MDSTREAM_SOURCES", "okx,binance")
    monkeypatch.setenv("MDSTREAM_INSTRUMENTS", '{"*":{"sources":["okx"]},"NASDAQ:*.TV":{"sources":["binance"]}}')
    rules = rules_of(load())
    assert rules.of("BINANCE:BTCUSDT.TV").sources == ("tradingview",)
    assert rules.of("NASDAQ:AAPL.TV").sources == ("binance",)
    assert rules.of("BTCUSDT").sources == ("okx",)


def test_limits_are_in_nanoseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDSTREAM_STALE_AFTER_S", "1.5")
    monkeypatch.setenv("MDSTREAM_GAP_AFTER_S", "0.25")
    rules = rules_of(load())
    assert (rules.limits.stale_after_ns, rules.gaps.after_ns) == (1_500_000_000, 250_000_000)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MDSTREAM_SOURCES", "binance,mtgox", "no provider 'mtgox'"),
        ("MDSTREAM_POLICY", "both", "MDSTREAM_POLICY"),
        ("MDSTREAM_INSTRUMENTS", '{"BTCUSDT":{"source":"okx"}}', "MDSTREAM_INSTRUMENTS.BTCUSDT.source"),
        ("MDSTREAM_STALE_AFTER_S", "0", "MDSTREAM_STALE_AFTER_S"),
    ],
)
def test_setting_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message):
        rules_of(load())
