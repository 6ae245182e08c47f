"""Bars of corrected and cancelled trades: of the trades in force (docs/events.md), as far as they are remembered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import pytest
from bar_builders import (
    MS,
    RULES,
    T0,
    CrashError,
    Key,
    Worker,
    compacted,
    last_revisions,
    naive,
    published,
    records,
    trade,
)
from correction_builders import (
    HOURS_MS,
    LIMITS,
    TIMES_MS,
    cancelled,
    corrected,
    corrected_histories,
    limit,
    stock,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_outputs import read_into

from mdstream.bars import memory
from mdstream.bars import state as bars_state
from mdstream.bars.bars import Bars
from mdstream.bars.memory import BLOCK, REMEMBERED, Memory
from mdstream.bars.rules import SECOND_NS, Rules
from mdstream.bars.state import Progress
from mdstream.events import Bar, Trade
from mdstream.stream.ledger import Ledger

NAMES = ("1s", "1m", "5m", "1h")
LATER = T0 * 2


def bars_of(*trades: Trade) -> dict[Key, Bar]:
    """All bars of these events, closed at once; those without a trade are left out."""
    bars = Bars(RULES)
    bars.step(records(trades))
    return published(bars.collect(LATER))


def in_place_of(original: Trade, correction: Trade) -> Trade:
    """The correction at the time of its trade."""
    return msgspec.structs.replace(correction, ts_exchange=original.ts_exchange, ts_recv=original.ts_recv)


# -- what is in a bar


def test_a_correct_takes_the_place_of_its_trade_at_that_trade_s_time() -> None:
    """
    a  b  c      b' for b: the high is b's no more, and the open and close are those of a and c
    """
    a, b, c = stock(1, 0, 10), stock(2, 100, 99, 5), stock(3, 200, 11)
    instead = corrected(4, b, 9, 2)
    found = bars_of(a, b, c, instead)
    assert found == naive([a, in_place_of(b, instead), c], NAMES)
    bar = found["AAPL", "1s", T0]
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades) == (10, 11, 9, 11, 4, 3)


def test_a_cancel_takes_its_trade_out() -> None:
    """Of the sums, and of high, low, open and close."""
    first, other, last = stock(1, 0, 5), stock(2, 100, 10), stock(3, 200, 20)
    assert bars_of(first, other, last, cancelled(4, first), cancelled(5, last)) == naive([other], NAMES)


def test_the_last_correction_of_a_trade_counts_and_may_be_corrected_itself() -> None:
    """
    a <- b <- c     c is in force: b names a, c names b
      <- d          d is, being later than b; c names what counts no more
    """
    a = stock(1, 0, 10)
    b = corrected(2, a, 11, 1)
    c, d = corrected(3, b, 12, 1), corrected(4, a, 13, 1)
    assert bars_of(a, b, c) == naive([in_place_of(a, c)], NAMES)
    assert bars_of(a, b, c, d) == naive([in_place_of(a, d)], NAMES)
    assert bars_of(a, b, c, d, cancelled(5, d)) == {}


def test_a_correction_may_come_before_its_trade() -> None:
    """The set of events counts, not their order. Until the trade comes, its correction is unknown."""
    a = stock(4, 0, 10)
    b, c = corrected(2, "4", 11, 2), corrected(3, "2", 12, 3)
    bars = Bars(RULES)
    bars.step(records([stock(1, 500, 20), c, msgspec.structs.replace(b, seq=4), msgspec.structs.replace(a, seq=5)]))
    assert published(bars.collect(LATER)) == naive([stock(1, 500, 20), in_place_of(a, c)], NAMES)
    assert bars.report().trades == {"trade": 2, "repeat": 0, "unreadable": 0, "unknown": 2}


def test_ids_are_those_of_a_provider() -> None:
    """Another provider's trade may have the same id."""
    one, other = stock(1, 0, 10), msgspec.structs.replace(stock(2, 100, 20), provider="massive", trade_id="1")
    assert bars_of(one, other, cancelled(3, "1")) == naive([other], NAMES)


def test_ids_that_name_each_other_end_somewhere() -> None:
    """No venue sends it; it must not stop the worker."""
    a = stock(1, 0, 10)
    b = msgspec.structs.replace(corrected(2, a, 11, 1), trade_id="2")
    c = msgspec.structs.replace(corrected(3, b, 12, 1), trade_id="1")
    assert bars_of(a, b, c)["AAPL", "1s", T0].trades == 1


@pytest.mark.parametrize("correction", [cancelled(3, "77"), cancelled(3, ""), cancelled(3, "1", symbol="BTCUSDT")])
def test_a_correction_of_an_unknown_trade_changes_nothing_and_is_counted(correction: Trade) -> None:
    """Its trade never came, it names none, or it is of an instrument whose trades are not remembered: no stock."""
    symbol = correction.symbol
    one, two = (trade(seq, seq, symbol=symbol, provider="alpaca") for seq in (1, 2))
    bars = Bars(RULES)
    bars.step(records([one, two, correction]))
    assert published(bars.collect(LATER)) == naive([one, two], NAMES)
    assert {key: n for key, n in bars.report().trades.items() if n} == {"trade": 2, "unknown": 1}


# -- when it is published


def test_a_closed_bar_is_published_again() -> None:
    """With the next revision; once, though the correction comes again as another event."""
    a, b = stock(1, 0, 10), stock(2, 100, 20)
    bars = Bars(RULES)
    bars.step(records([a, b, stock(3, 70_000)]))
    bars.collect(bars.watermark_ns)
    bars.step(records([cancelled(4, b)], 3))
    assert not bars.is_due(bars.watermark_ns)  # as a late trade, it can wait
    again = published(bars.collect(bars.watermark_ns))
    assert {(key[1], bar.revision, bar.high) for key, bar in again.items()} == {("1s", 1, 10), ("1m", 1, 10)}
    bars.step(records([cancelled(5, b), cancelled(5, b)], 4))
    assert bars.collect(bars.watermark_ns).bars == []
    assert bars.report().trades == {"trade": 3, "correction": 2, "repeat": 1, "unreadable": 0}


def test_a_published_bar_without_a_trade_left_says_so() -> None:
    """Zero trades and volumes, at the price of the cancelled one. A later trade makes it a bar as any other."""
    a, b = stock(1, 0, 10), stock(2, 5_000, 20)
    bars = Bars(RULES)
    bars.step(records([a, b]))
    bars.collect(bars.watermark_ns)
    bars.step(records([cancelled(3, a)], 2))
    again = published(bars.collect(bars.watermark_ns))["AAPL", "1s", T0]
    assert again == Bar("AAPL", "1s", T0, 10, 10, 10, 10, 0.0, 0.0, 0, 1)
    bars.step(records([cancelled(4, a), stock(5, 300, 7)], 3))
    assert published(bars.collect(bars.watermark_ns))["AAPL", "1s", T0] == Bar("AAPL", "1s", T0, 7, 7, 7, 7, 1, 7, 1, 2)


def test_a_bar_whose_trades_are_cancelled_before_it_closes_is_not_published() -> None:
    """Unless a late trade comes: that makes its first revision, also after a restart."""
    a, b = stock(1, 0, 10), stock(2, 5_000, 20)
    log: list[tuple[bytes | None, bytes | None]] = []
    out: list[bytes] = []
    worker = Worker(log, out)
    worker.bars.step(records([a]))
    worker.turn(0)
    worker.bars.step(records([cancelled(2, a), msgspec.structs.replace(b, seq=3)], 1))
    worker.turn(worker.bars.watermark_ns)
    assert out == []
    worker = Worker(log, out)
    worker.bars.step(records([stock(4, 300, 7)], 3))
    worker.turn(worker.bars.watermark_ns)
    assert last_revisions(out) == {("AAPL", "1s", T0): Bar("AAPL", "1s", T0, 7, 7, 7, 7, 1, 7, 1, 0)}


def test_each_interval_takes_corrections_for_as_long_as_it_keeps_bars() -> None:
    """
    0          305 s                 the second [0, 1) is given up after its 300 bars
    a b        c   cancel of b       it is too late for that, and changes the minute and all above
    """
    a, b, c = stock(1, 0, 10), stock(2, 100, 20), stock(3, 305_000, 15)
    bars = Bars(RULES)
    bars.step(records([a, b, c]))
    bars.collect(bars.watermark_ns)
    bars.step(records([cancelled(4, b)], 3))
    again = published(bars.collect(LATER))
    assert ("AAPL", "1s", T0) not in again
    assert (again["AAPL", "1m", T0].high, again["AAPL", "1h", T0].high) == (10, 15)
    assert bars.report().late == {"1s": 1}


# -- what is remembered


def busy(count: int) -> list[Trade]:
    """A trade each 10 ms, numbered from a multiple of REMEMBERED on."""
    return [stock(REMEMBERED * 5 + n, n * 10, 50 + n % 40, 1 + n % 3) for n in range(count)]


@pytest.mark.parametrize(
    ("behind", "applied"), [(REMEMBERED, True), (2 * REMEMBERED - 1, True), (2 * REMEMBERED, False)]
)
def test_a_correction_reaches_the_last_trades_of_its_symbol(behind: int, applied: bool) -> None:
    """REMEMBERED at least, up to twice as many: they are forgotten by so many at once. The rest of the bar stays."""
    trades = busy(4 * REMEMBERED - 1)
    of = trades[len(trades) - behind]
    cancel = cancelled(trades[-1].seq + 1, of)
    expected = [one for one in trades if one is not of] if applied else trades
    assert bars_of(*trades, cancel) == naive(expected, NAMES)


def test_a_late_trade_from_before_what_is_remembered_is_forgotten_at_once() -> None:
    """It is in its bar, and in the rest of it when a younger trade is corrected."""
    trades = busy(3 * REMEMBERED)
    late = stock(trades[-1].seq + 1, 5, 1.0)
    cancels = [cancelled(late.seq + 1, late), cancelled(late.seq + 2, trades[-1])]
    assert bars_of(*trades, late, *cancels) == naive([*trades[:-1], late], NAMES)


def test_a_correction_that_came_before_its_trade_is_remembered_as_long_as_that() -> None:
    """
    c .. | t .. x .. | ..     c names t, and is of a span that is dropped while t stays: the bar that loses x keeps c
    """
    trades = busy(3 * REMEMBERED - 1)
    at = REMEMBERED
    c = corrected(trades[at - 1].seq, trades[at], 7, 7)
    sent = [*trades[: at - 1], c, *trades[at:], cancelled(trades[-1].seq + 1, trades[at + 9])]
    left = [*trades[: at - 1], in_place_of(trades[at], c), *trades[at + 1 : at + 9], *trades[at + 10 :]]
    assert bars_of(*sent) == naive(left, NAMES)


def test_what_corrections_wait_for_is_forgotten_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrections of trades that never come do not add up."""
    limit(monkeypatch, (4, 4))
    known = Memory("AAPL", RULES.intervals)
    for seq in range(500):
        known.add(memory.Event(seq, T0, "alpaca", str(seq), 1.0, 1.0, 1, "correct", f"unknown {seq}"))
    assert len(known._named) <= 2 * 4 * 4


def test_numbers_that_jump_forget_all() -> None:
    """As after a loss of the canonical state: what comes then begins again."""
    one, two = stock(1, 0, 10), stock(10**15, 100, 20)
    cancels = [cancelled(10**15 + 1, one), cancelled(10**15 + 2, two)]
    assert bars_of(one, two, *cancels) == naive([one], NAMES)


# -- the state


def restored(bars: Bars, trades: int, rules: Rules = RULES, *, without: Sequence[bytes] = ()) -> Bars:
    """What is restored of one checkpoint of all; `without`: names that another version has not written."""
    found = bars.collect(bars.watermark_ns)
    made = Progress(trades, bars.latest_ns, bars.closed_ns, [])
    out = [*bars_state.changes("md.trades", 0, RULES, found, 0), *bars_state.progress("md.trades", 0, made, 0)]
    kept = [record for record in out if not any(name in (record[0] or b"") for name in without)]
    return bars_state.read(read_into(Ledger("md.trades", bars_state.LAYOUT), kept)).bars(rules)


def test_a_memory_comes_back_as_it_was() -> None:
    """The rest, the remembered trades, and what waits for its trade."""
    trades, bars = busy(3 * REMEMBERED), Bars(RULES)
    seq = trades[-1].seq
    bars.step(records([*trades, cancelled(seq + 1, str(seq + 3))]))
    again = restored(bars, len(trades) + 1)
    again.step(records([cancelled(seq + 2, trades[-5]), stock(seq + 3, 9), stock(seq + 4, 30_000)], len(trades) + 1))
    expected = [*trades[:-5], *trades[-4:], stock(seq + 3, 9), stock(seq + 4, 30_000)]
    found = {key: msgspec.structs.replace(bar, revision=0) for key, bar in published(again.collect(LATER)).items()}
    assert found.items() <= naive(expected, NAMES).items()
    assert {key[1:] for key in found} >= {("1h", T0), ("1m", T0)}


@pytest.mark.parametrize("without", [(b"#",), (b"#|",)])
def test_without_its_memory_a_symbol_begins_a_new_one(without: tuple[bytes, ...]) -> None:
    """The state of an earlier version: corrections of the trades in it are unknown, later ones are applied."""
    trades, bars = busy(20), Bars(RULES)
    bars.step(records(trades))
    again = restored(bars, 20, without=without)
    seq = trades[-1].seq
    after = [stock(seq + 1, 250, 500), stock(seq + 2, 260, 600)]
    again.step(records([*after, cancelled(seq + 3, trades[3]), cancelled(seq + 4, after[1])], 20))
    assert published(again.collect(LATER))["AAPL", "1h", T0] == naive([*trades, after[0]], NAMES)["AAPL", "1h", T0]


def test_with_other_intervals_a_memory_begins_again() -> None:
    """A bar of a new interval has the trades from then on only, also when one is corrected."""
    trades, bars = busy(20), Bars(RULES)
    bars.step(records(trades))
    again = restored(bars, 20, Rules(("1s", "2m"), lateness_ns=SECOND_NS))
    seq = trades[-1].seq
    after = [stock(seq + 1, 250, 500), stock(seq + 2, 260, 600)]
    again.step(records([*after, cancelled(seq + 3, trades[3]), cancelled(seq + 4, after[1])], 20))
    found = published(again.collect(LATER))
    assert found["AAPL", "2m", T0] == naive([after[0]], ["2m"])["AAPL", "2m", T0]
    assert found["AAPL", "1s", T0] == naive([*trades, after[0]], NAMES)["AAPL", "1s", T0]


def test_state_of_a_memory_is_bounded_on_a_compacted_topic() -> None:
    """However much it trades, it has so many keys; each checkpoint writes the blocks that changed."""
    bars, keys = Bars(Rules(("1h",), lateness_ns=SECOND_NS)), set()
    for begin in range(0, 6 * REMEMBERED, 100):
        bars.step(records(stock(n, n) for n in range(begin, begin + 100)))
        names = [name for _, name, _ in bars.collect(bars.watermark_ns).memories if name != "#"]
        assert len(names) <= 100 // BLOCK + 2
        keys |= set(names)
    assert len(keys) == 2 * REMEMBERED // BLOCK


def test_what_is_remembered_counts_for_the_size_of_a_checkpoint() -> None:
    """A block of trades as one change of a bar: one second of a busy stock has many."""
    bars = Bars(RULES)
    bars.step(records(stock(n, 0) for n in range(1, 10 * BLOCK + 1)))
    assert bars.backlog == 1 + 10
    bars.collect(0)
    assert bars.backlog == 0


# -- properties


class Kept:
    """The trades in force of a symbol by definition, with what is forgotten: its numbers one by one.

    A trade is forgotten once it is not younger than the floor, the latest time of a trade of a dropped block. What is
    in force in its place then stays. A correction is forgotten with its block, unless it changes a remembered trade.
    """

    def __init__(self, block: int, span: int) -> None:
        self._block, self._span, self._floor_ns = block, span, -1
        self.roots: list[Trade] = []
        self._chains: dict[int, list[Trade]] = {}  # by the number of a remembered trade
        self._frozen: dict[int, Trade] = {}
        self._waiting: list[Trade] = []

    def add(self, event: Trade) -> None:
        first = (event.seq // self._block // self._span - 1) * self._span
        dropped = [root.ts_exchange or 0 for root in self.roots if root.seq // self._block < first]
        self._floor_ns = max([self._floor_ns, *dropped])
        for root in self.roots:
            if (root.ts_exchange or 0) <= self._floor_ns and root.seq in self._chains:
                self._frozen[root.seq] = self._chains.pop(root.seq)[-1]
        attached = {link.seq for chain in self._chains.values() for link in chain}
        self._waiting = [one for one in self._waiting if one.seq // self._block >= first or one.seq in attached]
        if event.correction is not None:
            self._waiting.append(event)
        else:
            self.roots.append(event)
            if (event.ts_exchange or 0) <= self._floor_ns:
                self._frozen[event.seq] = event
            else:
                self._chains[event.seq] = [event]
        for chain in self._chains.values():
            del chain[1:]
            while of := [one for one in self._waiting if one.corrects == chain[-1].trade_id]:
                chain.append(max(of, key=lambda one: one.seq))

    def in_force(self) -> list[Trade]:
        last = self._frozen | {seq: chain[-1] for seq, chain in self._chains.items()}
        return [in_place_of(root, last[root.seq]) for root in self.roots if last[root.seq].correction != "cancel"]


def in_force(history: Iterable[Trade], block: int, span: int) -> list[Trade]:
    kept: dict[str, Kept] = {}
    for event in history:
        kept.setdefault(event.symbol, Kept(block, span)).add(event)
    return [one for each in kept.values() for one in each.in_force()]


@settings(deadline=None, max_examples=150)
@given(corrected_histories(), LIMITS, st.data())
def test_bars_are_those_of_the_trades_in_force_whatever_happens_on_the_way(
    history: list[Trade], limits: tuple[int, int], data: st.DataObject
) -> None:
    """Any order and batches, closings by the trades or by the clock, repeated input, crashes before any step and
    restored state, compacted or not, memories of any size: the last revisions are what the definition says."""
    log: list[tuple[bytes | None, bytes | None]] = []
    out: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        limit(patch, limits)
        worker = Worker(log, out)
        while worker.position < len(history):
            size, back = data.draw(st.integers(1, 8)), data.draw(st.integers(0, 3))
            begin = max(0, worker.position - back)
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
    found = {key: bar for key, bar in last_revisions(out).items() if bar.trades}
    assert found == naive(in_force(history, *limits), NAMES)


@settings(deadline=None, max_examples=80)
@given(corrected_histories(HOURS_MS), LIMITS, st.data())
def test_what_is_too_late_does_not_depend_on_batches(
    history: list[Trade], limits: tuple[int, int], data: st.DataObject
) -> None:
    """Times hours apart: one batch and one collect give the bars that any cuts give."""
    with pytest.MonkeyPatch.context() as patch:
        limit(patch, limits)
        whole, cut = Bars(RULES), Bars(RULES)
        whole.step(records(history))
        expected, found, rest = published(whole.collect(LATER)), dict[Key, Bar](), history
        while rest:
            size = data.draw(st.integers(1, 10))
            cut.step(records(rest[:size]))
            rest = rest[size:]
            if data.draw(st.booleans()):
                found |= published(cut.collect(cut.watermark_ns))
        found |= published(cut.collect(LATER))
    assert contents(found) == contents(expected)
    assert cut.report().late == whole.report().late


def contents(bars: dict[Key, Bar]) -> dict[Key, Bar]:
    return {key: msgspec.structs.replace(bar, revision=0) for key, bar in bars.items() if bar.trades}
