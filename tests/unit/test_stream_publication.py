"""What becomes of a tick: published, buffered or left out; and what a switch and a restart make of the buffer.

Two venues, `a` preferred to `b`, whose frames are numbers: each names the ticks that the test made for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stream_histories import MS, SYMBOL, T0_MS, raw
from stream_outputs import RAW, events, read_into, saved

from mdstream import repairs
from mdstream.records import Record
from mdstream.repairs import Unrecoverable
from mdstream.stream import checkpoint
from mdstream.stream.canonical import Canonical
from mdstream.stream.checkpoint import Restored
from mdstream.stream.ledger import Ledger
from mdstream.stream.lines import Buffered
from mdstream.stream.output import Output
from mdstream.stream.rules import Policy, Rules
from mdstream.stream.state import Feed, Instrument
from mdstream.ticks import PRICE_UNIT, BookTick, BookUpdate, Control, QuoteTick, Tick, TradeTick

A_THEN_B = Rules(Policy(("a", "b")))


@dataclass
class Venue:
    """A venue as the stream knows it."""

    name: str
    contiguous_ids: bool = True
    quotes_from_books: bool = True
    sizes_in_contracts: bool = False
    ticks: list[Sequence[Tick]] = field(default_factory=list)

    def decode(self, frame: bytes, contract_size: bytes = b"") -> Sequence[Tick]:
        """Raises ValueError for a frame that is no number."""
        return self.ticks[int(frame)]


class Partition:
    """A raw partition, and the worker that owns it."""

    def __init__(self, rules: Rules = A_THEN_B, *, contiguous: bool = True, announces: bool = True) -> None:
        self.venues = {name: Venue(name, contiguous) for name in ("a", "b", "c")}
        self.log: list[Record] = []
        self._announces, self._saved = announces, Restored()
        self.stream = self._worker(rules)

    def _worker(self, rules: Rules) -> Canonical:
        state = self._saved
        return Canonical("md.raw.crypto", 0, self.venues.values(), rules=rules, announces=lambda _: self._announces,
                         instruments=state.instruments, log=state.log, position=state.position or 0)  # fmt: skip

    def frame(self, venue: str, kind: str, value: bytes, at_ms: int) -> Output:
        """A record of this time, processed."""
        self.log.append(raw(venue, kind, value, T0_MS + at_ms, len(self.log)))
        return self.stream.step(self.log[-1:])

    def says(self, venue: str, *ticks: Tick, at_ms: int, kind: str = "trade") -> Output:
        """A frame with these ticks."""
        self.venues[venue].ticks.append(ticks)
        return self.frame(venue, kind, str(len(self.venues[venue].ticks) - 1).encode(), at_ms)

    def disconnects(self, venue: str, at_ms: int) -> Output:
        lost = {"provider": venue, "state": "disconnected"}
        return self.frame(venue, "status", json.dumps(lost).encode(), at_ms)

    def restarts(self, *outputs: Output, rules: Rules = A_THEN_B) -> Output:
        """Another worker takes over from a checkpoint after these outputs."""
        written = saved(self.stream, *outputs)
        self._saved = checkpoint.read(read_into(Ledger(RAW, checkpoint.LAYOUT), written))
        self.stream = self._worker(rules)
        return self.stream.step(self.log[self.stream.read_from :])

    def buffer(self, venue: str) -> list[Buffered]:
        return list(self.stream.sources[venue.encode()].lines[SYMBOL].buffer)


def trade(number: int, at_ms: int, *, recovered: bool = False) -> TradeTick:
    ts = (T0_MS + at_ms) * MS
    return TradeTick(SYMBOL, str(number), 1.5, 1.0, "buy", ts, number, number, recovered=recovered)


def quote(bid: float = 1.0) -> QuoteTick:
    return QuoteTick(SYMBOL, bid, 1.0, 9.0, 1.0, None)


def book(whole: bool = True) -> BookUpdate:
    return BookUpdate(SYMBOL, [(PRICE_UNIT, 1.0)], [(2 * PRICE_UNIT, 1.0)], None, whole)


def ids(out: Output) -> list[tuple[str, str]]:
    return [(trade["provider"], trade["trade_id"]) for trade in events(out.trades)]


def told(out: Output, kind: str = "status") -> list[dict[str, Any]]:
    return [event for event in events(out.status) if event["type"] == kind]


# -- trades


def test_count_that_begins_anew_is_told_and_gives_up_what_was_missing() -> None:
    """
    ids   1 3 ... 1     the gap 2..2 is lost: its id now means another trade
    """
    partition = Partition()
    partition.says("a", trade(1, 0), trade(3, 10), at_ms=20)
    (opened,) = told(partition.says("a", trade(4, 1500), at_ms=1500), "gap")
    out = partition.says("a", trade(1, 1600), at_ms=1600)
    (reset,) = told(out)
    assert (opened["state"], ids(out), reset["state"]) == ("open", [("a", "1")], "seq_reset")
    assert reset["reason"] == "the venue counts its trades from 1 on"
    (lost,) = told(partition.says("a", trade(2, 2000), at_ms=2000), "gap")
    assert (lost["state"], lost["first_id"], lost["missing"]) == ("lost", "2", 1)
    assert lost["reason"].startswith("no longer waited for")


def test_late_trade_of_the_source_that_was_left_is_published_if_it_was_missing() -> None:
    partition = Partition()
    partition.says("b", trade(70, 0), at_ms=10)
    partition.says("a", trade(1, 20), trade(3, 30), at_ms=40)
    partition.says("a", trade(4, 300), at_ms=300)
    partition.disconnects("a", 400)
    partition.says("b", trade(71, 700), at_ms=700)
    assert partition.stream.instruments[SYMBOL].active == "b"
    assert ids(partition.says("a", trade(2, 25), at_ms=800)) == [("a", "2")]
    again = partition.says("a", trade(2, 25), at_ms=810)
    assert (ids(again), again.counts["trade, repeat"]) == ([], 1)


# -- sources that may not be used


def test_data_of_a_source_that_is_not_allowed_is_neither_published_nor_buffered() -> None:
    partition = Partition(Rules(Policy(("a",))))
    partition.says("a", trade(1, 0), at_ms=0)
    out = partition.says("b", trade(9, 10), quote(), book(), at_ms=20)
    assert (out.trades, out.quotes, out.books) == ([], [], [])
    assert out.counts["not a source of the instrument"] == 2
    assert partition.buffer("b") == []


def test_source_that_is_no_longer_allowed_is_left_for_the_only_other_one() -> None:
    """The settings changed between two starts: what the other sent since is published from its buffer."""
    partition = Partition()
    outputs = [partition.says("a", trade(1, 0), at_ms=0), partition.says("b", trade(9, 10), at_ms=20)]
    partition.restarts(*outputs, rules=Rules(Policy(("b",))))
    out = partition.says("b", trade(10, 300), at_ms=300)
    assert ids(out) == [("b", "9"), ("b", "10")]
    (switch,) = told(out)
    assert (switch["previous"], switch["reason"]) == ("a", "a: not among the sources")


# -- a switch


def switched(partition: Partition, *, covered: Sequence[int], since: Sequence[int]) -> Output:
    """`a` trades until 500 ms and is disconnected; `b` traded before that and since, and takes over with trade 20."""
    partition.says("a", trade(1, 0), at_ms=0)
    partition.says("b", *[trade(number, 450) for number in covered], at_ms=460)
    partition.says("a", trade(2, 500), at_ms=500)
    partition.says("b", *[trade(number, 600) for number in since], at_ms=610)
    partition.disconnects("a", 620)
    return partition.says("b", trade(20, 890), at_ms=900)


def test_buffer_is_published_from_where_the_old_source_ended_and_each_trade_once() -> None:
    """Redundant lines may have brought a trade twice."""
    out = switched(Partition(), covered=[17, 18], since=[19, 19])
    assert ids(out) == [("b", "19"), ("b", "20")]
    assert out.counts["trade, repeat"] == 1


def test_what_the_old_source_covered_leaves_no_hole_where_ids_mean_nothing() -> None:
    out = switched(Partition(contiguous=False), covered=[10], since=[19])
    assert ids(out) == [("b", "19"), ("b", "20")]
    assert told(out, "gap") == []


def test_lost_book_of_a_standby_is_counted_and_not_told() -> None:
    """Nobody saw it."""
    partition = Partition()
    partition.says("a", trade(1, 0), at_ms=0)
    partition.says("b", book(), at_ms=10, kind="book")
    out = partition.frame("b", "book", b"no number", 20)
    assert (out.counts["book, lost"], out.status, len(out.dead)) == (1, [], 1)


def cancel(of: int, at_ms: int) -> TradeTick:
    ts, price = (T0_MS + at_ms) * MS, 1.5
    return TradeTick(SYMBOL, f"{of}-cancel", price, 0.0, None, ts, correction="cancel", corrects=str(of),
                     corrects_price=price, corrects_size=1.0)  # fmt: skip


def opaque(number: int, at_ms: int) -> TradeTick:
    return TradeTick(SYMBOL, str(number), 1.5, 1.0, None, (T0_MS + at_ms) * MS)


def test_correction_is_published_once_with_what_it_changes() -> None:
    """A repeat, by another connection or after a restart, is none of its own; an unknown trade's is published too."""
    partition = Partition(contiguous=False)
    outputs = [
        partition.says("a", opaque(1, 0), at_ms=0),
        partition.says("a", cancel(1, 5), at_ms=10),
        partition.says("a", cancel(1, 5), cancel(7, 6), at_ms=20),
    ]
    published = [trade for out in outputs for trade in events(out.trades)]
    assert [t["trade_id"] for t in published] == ["1", "1-cancel", "7-cancel"]
    assert [t["seq"] - published[0]["seq"] for t in published] == [0, 1, 2]
    fields = {name: published[1].get(name) for name in ("size", "correction", "corrects", "corrects_size")}
    assert fields == {"size": 0.0, "correction": "cancel", "corrects": "1", "corrects_size": 1.0}
    partition.restarts(*outputs)
    assert ids(partition.says("a", cancel(1, 5), at_ms=30)) == []


def test_source_that_was_left_still_corrects_what_it_had_published() -> None:
    """At once, and once; a correction of a trade in its buffer is buffered, too."""
    partition = Partition(contiguous=False)
    partition.says("a", opaque(1, 0), at_ms=0)
    partition.says("b", opaque(50, 5), at_ms=5)
    partition.disconnects("a", 10)
    partition.says("b", opaque(51, 400), at_ms=400)
    assert ids(partition.says("b", opaque(52, 800), at_ms=800)) == [("b", "52")]
    assert ids(partition.says("a", cancel(1, 810), at_ms=810)) == [("a", "1-cancel")]
    assert ids(partition.says("a", cancel(1, 810), opaque(2, 815), cancel(2, 820), at_ms=820)) == []
    assert [tick.trade_id for _, _, tick in partition.buffer("a") if isinstance(tick, TradeTick)] == ["2", "2-cancel"]


# -- a restart


def test_buffer_is_filled_again_with_what_it_held() -> None:
    """Nothing else of the records from where it begins on: others' data, whole books, repairs, frames without data."""
    partition = Partition()
    outputs = [
        partition.says("a", trade(1, 0), at_ms=0),
        partition.says("b", trade(7, 5), quote(), at_ms=10),
        partition.says("a", trade(2, 20), at_ms=20),
        partition.says("b", trade(8, 30), quote(2.0), at_ms=30),
        partition.says("b", trade(3, 30, recovered=True), at_ms=40),
        partition.says("b", Control("ack"), BookTick(SYMBOL, [(1.0, 1.0)], [], None), at_ms=50),
        partition.frame("b", "trade", b"no number", 60),
        partition.frame("gone", "trade", b"0", 70),
        partition.frame("b", "heartbeat", b"{}", 80),
    ]
    held = partition.buffer("b")
    assert len(held) == 4
    assert not any(getattr(partition.restarts(*outputs), topic) for topic in ("trades", "quotes", "dead"))
    assert partition.buffer("b") == held


def test_instrument_that_was_refused_is_not_found_again() -> None:
    """A misplaced frame among the records of a buffer."""
    partition = Partition()
    outputs = [partition.says("a", trade(1, 0), at_ms=0), partition.says("b", trade(7, 5), at_ms=10)]
    partition._announces = False
    outputs.append(partition.says("b", TradeTick("ETHUSDT", "1", 1.0, 1.0, None, None, 1, 1), at_ms=20))
    partition.restarts(*outputs)
    assert [tick.symbol for _, _, tick in partition.buffer("b")] == [SYMBOL]


def test_feed_of_a_provider_that_is_not_here_any_more_is_left_alone() -> None:
    """Its folder may come back: its state stays in the checkpoint."""
    partition = Partition()
    state = {SYMBOL: Instrument(active="gone", feeds={"gone": Feed()})}
    stream = Canonical("md.raw.crypto", 0, partition.venues.values(), rules=A_THEN_B, announces=lambda _: True,
                       instruments=state)  # fmt: skip
    assert stream.monitor.lines() == {}
    assert list(stream.instruments[SYMBOL].feeds) == ["gone"]


# -- our own records


def test_status_of_a_provider_that_is_not_known_here_is_told() -> None:
    """A worker of an older version beside a new ingestor; its heartbeats say nothing."""
    partition = Partition()
    (status,) = told(partition.disconnects("new", 0))
    assert (status["provider"], status["state"]) == ("new", "disconnected")
    assert partition.frame("new", "heartbeat", b"{}", 10).counts["heartbeat"] == 1


def test_silent_ingestor_is_told_by_the_partition_of_its_name_alone() -> None:
    told_by = []
    for announces in (True, False):
        partition = Partition(announces=announces)
        partition.frame("a", "heartbeat", b"{}", 0)
        outs = [partition.frame("b", "heartbeat", b"{}", second * 1000) for second in range(1, 12)]
        told_by.append([beat["provider"] for out in outs for beat in told(out, "heartbeat")])
    assert told_by == [["a"], []]


def test_repair_that_gave_up_on_what_nobody_misses_changes_nothing() -> None:
    partition = Partition()
    lost = repairs.encode(Unrecoverable(SYMBOL, "a", "", 5, 9, "the venue has no more"))
    out = partition.frame("a", "repair", lost, 0)
    assert (out.status, out.dead) == ([], [])


def test_repair_that_names_no_range_is_a_dead_letter() -> None:
    partition = Partition()
    lost = repairs.encode(Unrecoverable(SYMBOL, "a", "", 9, 5, "the venue has no more"))
    (letter,) = events(partition.frame("a", "repair", lost, 0).dead)
    assert letter["error"] == "trades 9 to 5 are no range"
