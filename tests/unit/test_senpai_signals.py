"""SenpAI's rules, signals and messages."""

from __future__ import annotations

import json
import random
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from senpai_naive import BTC, MS, T0, Any_, S, alerts, quote, rows, run, signals, switched, trade

from mdstream.config.groups import Senpai
from mdstream.errors import SettingsError
from mdstream.events import encode
from mdstream.senpai.configured import limits_of
from mdstream.senpai.engine import Engine, Limits
from mdstream.senpai.features import FEATURES
from mdstream.senpai.messages import Features, schema
from mdstream.senpai.messages import encode as encode_message
from mdstream.senpai.signals import DEFAULTS, Armed, Rule
from mdstream.tools import schema as schema_command

RULE = Rule("up", "long", {"return_10s": 0.01}, {"spread_bps": 5.0})


def row(at_s: float, change: float | None, spread: float | None = 1.0) -> Features:
    return Features(BTC, T0 + int(at_s * S), "binance", T0, {"return_10s": change, "spread_bps": spread}, True)


def fired(*changes: float | None, rule: Rule = RULE, step_s: float = 60) -> list[int]:
    """The numbers of the rows that make a signal."""
    armed = Armed(rule)
    return [n for n, change in enumerate(changes) if armed.step(row(n * step_s, change), tuple) is not None]


def test_a_signal_is_made_once_until_the_conditions_are_missed_by_the_hysteresis() -> None:
    """0.01 with a fifth of hysteresis: 0.0085 does not arm it again, 0.0079 does."""
    assert fired(0.009, 0.01, 0.02, 0.0085, 0.02, 0.0079, 0.02) == [1, 6]


def test_a_missing_value_neither_makes_a_signal_nor_arms_a_rule() -> None:
    assert fired(None, 0.02, None, 0.02) == [1]


def test_a_condition_that_is_missed_arms_the_rule_though_another_is_unknown() -> None:
    armed = Armed(RULE)
    given_rows = row(0, 0.02), row(60, 0.0, None), row(120, 0.02)
    assert [armed.step(each, tuple) is not None for each in given_rows] == [True, False, True]


def test_the_cool_down_holds_a_signal_back() -> None:
    """30 s: the rule is armed again at 20 s; its conditions still hold when the time is over."""
    assert fired(0.02, 0.0, 0.02, 0.02, step_s=10) == [0, 3]


def test_what_blocks_a_signal_is_kept_and_holds_it_back() -> None:
    armed = Armed(RULE)
    assert armed.step(row(0, 0.02), lambda: ("stale", "late")) is None
    held = armed.blocked
    assert armed.step(row(1, 0.0), lambda: ("stale",)) is None
    assert (held, armed.blocked) == (("stale", "late"), ())
    assert armed.step(row(2, 0.02), tuple) is not None


@pytest.mark.parametrize(("change", "confidence"), [(0.01, 0.5), (0.015, 0.75), (0.02, 0.9), (0.5, 0.9)])
def test_confidence_is_by_the_condition_that_is_least_exceeded(change: float, confidence: float) -> None:
    """The spread of 1 of 5 bps limits it to 0.9."""
    signal = Armed(RULE).step(row(0, change), tuple)
    assert signal is not None
    assert signal.confidence == pytest.approx(confidence)
    assert signal.id == f"up.1.{BTC}.{T0}"


def test_wrong_rules_are_refused() -> None:
    with pytest.raises(SettingsError, match="rule x: returns: expected some of mid, "):
        Rule("x", "long", {"returns": 1.0})
    with pytest.raises(SettingsError, match="rule x has no condition"):
        Rule("x", "long")


def rise(first_s: float, step: float = 0.0002, seconds: float = 30, tail: tuple[Any_, ...] = ()) -> list[Any_]:
    """Quotes and trades of 100, ten a second, that rise by `step` each from `first_s` on."""
    events: list[Any_] = []
    price = 100.0
    for n in range(int((first_s + seconds) * 10)):
        price *= 1 + (step if n >= first_s * 10 else 0)
        events += [quote(n, n * 100, price - 0.001, price + 0.001), trade(n, n * 100 + 1, price, 1.0)]
    return events + list(tail)


def naive_signals(found: list[Features], blocked: set[int]) -> list[tuple[str, int]]:
    """Rule and T of each signal of the defaults, computed from the rows' features with plain comparisons."""
    out = []
    for name, sign in (("momentum_long", 1), ("momentum_short", -1)):
        active, last = False, None
        for each in found:
            change, volume, spread = (each.features[key] for key in ("return_10s", "trade_volume_10s", "spread_bps"))
            if (change is not None and sign * change < 0.0008) or (volume is not None and volume < 0.8) or (
                spread is not None and spread > 6.0):  # fmt: skip
                active = False
            holds = change is not None and volume is not None and spread is not None and (
                sign * change >= 0.001 and volume >= 1 and spread <= 5)  # fmt: skip
            if holds and not active and each.ts not in blocked and (last is None or each.ts >= last + 30 * S):
                out.append((name, each.ts))
                active, last = True, each.ts
    return sorted(out)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1 << 32))
def test_signals_are_those_of_the_rules_computed_plainly(seed: int) -> None:
    """Over walks with holes, switches, old quotes and high latency; the blocks are computed from the stream, too."""
    rng = random.Random(seed)
    events: list[Any_] = []
    price, at_ms, drift, switches, number = 100.0, 0, 0.0, [], 0
    for _ in range(500):
        at_ms += rng.choice([100, 100, 300, 900])
        number += rng.choice([1] * 80 + [2])
        drift = rng.choice([drift] * 20 + [-2e-4, 0, 2e-4])
        price *= 1 + drift
        if rng.random() < 0.005:
            events.append(switched(at_ms))
            switches.append(T0 + at_ms * MS)
        half = rng.choice([0.001, 0.001, 0.03, 0.05])
        events.append(trade(number, at_ms, price, rng.choice([0.01, 0.2, 0.5])))
        if rng.random() < 0.8:
            events.append(quote(len(events), at_ms, price - half * price / 100, price + half * price / 100))
    limits = Limits(since_ns=T0 - 60 * S, max_quote_age_ns=1 * S)
    made = run(events, limits)
    quotes = {row.ts: row.ts_quote for row in rows(made)}
    blocked = {
        row.ts
        for row in rows(made)
        if {"return_10s", "trade_volume_10s"} & set(row.incomplete)
        or any(row.ts - 10 * S < each for each in switches if each <= row.ts)
        or (quoted := quotes[row.ts]) is None
        or row.ts - quoted > S
    }
    assert sorted((each.rule, each.ts) for each in signals(made)) == naive_signals(rows(made), blocked)


def test_a_rise_makes_one_signal_with_its_features() -> None:
    made = run(rise(15))
    (signal,) = signals(made)
    (found,) = [each for each in rows(made) if each.ts == signal.ts]
    assert (signal.rule, signal.version, signal.direction) == ("momentum_long", 1, "long")
    assert signal.features == found.features
    assert json.loads(encode_message(signal))["type"] == "signal"


def test_a_fall_makes_a_short_one_and_repeats_make_none() -> None:
    """The same events again change nothing; another run gives the same id."""
    events = rise(15, -0.0002)
    (signal,) = signals(run(events))
    assert signal.direction == "short"
    assert signals(run([each for event in events for each in (event, event)])) == [signal]


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 1500))
def test_a_restart_changes_neither_rows_nor_signals(cut: int) -> None:
    """From the memory and the last minute of events; what was sent before is not sent again."""
    events, limits = rise(35, seconds=40), Limits(since_ns=T0 - 60 * S)
    first, second = Engine(limits), Engine()
    made = [message for event in events[:cut] for message in first.step(encode(event))]
    second.remember(first.memory())
    made += [message for event in events[max(0, cut - 1300) :] for message in second.step(encode(event))]
    made += second.advance(events[-1].ts_recv + 3 * S)
    whole = run(events, limits)
    assert rows(made) == rows(whole)
    assert signals(made) == signals(whole) != []


@pytest.mark.parametrize("reason", ["stale", "incomplete", "switched", "late"])
def test_a_signal_is_not_made_of_what_cannot_be_trusted(reason: str) -> None:
    """Why not is an alert, which ends when the rule is free."""
    events, limits = rise(15, seconds=4), Limits()
    if reason == "switched":
        events.insert(300, switched(15_000))
    elif reason == "incomplete":
        del events[300:302]
    elif reason == "stale":
        limits = Limits(max_quote_age_ns=-1)
    else:
        limits = Limits(max_latency_ms=-1)
    made = run(events, limits)
    assert signals(made) == []
    (begun, *_) = alerts(made, "blocked")
    assert (begun.reason, begun.subject) == (f"no signal: {reason}", "momentum_long")


def test_the_schema_has_every_message() -> None:
    made = json.loads(CliRunner().invoke(schema_command.command, ["senpai"], catch_exceptions=False).output)
    assert made == json.loads(json.dumps(schema()))
    assert {"Features", "Signal", "Alert"} <= made["$defs"].keys()
    types: set[Any] = {made["$defs"][name]["properties"]["type"]["enum"][0] for name in ("Features", "Signal", "Alert")}
    assert types == {"features", "signal", "alert"}


def test_defaults_are_two_rules_on_return_volume_and_spread() -> None:
    for rule in DEFAULTS:
        assert set(rule.features) == {"return_10s", "trade_volume_10s", "spread_bps"}


def test_the_page_names_every_feature_and_the_default_rules() -> None:
    """docs/senpai.md: a feature that is added needs its formula there, and the rules shown are those in force."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "senpai.md").read_text()
    assert [name for name in FEATURES if f"`{name}`" not in page.replace("`_p95`", "`latency_ms_p95`")] == []
    (shown,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    rules = {"MDSTREAM_SENPAI_RULES": tomllib.loads(shown)["senpai_rules"]}
    assert limits_of(Senpai.model_validate(rules)).rules == DEFAULTS


def test_an_engine_returns_nothing_where_nothing_is_due() -> None:
    assert Engine().step(encode(trade(1, 0))) == []


def test_rules_come_from_the_settings() -> None:
    """None are the defaults; a rule's name is its key."""
    assert limits_of(Senpai()) == Limits()
    given = {"MDSTREAM_SENPAI_RULES": {"up": {"direction": "long", "above": {"mid": 5}, "cooldown_s": 1}}}
    (rule,) = limits_of(Senpai.model_validate(given)).rules
    assert rule == Rule("up", "long", {"mid": 5.0}, cooldown_ns=S)
    with pytest.raises(ValueError, match="expected a divisor of 1000"):
        Senpai.model_validate({"MDSTREAM_SENPAI_ROWS_PER_S": 3})
