"""mdstream/audit/bars.py: the bars of the real role have no fault, and every bar that does not match its trades is
named.

Time axes: s after a full hour, as in test_bars_machine.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from bar_builders import MS, RULES, T0, records, trade
from correction_builders import HOURS_MS, LIMITS, cancelled, corrected_histories, limit, stock
from hypothesis import given, settings
from hypothesis import strategies as st

from mdstream import events
from mdstream.audit.bars import OUT_OF_ORDER_NS, BarAudit, BarDifference
from mdstream.audit.hops.logs import audit_trade
from mdstream.audit.ledger import Ledger
from mdstream.audit.trades import MINUTE_NS, Place, Scope
from mdstream.bars.bars import Bars
from mdstream.bars.rules import AHEAD_NS, SECOND_NS
from mdstream.events import HISTORY, Bar, Trade

LATER = T0 * 2
MINUTE = T0 // MINUTE_NS


def published(trades: Sequence[Trade], *, until_ns: int = LATER) -> list[Bar]:
    """What the bars role publishes of them, closed at once."""
    bars = Bars(RULES)
    bars.step(records(trades))
    return [_bar(tally.public()) for tally in bars.collect(until_ns).bars]


def _bar(value: bytes) -> Bar:
    bar = events.decode(value)
    assert isinstance(bar, Bar)
    return bar


def audited(
    bars: Iterable[Bar], trades: Iterable[Trade], scope: Scope | None = None, first_offset: int = 0
) -> BarAudit:
    """An audit that was given all of it: bars at 1:0, 1:1, ..., trades in partition 2."""
    audit = BarAudit(RULES, scope or Scope())
    for offset, bar in enumerate(bars):
        audit.published.add(bar, Place(1, offset))
    for offset, one in enumerate(trades, first_offset):
        audit.trade(audit_trade(one), one.seq, 2, begins_cut=offset == first_offset > 0)
    return audit


def reported(audit: BarAudit) -> list[tuple[str, str, str]]:
    """Kind, interval and time of day of each difference."""
    return [(one.kind, one.interval, one.ts_open[11:]) for one in audit.differences()]


PRICES = st.integers(1, 500).map(lambda cents: cents / 100)
HISTORIES = st.lists(
    st.tuples(st.sampled_from(["A", "B"]), st.integers(0, 30_000), PRICES, st.integers(-70, 70)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=150)
@given(HISTORIES, st.data())
def test_bars_of_the_real_stream_are_what_their_trades_make(
    times: list[tuple[str, int, float, int]], data: st.DataObject
) -> None:
    """Hours of trades in any order, late ones, times ahead of ours, cut anywhere and revised: no fault. Then one
    bar is changed, left out or lacks a revision: one fault."""
    history = [
        trade(n, at_s * 1000, price, n / 3, symbol=symbol, count=n % 3 + 1, received_ms=(at_s + behind_s) * 1000)
        for n, (symbol, at_s, price, behind_s) in enumerate(times, 1)
    ]
    stream, out, rest = Bars(RULES), [], history
    while rest:
        size = data.draw(st.integers(1, 10))
        stream.step(records(rest[:size]))
        rest = rest[size:]
        out += [_bar(tally.public()) for tally in stream.collect(stream.watermark_ns).bars]
    out += [_bar(tally.public()) for tally in stream.collect(LATER).bars]
    assert list(audited([*out, *out[-3:]], history).differences()) == []

    last = {(bar.symbol, bar.interval, bar.ts_open): bar for bar in out}
    wrong = data.draw(st.sampled_from(list(last.values())))
    changed = msgspec.structs.replace(wrong, volume=wrong.volume + 1, revision=wrong.revision + 1)
    found = list(audited([*out, changed], history).differences())
    assert [(one.kind, one.symbol, one.interval) for one in found] == [("different", wrong.symbol, wrong.interval)]
    without = [bar for bar in out if (bar.symbol, bar.interval, bar.ts_open) != _key(wrong)]
    assert all(one.kind == "missing" for one in audited(without, history).differences())


def _key(bar: Bar) -> tuple[str, str, int]:
    return bar.symbol, bar.interval, bar.ts_open


def test_each_fault_is_named_with_what_was_expected_and_where_the_bar_stands() -> None:
    """
    trades  0.0  0.5     1.0     2.0   ... 9.0     bars 0 lacks a trade, 1 is not there, 2 came with two contents,
    bars    0       1       2                      and 5 has no trade
    """
    trades = [trade(n, at, 10.0 + n) for n, at in enumerate((0, 500, 1000, 2000, 9000), 1)]
    first, second, third, *_ = [bar for bar in published(trades) if bar.interval == "1s"]
    assert [(bar.ts_open - T0) // SECOND_NS for bar in (first, second, third)] == [0, 1, 2]
    short = msgspec.structs.replace(first, trades=1, volume=1.0)
    other = msgspec.structs.replace(third, close=1.0)
    alone = msgspec.structs.replace(third, ts_open=T0 + 5 * SECOND_NS)
    found = list(audited([short, third, other, alone], trades).differences())
    assert found == [
        BarDifference("rewritten", "BTCUSDT", "1s", "2026-01-05T15:00:02Z", 0, "revision 0 once", "another bar with it",
                      (Place(1, 1), Place(1, 2))),
        BarDifference("different", "BTCUSDT", "1s", "2026-01-05T15:00:00Z", 0, "2 trades, 2.0 at 11.0 12.0 11.0 12.0",
                      "1 trades, 1.0", (Place(1, 0),)),
        BarDifference("missing", "BTCUSDT", "1s", "2026-01-05T15:00:01Z", None, "1 trades, 1.0 at 13.0 13.0 13.0 13.0",
                      "nothing", ()),
        BarDifference("different", "BTCUSDT", "1s", "2026-01-05T15:00:05Z", 0, "no bar: there are no trades",
                      "1 trades, 1.0", (Place(1, 3),)),
    ]  # fmt: skip


def test_a_bar_with_other_prices_alone_is_different() -> None:
    """Its sums do not show it."""
    trades = [trade(1, 0, 10.0), trade(2, 500, 11.0)]
    wrong = [msgspec.structs.replace(bar, open=11.0) if bar.interval == "1m" else bar for bar in published(trades)]
    [found] = audited(wrong, trades).differences()
    assert (found.interval, found.found) == ("1m", "2 trades, 2.0 at other prices")


def test_the_last_revision_counts_and_an_older_one_has_one_content_too() -> None:
    """
    revision   0  1  0'  1      0' is another bar under the number of one that is long revised
    """
    trades = [trade(1, 0), trade(2, 5000)]
    [bar, *others] = published(trades)
    old, other = (msgspec.structs.replace(bar, trades=n) for n in (7, 8))
    last = msgspec.structs.replace(bar, revision=1)
    assert reported(audited([old, last, last, old, *others], trades)) == []
    assert reported(audited([old, last, other, last, *others], trades)) == [("rewritten", "1s", "15:00:00Z")]


def test_revision_that_was_passed_over_has_nothing_to_be_compared_with() -> None:
    """Revision 1 was never read, as when the log's beginning is gone: its late copy proves nothing."""
    trades = [trade(1, 0), trade(2, 5000)]
    [bar, *others] = published(trades)
    last, skipped = (msgspec.structs.replace(bar, revision=n) for n in (2, 1))
    assert reported(audited([last, skipped, *others], trades)) == []


def test_trades_too_late_for_the_short_bars_are_in_the_long_ones() -> None:
    """The short bars are not kept for so long: they stay as they were."""
    late = [trade(seq, 600, received_ms=7_200_000) for seq in (3, 4)]
    trades = [trade(1, 0), trade(2, 7_200_000), *late]
    bars = published(trades)
    assert reported(audited(bars, trades)) == []
    wrong = [msgspec.structs.replace(bar, trades=9) for bar in bars if bar.trades == 3]
    assert {kind for kind, _, _ in reported(audited(wrong, trades))} >= {"different"}


def test_history_is_expected_in_no_bar() -> None:
    trades = [trade(1, 0), msgspec.structs.replace(trade(2, 10), recovered=True, backfilled=True), trade(3, 20)]
    assert reported(audited(published(trades), trades)) == []
    assert reported(audited(published([trade(1, 0), trade(2, 10), trade(3, 20)]), trades)) != []


def past(ms: int, interval: str = "1s", **values: Any) -> Bar:
    """A venue's bar, from so long after T0 on."""
    bar = Bar("BTCUSDT", interval, T0 + ms * MS, 1.0, 2.0, 0.5, 1.5, 9.0, None, None, HISTORY, "okx", backfilled=True)
    return msgspec.structs.replace(bar, **values)


def with_past(bars: Sequence[Bar], trades: Sequence[Trade]) -> BarAudit:
    audit = audited(published(trades), trades)
    for offset, bar in enumerate(bars, 100):
        audit.past.add(bar, Place(1, offset))
    return audit


def test_bar_of_the_past_stands_for_itself() -> None:
    """
    0.0 1.0   3.2 a   The bar in which the live trades begin is there twice: the venue's, and what the trades make.
    """
    trades = [trade(1, 3_200), trade(2, 5_000)]
    bars = [past(0), past(1_000), past(3_000), past(0, "1m"), past(-86_400_000, "1d"), past(60_000, symbol="ETHUSDT")]
    audit = with_past([*bars, bars[0]], trades)
    assert (reported(audit), audit.past.records, audit.past.repeats) == ([], 7, 1)


def test_bar_of_the_past_from_after_the_first_live_trade_is_a_difference() -> None:
    """Those of the trades are made of them."""
    trades = [trade(1, 3_200), trade(2, 5_000)]
    (found,) = with_past([past(3_000), past(4_000)], trades).differences()
    assert (found.kind, found.ts_open, found.revision) == ("different", "2026-01-05T15:00:04Z", HISTORY)
    assert found.expected == "none of the past: its live trades begin at 2026-01-05T15:00:03.200000000Z"


def test_live_trades_begin_anew_where_the_stream_lost_its_state() -> None:
    """It takes history up to there then."""
    trades = [trade(1, 3_200), trade(7, 5_000)]
    assert reported(with_past([past(4_000)], trades)) == []


def test_bar_of_the_past_with_two_contents_is_named() -> None:
    bars = [past(0), past(0, volume=8.0), past(0), past(0, interval="1h")]
    assert reported(with_past(bars, [])) == [("rewritten", "1s", "15:00:00Z")]


def test_bar_of_the_past_of_another_time_is_left_out() -> None:
    audit = audited([], [], Scope(MINUTE, MINUTE + 1))
    audit.past.add(past(-60_000), Place(1, 0))
    assert audit.past.records == 0


def test_trade_that_comes_again_counts_once() -> None:
    trades = [trade(1, 0), trade(2, 5000)]
    assert reported(audited(published(trades), [*trades, *trades])) == []


def test_corrections_are_applied() -> None:
    """
    0.0 a   0.1 b   5.0 c   b is cancelled, then a too: the minute has c alone, and the first second no trade
    """
    trades = [stock(1, 0), stock(2, 100, 20.0), stock(3, 5000)]
    cancels = [cancelled(4, trades[1]), cancelled(5, trades[0])]
    first, second = published([*trades, cancels[0]]), published([*trades, *cancels])
    assert reported(audited(first, [*trades, cancels[0]])) == []
    assert reported(audited(second, [*trades, *cancels])) == []
    assert {kind for kind, *_ in reported(audited(published(trades), [*trades, *cancels]))} == {"different"}
    empty = Bar("AAPL", "1s", T0, 20.0, 20.0, 20.0, 20.0, 0.0, 0.0, 0, 1)
    assert reported(audited([*second, empty], [*trades, *cancels])) == []
    assert reported(audited([*first, msgspec.structs.replace(empty, revision=1)], [*trades, cancels[0]])) == [
        ("different", "1s", "15:00:00Z")
    ]


def test_trades_after_a_correction_are_in_its_bars() -> None:
    """In those that are still kept, as any late trade; the corrected one's time is that of its trade."""
    trades = [stock(1, 0), stock(2, 100, 20.0), cancelled(3, "2"), stock(4, 500), stock(5, 305_000), stock(6, 700)]
    bars = published(trades)
    assert reported(audited(bars, trades)) == []
    wrong = [msgspec.structs.replace(bar, trades=9) if bar.interval == "1m" else bar for bar in bars]
    assert reported(audited(wrong, trades)) == [("different", "1m", "15:00:00Z"), ("different", "1m", "15:05:00Z")]


def test_a_correction_that_came_just_now_is_not_judged() -> None:
    """The next revision of its bars is on its way."""
    trades = [stock(1, 0), stock(2, 100, 20.0), stock(3, 5000), cancelled(4, "2")]
    scope = Scope(received_before_ns=T0 + 3_600_000 * MS)
    assert reported(audited(published(trades[:3]), trades, scope)) == []
    assert reported(audited(published(trades[:3]), trades, Scope(first_minute=MINUTE + 1))) == []


def test_a_correction_counts_as_no_trade() -> None:
    assert not Ledger("", Scope(), may_repeat=True).add(audit_trade(cancelled(4, "2")))


@settings(deadline=None, max_examples=100)
@given(corrected_histories(HOURS_MS), LIMITS)
def test_bars_with_corrections_are_what_the_trades_in_force_make(history: list[Trade], limits: tuple[int, int]) -> None:
    """Hours of them in any order, too late or forgotten ones among them: no fault."""
    with pytest.MonkeyPatch.context() as patch:
        limit(patch, limits)
        stream, out = Bars(RULES), list[Bar]()
        for begin in range(0, len(history), 5):
            stream.step(records(history[begin : begin + 5]))
            out += [_bar(tally.public()) for tally in stream.collect(stream.watermark_ns).bars]
        out += [_bar(tally.public()) for tally in stream.collect(LATER).bars]
        assert list(audited(out, history).differences()) == []


# -- what is not judged


def test_published_bars_outside_the_range_are_not_judged() -> None:
    """Of another symbol, or of an hour that the range cuts."""
    trades = [trade(1, 0), trade(2, 5000)]
    bars = published(trades)
    other = Scope(symbols=frozenset({"ETHUSDT"}))
    assert audited(bars, [], other).published.records == 0
    assert reported(audited(bars, [], other)) == []
    cut = Scope(first_minute=MINUTE - 1, end_minute=MINUTE + 1)
    assert {interval for _, interval, _ in reported(audited(bars, [trade(3, 9000, symbol="ETHUSDT")], cut))} == set()


@pytest.mark.parametrize(
    ("scope", "kinds"),
    [
        (Scope(), {"1s", "1m", "5m"}),
        (Scope(end_minute=MINUTE + 1), {"1s", "1m"}),
        (Scope(first_minute=MINUTE - 1, end_minute=MINUTE + 5), {"1s", "1m", "5m"}),
        (Scope(first_minute=MINUTE + 1), set()),
        (Scope(symbols=frozenset({"ETHUSDT"})), set()),
    ],
)
def test_bars_that_the_range_cuts_are_not_judged(scope: Scope, kinds: set[str]) -> None:
    """
    15:00 a trade          15:59:59 another     no bar is there: the hour is not over, the other bars are missing
    """
    trades = [trade(1, 0), trade(2, 3_599_000)]
    found = audited([], trades, scope).differences()
    assert {one.interval for one in found if one.ts_open.endswith("15:00:00Z")} == kinds


def test_a_bar_that_no_trade_has_closed_may_be_missing_but_not_wrong() -> None:
    """In a quiet market the clock closes it, at a time that the topics do not show."""
    trades = [trade(1, 0), trade(2, 1999)]
    assert reported(audited([], trades)) == []
    assert reported(audited([], [*trades, trade(3, 2000, symbol="ETHUSDT")])) == [("missing", "1s", "15:00:00Z")]
    [*_, hour] = published(trades)
    wrong = msgspec.structs.replace(hour, trades=3)
    assert reported(audited([wrong], trades)) == [("different", "1h", "15:00:00Z")]


def test_a_bar_that_gained_a_trade_just_now_is_not_judged() -> None:
    """Its next revision is on its way; nor do trades of that moment close other bars."""
    now_ms = 100_000.0
    trades = [trade(1, 0), trade(2, 3000), trade(3, 500, received_ms=now_ms), trade(4, 50_000, received_ms=now_ms)]
    scope = Scope(received_before_ns=T0 + int(now_ms) * MS)
    assert reported(audited(published(trades[:2]), trades, scope)) == []
    assert ("different", "1s", "15:00:00Z") in reported(audited(published(trades[:2]), trades))


def test_bars_from_before_the_beginning_of_the_trades_are_not_judged() -> None:
    """Trades are kept for a shorter time than bars: the first bars have trades that are gone."""
    late_ms = OUT_OF_ORDER_NS // MS
    trades = [trade(1, 0), trade(2, 100), trade(3, late_ms + 1000), trade(4, late_ms + 9000)]
    bars = published(trades)
    assert reported(audited(bars, trades[1:], first_offset=1)) == []
    assert reported(audited(bars, trades[2:], first_offset=2)) == []  # of the first second no trade is left
    wrong = [msgspec.structs.replace(bar, trades=9) for bar in bars]
    found = [one.ts_open for one in audited(wrong, trades[1:], first_offset=1).differences()]
    assert min(found) == "2026-01-05T15:02:01Z"


def test_a_time_that_is_not_believed_is_that_of_receipt() -> None:
    """As in the bars themselves."""
    wild = trade(2, (AHEAD_NS // MS) + 5000, received_ms=4000)
    trades = [trade(1, 0), wild, trade(3, 9000)]
    assert reported(audited(published(trades), trades)) == []


def test_an_interval_that_is_not_built_is_counted_and_left_out() -> None:
    [bar, *_] = published([trade(1, 0)])
    audit = audited([msgspec.structs.replace(bar, interval="3m")], [trade(1, 0)])
    assert audit.published.of_other_intervals == 1
    assert reported(audit) == []
