"""Bars: what is in one, when it closes, when it is published again. Time axes: s after a full hour, one tick a second.

What is in a bar depends on the set of its trades. The properties at the end say it of generated histories, cut into any
batches, shuffled, repeated, and recomputed after crashes at any point.
"""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest
from bar_builders import (
    MS,
    RULES,
    T0,
    CrashError,
    Key,
    Raw,
    Worker,
    compacted,
    last_revisions,
    naive,
    published,
    records,
    trade,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mdstream import events
from mdstream.bars.bars import MAX_ERRORS, Bars, Collected
from mdstream.bars.rules import AHEAD_NS, SECOND_NS, Rules, interval
from mdstream.events import Bar, Trade, encode

NAMES = ("1s", "1m", "5m", "1h")
LATER = T0 * 2
"""After everything."""


def built(*trades: Trade, rules: Rules = RULES) -> dict[Key, Bar]:
    """All bars of these trades, closed at once."""
    bars = Bars(rules)
    bars.step(records(trades))
    return published(bars.collect(LATER))


def opened(*names: str) -> Rules:
    return Rules(names, lateness_ns=SECOND_NS)


def seconds(collected: Collected, name: str = "1s") -> list[tuple[float, int, int]]:
    """Of each bar of an interval: begin in s after T0, trades, revision."""
    return [
        ((tally.ts_open - T0) / SECOND_NS, tally.trades, tally.revision)
        for tally in collected.bars
        if tally.interval == name
    ]


# -- what is in a bar


def test_bar_holds_the_trades_of_its_half_open_interval() -> None:
    """
    0         1         2
    a    b   c|d        |     a, b, c in [0, 1), d at 1.000 in [1, 2)
    """
    found = built(trade(1, 0, 10, 1), trade(2, 500, 12, 2), trade(3, 999, 9, 3), trade(4, 1000, 11, 4))
    assert found["BTCUSDT", "1s", T0] == Bar("BTCUSDT", "1s", T0, 10, 12, 9, 9, 6.0, 61.0, 3, 0)
    assert found["BTCUSDT", "1s", T0 + SECOND_NS] == Bar(
        "BTCUSDT", "1s", T0 + SECOND_NS, 11, 11, 11, 11, 4.0, 44.0, 1, 0
    )
    assert found["BTCUSDT", "1h", T0] == Bar("BTCUSDT", "1h", T0, 10, 12, 9, 11, 10.0, 105.0, 4, 0)


def test_open_and_close_are_by_the_venue_s_time_not_by_arrival() -> None:
    """The trade that arrives last is the bar's first."""
    found = built(trade(1, 300, 11), trade(2, 600, 12), trade(3, 100, 10))
    assert (found["BTCUSDT", "1s", T0].open, found["BTCUSDT", "1s", T0].close) == (10, 12)


@pytest.mark.parametrize(
    ("early", "late"),
    [("9", "10"), ("99", "100"), ("5680123456", "5680123457"), ("", "1"), ("8a1f", "8a20")],
)
def test_trades_of_one_time_stand_in_the_order_of_their_ids(early: str, late: str) -> None:
    """Numbers by their value, whatever arrives first; ids that are no numbers in some fixed order."""
    one, other = trade(1, 5, 10, trade_id=early), trade(2, 5, 20, trade_id=late)
    swapped = trade(1, 5, 20, trade_id=late), trade(2, 5, 10, trade_id=early)
    for pair in ((one, other), swapped):
        bar = built(*pair)["BTCUSDT", "1s", T0]
        assert (bar.open, bar.close) == (10, 20)


def test_trades_count_executions() -> None:
    """An aggregate counts as its number of fills."""
    assert built(trade(1, 0, count=3), trade(2, 1))["BTCUSDT", "1m", T0].trades == 4


def test_our_time_is_used_where_the_venue_gives_none() -> None:
    """ts_recv then says which bar it is."""
    untimed = msgspec.structs.replace(trade(1, 1500), ts_exchange=None)
    assert ("BTCUSDT", "1s", T0 + SECOND_NS) in built(untimed)


def test_a_time_far_ahead_of_ours_is_not_believed() -> None:
    """A venue's clock that is wrong by years opens no bar there, and closes none of the others."""
    wild = msgspec.structs.replace(trade(2, 10), ts_exchange=T0 + AHEAD_NS * 1000)
    bars = Bars(RULES)
    bars.step(records([trade(1, 0), wild, trade(3, 20)]))
    assert bars.latest_ns == T0 + 20 * MS
    assert published(bars.collect(LATER)).keys() == naive([trade(1, 0)], NAMES).keys()


def test_a_clock_that_is_ahead_a_little_does_not_close_bars_early() -> None:
    """The trade is in the venue's second; the watermark goes by the smaller of the two times."""
    bars = Bars(RULES)
    bars.step(records([trade(1, 30_000, received_ms=0)]))
    assert bars.latest_ns == T0
    assert ("BTCUSDT", "1s", T0 + 30 * SECOND_NS) in published(bars.collect(LATER))


def test_symbols_do_not_mix() -> None:
    """Each has its own bars and its own seq."""
    found = built(trade(1, 0, 10, symbol="A"), trade(1, 0, 20, symbol="B"))
    assert (found["A", "1s", T0].open, found["B", "1s", T0].open) == (10, 20)


@pytest.mark.parametrize("symbol", ["BTC-USDT-SWAP", "BTC-USD-220527", "BTCUSDT_260327"])
def test_sizes_that_may_be_contracts_are_in_no_bar(symbol: str) -> None:
    """A BTC-USDT-SWAP of OKX is a hundredth of a bitcoin: taken for one, the volume is a hundred times too large."""
    bars = Bars(RULES)
    bars.step(records([trade(1, 0, symbol=symbol), trade(1, 0), trade(2, 1, -37.63, symbol=symbol)]))
    assert {key[0] for key in published(bars.collect(LATER))} == {"BTCUSDT"}
    assert bars.report().trades == Counter(trade=1, unmeasured=2)


@pytest.mark.parametrize("names", [("2s", "3s"), ("1m",), ("7s", "1m", "1h"), ("1h", "1s", "1m", "1s"), ("1d", "90s")])
def test_intervals_need_not_divide_one_another(names: tuple[str, ...]) -> None:
    """Any lengths, in any order; a name that is there twice counts once."""
    rng = random.Random(3)
    history = [trade(n, n * 1700, rng.randrange(50, 60), rng.randrange(1, 9) / 7) for n in range(1, 200)]
    assert built(*history, rules=opened(*names)) == naive(history, set(names))


# -- repeats, and what is no trade


def test_history_is_in_no_bar_and_moves_no_clock() -> None:
    """Whatever its time: a bar with a part of its trades would look like any other."""
    live, past = trade(1, 0), [replace(trade(seq, at_ms), backfilled=True) for seq, at_ms in ((2, 0), (3, 90_000))]
    assert built(live, *past) == built(live)
    bars = Bars(RULES)
    bars.step(records([live, *past]))
    assert (bars.latest_ns, bars.report().trades["backfilled"]) == (T0, 2)


def test_a_seq_counts_once() -> None:
    """At least once becomes exactly once: what is not above the last seq was there before."""
    bars = Bars(RULES)
    bars.step(records([trade(1, 0), trade(2, 1), trade(1, 0), trade(2, 1)]))
    bars.step(records([trade(2, 1), trade(3, 2)]))
    assert published(bars.collect(LATER))["BTCUSDT", "1m", T0].trades == 3
    assert bars.report().trades == Counter(trade=3, repeat=3)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{}",
        b"no json",
        b"[" * 5000,
        encode(events.Heartbeat("S", "binance", None, 1)),
        encode(trade(1, 0)).replace(b"100.0", b"1e200"),
        encode(trade(1, 0)).replace(b'"ts_recv":', b'"ts_recv":9'),
        encode(trade(1, 0)).replace(b"BTCUSDT", b"BTC\xff"),
    ],
)
def test_what_is_no_trade_is_skipped_and_logged(value: bytes | None) -> None:
    """Its neighbours are counted; a value so large that its sums could not be kept is none either."""
    bars = Bars(RULES)
    bars.step([Raw(6, encode(trade(1, 0))), Raw(7, value), Raw(8, encode(trade(2, 1)))])
    assert published(bars.collect(LATER))["BTCUSDT", "1s", T0].trades == 2
    report = bars.report()
    assert report.trades["unreadable"] == 1
    assert report.errors[0].startswith("offset 7, key b'BTCUSDT': ")


def test_reasons_are_kept_for_the_log_within_a_bound() -> None:
    """All of them are counted."""
    bars = Bars(RULES)
    bars.step([Raw(offset, b"{}") for offset in range(MAX_ERRORS + 5)])
    report = bars.report()
    assert (report.trades["unreadable"], len(report.errors)) == (MAX_ERRORS + 5, MAX_ERRORS)


# -- closing


def test_bar_closes_when_the_watermark_has_passed_its_end() -> None:
    """
    0         1         2         lateness 1 s
    a         |         b         at b the watermark is 1.000: [0, 1) closes, [2, 3) is open
    """
    bars = Bars(RULES)
    bars.step(records([trade(1, 0), trade(2, 1_999)]))
    assert not bars.is_due(bars.watermark_ns)
    assert seconds(bars.collect(bars.watermark_ns)) == []
    bars.step(records([trade(3, 2_000)], 2))
    assert bars.is_due(bars.watermark_ns)
    assert seconds(bars.collect(bars.watermark_ns)) == [(0, 1, 0)]
    assert not bars.is_due(bars.watermark_ns)


def test_a_quiet_symbol_s_bars_close_by_the_trades_of_others() -> None:
    """Time is the partition's."""
    bars = Bars(RULES)
    bars.step(records([trade(1, 0, symbol="QUIET"), trade(1, 5_000, symbol="BUSY")]))
    assert [tally.symbol for tally in bars.collect(bars.watermark_ns).bars] == ["QUIET"]


def test_a_late_trade_within_the_lateness_is_in_the_first_revision() -> None:
    """Nobody has seen the bar yet."""
    bars = Bars(RULES)
    bars.step(records([trade(1, 100), trade(2, 1_900), trade(3, 200)]))
    bars.collect(bars.watermark_ns)
    bars.step(records([trade(4, 2_500)], 3))
    assert seconds(bars.collect(bars.watermark_ns)) == [(0, 2, 0)]


def test_a_late_trade_gives_the_closed_bar_again() -> None:
    """With the next revision, in each interval that is closed; the open ones just take it."""
    bars = Bars(RULES)
    bars.step(records([trade(1, 0, 10), trade(2, 70_000, 11)]))
    first = published(bars.collect(bars.watermark_ns))
    bars.step(records([trade(3, 500, 12, 2)], 2))
    again = published(bars.collect(bars.watermark_ns))
    assert {(key[1], bar.revision) for key, bar in first.items()} == {("1s", 0), ("1m", 0)}
    assert {(key[1], bar.revision, bar.close, bar.volume) for key, bar in again.items()} == {
        ("1s", 1, 12, 3.0),
        ("1m", 1, 12, 3.0),
    }


def test_trades_that_come_late_together_are_one_revision() -> None:
    """A repair of thousands gives each bar again once a collect, not once a trade."""
    bars = Bars(RULES)
    bars.step(records([trade(1, 0), trade(2, 5_000)]))
    bars.collect(bars.watermark_ns)
    bars.step(records([trade(n, n) for n in range(3, 100)], 2))
    assert not bars.is_due(bars.watermark_ns)
    assert seconds(bars.collect(bars.watermark_ns)) == [(0, 98, 1)]


def test_a_late_trade_where_no_bar_was_makes_one() -> None:
    """Its first revision is late."""
    bars = Bars(RULES)
    bars.step(records([trade(1, 0), trade(2, 9_000)]))
    bars.collect(bars.watermark_ns)
    bars.step(records([trade(3, 4_000)], 2))
    assert seconds(bars.collect(bars.watermark_ns)) == [(4, 1, 0)]


def test_bars_that_were_closed_ahead_of_time_take_later_trades() -> None:
    """Closing early (by the clock, in a quiet market) changes when a bar is published, never its contents."""
    bars = Bars(RULES)
    bars.step(records([trade(1, 0)]))
    assert seconds(bars.collect(T0 + 10 * SECOND_NS)) == [(0, 1, 0)]
    bars.step(records([trade(2, 500), trade(3, 2_000)], 1))
    assert seconds(bars.collect(bars.watermark_ns)) == [(0, 2, 1), (2, 1, 0)]


def test_the_watermark_never_runs_back() -> None:
    """What the clock has closed stays closed, also when the trades' own watermark is behind it."""
    bars = Bars(RULES)
    bars.step(records([trade(1, 0)]))
    bars.collect(T0 + 10 * SECOND_NS)
    bars.collect(bars.watermark_ns)
    bars.step(records([trade(2, 500)], 1))
    assert seconds(bars.collect(bars.watermark_ns)) == [(0, 2, 1)]


# -- too late


def test_each_interval_takes_late_trades_for_as_long_as_it_keeps_bars() -> None:
    """
    0          305 s                 the second [0, 1) is given up after its 300 bars
    a          b   c (at 0.5 s)      c is too late for it, and changes the minute and all above
    """
    bars = Bars(RULES)
    bars.step(records([trade(1, 0), trade(2, 305_000)]))
    bars.collect(bars.watermark_ns)
    bars.step(records([trade(3, 500)], 2))
    assert seconds(bars.collect(bars.watermark_ns)) == []
    assert bars.report().late == {"1s": 1}
    assert published(bars.collect(LATER))["BTCUSDT", "1h", T0].trades == 3


@pytest.mark.parametrize(
    ("name", "kept"), [("1s", 300), ("10s", 300), ("1m", 241), ("5m", 49), ("1h", 5), ("4h", 2), ("1d", 2)]
)
def test_kept_bars_are_bounded_by_number_and_time(name: str, kept: int) -> None:
    """Three hundred, or four hours, whichever is less; two at least."""
    assert interval(name).kept == kept


def test_memory_of_a_busy_symbol_is_bounded() -> None:
    """Closed bars beyond the window are let go of, whether collected one by one or a day at once."""
    bars, seq = Bars(RULES), 0
    for _ in range(20):
        bars.step(records([trade(seq + n, (seq + n) * 1000) for n in range(1, 101)]))
        seq += 100
        bars.collect(bars.watermark_ns)
    (instrument,) = bars._instruments.values()
    for each, series in zip(RULES.intervals, instrument.series, strict=True):
        assert len(series) <= each.kept * 5 // 4 + 10
    assert len(bars._open) < 10


def test_too_late_for_all_is_counted_and_changes_nothing() -> None:
    """Also in a slot that another trade reached just in time."""
    bars = Bars(opened("1s"))
    bars.step(records([trade(1, 300_900), trade(2, 500), trade(3, 301_000, symbol="OTHER"), trade(3, 600)]))
    assert seconds(bars.collect(LATER)) == [(0, 1, 0), (300, 1, 0), (301, 1, 0)]
    assert bars.report().late == {"1s": 1}


# -- properties


PRICES = st.integers(1, 500).map(lambda cents: cents / 100)
SIZES = st.integers(1, 10**6).map(lambda units: units / 1e5)
TIMES_MS = st.integers(0, 150_000) | st.sampled_from([0, 999, 1000, 59_999, 60_000, 60_001])


@st.composite
def histories(draw: st.DrawFn) -> list[Trade]:
    """Trades of two symbols and two providers in any order of time, seq in the order of arrival."""
    raw = draw(
        st.lists(
            st.tuples(st.sampled_from("AB"), st.sampled_from(["binance", "okx"]), TIMES_MS, PRICES, SIZES), max_size=40
        )
    )
    seqs = {"A": 10, "B": 900}
    made = []
    for number, (symbol, provider, at_ms, price, size) in enumerate(draw(st.permutations(raw))):
        seqs[symbol] += 1
        made.append(
            trade(
                seqs[symbol], at_ms, price, size,
                symbol=symbol, provider=provider, trade_id=str(number * 7), count=number % 3 + 1,
            )
        )  # fmt: skip
    return made


@settings(deadline=None, max_examples=150)
@given(histories(), st.data())
def test_bars_are_those_of_the_set_of_trades_whatever_happens_on_the_way(
    history: list[Trade], data: st.DataObject
) -> None:
    """Any order and batches, closings by the trades or by the clock, repeated input, crashes before any step and
    restored state, compacted or not: the last revisions are what the definition says."""
    log: list[tuple[bytes | None, bytes | None]] = []
    out: list[bytes] = []
    worker = Worker(log, out)
    while worker.position < len(history):
        size = data.draw(st.integers(1, 8))
        back = data.draw(st.integers(0, 3))
        begin = max(0, worker.position - back)  # an assignment may begin before the recorded position
        worker.bars.step(records(history[begin : worker.position + size]))
        worker.position = min(len(history), worker.position + size)
        what = data.draw(st.sampled_from(["go on", "turn", "clock", "write", "publish", "acknowledge"]))
        if what == "go on":
            continue
        until_ns = worker.bars.watermark_ns + (data.draw(TIMES_MS) * MS if what == "clock" else 0)
        try:
            worker.turn(until_ns, crash_before=what)
        except CrashError:
            log[:] = compacted(log) if data.draw(st.booleans()) else log
            worker = Worker(log, out)
    worker.turn(LATER)
    assert last_revisions(out) == naive(history, NAMES)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 30_000)), min_size=1, max_size=60), st.data())
def test_what_is_too_late_does_not_depend_on_batches(times: list[tuple[str, int]], data: st.DataObject) -> None:
    """Times hours apart: one batch and one collect give the bars that any cuts give."""
    history = [trade(n, at_s * 1000, n, n / 3, symbol=symbol) for n, (symbol, at_s) in enumerate(times, 1)]
    whole, cut = Bars(RULES), Bars(RULES)
    whole.step(records(history))
    expected = {key: msgspec.structs.replace(bar, revision=0) for key, bar in published(whole.collect(LATER)).items()}
    found: dict[Key, Bar] = {}
    rest = history
    while rest:
        size = data.draw(st.integers(1, 10))
        cut.step(records(rest[:size]))
        rest = rest[size:]
        if data.draw(st.booleans()):
            found |= published(cut.collect(cut.watermark_ns))
    found |= published(cut.collect(LATER))
    assert {key: msgspec.structs.replace(bar, revision=0) for key, bar in found.items()} == expected
    assert cut.report().late == whole.report().late
