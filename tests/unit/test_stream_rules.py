"""mdstream/stream/rules.py: which sources an instrument may use, by name, by pattern or by default."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_histories import Fault, Raw, history, new_stream
from stream_outputs import RAW, events, read_into, saved

from mdstream.stream import checkpoint
from mdstream.stream.ledger import Ledger
from mdstream.stream.rules import Override, Policy, Rules

NAMES = ("binance", "coinbase", "okx")
SYMBOLS = ("BTCUSDT", "BTCUSD", "ETHUSDT", "BTCUSDT-PERP", "AAPL", "BRK.B")
PATTERNS = (*SYMBOLS, "*", "*USDT", "BTC*", "*TC*", "B*T", "*-PERP", "*USD*", "*.B")

some_sources = st.lists(st.sampled_from(NAMES), unique=True, max_size=3).map(tuple)
some_overrides = st.dictionaries(
    st.sampled_from(PATTERNS), st.tuples(some_sources, st.none() | st.booleans()), max_size=8
).map(lambda found: tuple(Override(pattern, *rest) for pattern, rest in found.items()))

# ------------------------------------------------------------------------------------------- the most specific setting


@pytest.mark.parametrize(
    ("symbol", "sources"),
    [
        ("ETHUSDT", ("okx",)),  # the exact name
        ("ETHUSDT-PERP", ("coinbase",)),  # the longer pattern
        ("ETHUSD", ("coinbase",)),
        ("BTCUSDT", ("binance", "okx")),  # the only pattern
        ("AAPL", NAMES),  # none
    ],
)
def test_exact_name_wins_over_patterns_and_the_longer_pattern_over_the_shorter(
    symbol: str, sources: tuple[str, ...]
) -> None:
    """`*` matches any text."""
    overrides = (
        Override("ETHUSDT", ("okx",)),
        Override("ETHUSD*", ("coinbase",)),
        Override("*USDT", ("binance", "okx")),
    )
    assert Rules(Policy(NAMES), overrides).of(symbol).sources == sources


def test_override_leaves_what_it_does_not_set_to_the_less_specific() -> None:
    """Sources and policy are resolved each for itself."""
    rules = Rules(Policy(NAMES, named=False), (Override("*USDT", ("okx", "binance")), Override("ETHUSDT", merge=True)))
    assert rules.of("ETHUSDT") == Policy(("okx", "binance"), merge=True, named=True)
    assert rules.of("BTCUSD") == Policy(NAMES, merge=False, named=False)


@given(some_overrides, st.sampled_from(SYMBOLS), some_sources.filter(bool), st.booleans())
def test_each_value_is_that_of_the_most_specific_override_that_sets_it(
    overrides: tuple[Override, ...], symbol: str, sources: tuple[str, ...], merge: bool
) -> None:
    """Exact name, then the longest pattern, of equally long ones the last in alphabetical order; else the default."""
    order = sorted(overrides, key=lambda each: (len(each.pattern), each.pattern), reverse=True)
    ranked = [each for each in order if each.pattern == symbol]
    ranked += [each for each in order if each.pattern != symbol and fnmatchcase(symbol, each.pattern)]
    found = Rules(Policy(sources, merge, named=False), overrides).of(symbol)
    assert found.sources == next((each.sources for each in ranked if each.sources), sources)
    assert found.merge == next((each.merge for each in ranked if each.merge is not None), merge)
    assert found.named == any(each.sources for each in ranked)


@given(some_overrides, st.sampled_from(SYMBOLS), st.randoms())
def test_order_of_the_settings_decides_nothing(overrides: tuple[Override, ...], symbol: str, random: Random) -> None:
    """A file and a variable may list the same settings in another order."""
    shuffled = random.sample(overrides, len(overrides))
    assert Rules(Policy(NAMES), tuple(shuffled)).of(symbol) == Rules(Policy(NAMES), overrides).of(symbol)


# ------------------------------------------------------------------------------------------ who may stand in for whom

coverages = st.fixed_dictionaries({name: st.sampled_from(("venue", "consolidated", "iex")) for name in NAMES})


@given(coverages, st.permutations(NAMES))
def test_sources_by_default_cover_what_the_first_one_covers(coverage: dict[str, str], arrivals: list[str]) -> None:
    """Whoever has data first decides, in any order of arrival: nobody with another coverage stands in for it."""
    rules = Rules(Policy(NAMES, named=False), coverage=coverage)
    first = arrivals[0]
    allowed = {name for name in arrivals if rules.allows("AAPL", name, beside=first)}
    assert allowed == {name for name in NAMES if coverage[name] == coverage[first]}


@given(coverages, some_sources.filter(bool), st.sampled_from(NAMES))
def test_sources_that_are_named_are_allowed_whatever_they_cover(
    coverage: dict[str, str], sources: tuple[str, ...], beside: str
) -> None:
    """And no others."""
    rules = Rules(Policy(NAMES, named=False), (Override("AAPL", sources),), coverage)
    assert {name for name in NAMES if rules.allows("AAPL", name, beside=beside)} == set(sources)


def test_source_that_is_gone_shuts_nobody_out() -> None:
    """The followed source of a restored state may be a provider that was removed since."""
    assert Rules(Policy(NAMES, named=False), coverage=dict.fromkeys(NAMES, "venue")).allows(
        "AAPL", "okx", beside="removed"
    )


# ----------------------------------------------------------------------------------------------------- in the stream

STALL = history([Fault("binance", "stall", 10_000, 20_000)], seconds=40, seed=1).log
"""Binance stalls for half of the time while OKX goes on."""
SAME, OTHER = {"binance": "venue", "okx": "venue"}, {"binance": "venue", "okx": "consolidated"}


def published(rules: Rules, log: list[Raw]) -> set[str]:
    """The providers of the trades on the instrument's canonical topic."""
    return {trade["provider"] for trade in events(new_stream(rules).step(log).trades) if trade["symbol"] == "BTCUSDT"}


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(
    ("coverage", "named", "providers"),
    [(SAME, False, {"binance", "okx"}), (OTHER, False, {"binance"}), (OTHER, True, {"binance", "okx"})],
)
def test_feed_of_another_coverage_is_published_only_if_it_is_named(
    coverage: dict[str, str], named: bool, merge: bool, providers: set[str]
) -> None:
    """Neither as a stand-in nor merged: its volume is another."""
    assert published(Rules(Policy(NAMES, merge, named), coverage=coverage), STALL) == providers


def test_coverage_holds_after_a_restart() -> None:
    """The other source may be the first with data after it: the followed one is in the state."""
    rules = Rules(Policy(NAMES, named=False), coverage=OTHER)
    before = new_stream(rules)
    cut = len(STALL) // 2
    written = saved(before, before.step(STALL[:cut]))
    after = new_stream(rules, checkpoint.read(read_into(Ledger(RAW, checkpoint.LAYOUT), written)))
    first = next(record for record in STALL[cut:] if dict(record.headers)["k"] == b"trade")
    assert dict(first.headers)["p"] == b"okx"
    assert {trade["provider"] for trade in events(after.step(STALL[cut:]).trades)} == {"binance"}


def test_only_feeds_of_the_very_same_symbol_stand_in_for_each_other() -> None:
    """A venue's swap goes on while another's spot stalls: it has the same base and quote, and is another instrument."""
    swap = [replace(record, value=(record.value or b"").replace(b"BTC-USDT", b"BTC-USDT-SWAP")) for record in STALL]
    assert published(Rules(Policy(NAMES)), swap) == {"binance"}
