"""Past trades of a source whose ids do not count: by time, each once, up to the first live trade.

ms      -5000 ... -10   0   10 ...         the live trades of `a` begin at 0
REST      o        o    x                  o taken, x not
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from stream_histories import MS, SYMBOL, T0_MS
from stream_outputs import RAW, events, joined, read_into, saved
from test_stream_publication import A_THEN_B, Partition, ids, trade

from mdstream import repairs
from mdstream.repairs import RangeAnswer, RangeRequest
from mdstream.stream import checkpoint
from mdstream.stream.canonical import Canonical
from mdstream.stream.checkpoint import Restored
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Output
from mdstream.stream.ranges import MAX_RANGES
from mdstream.stream.rules import Policy, Rules
from mdstream.stream.state import Instrument
from mdstream.stream.timed import LATE_NS, MAX_EARLY, MAX_IDS
from mdstream.ticks import NO_ID, TradeTick

T0 = T0_MS * MS
NOW_MS = 1_000
MERGED = Rules(Policy(("a", "b"), merge=True))


def opaque(number: int, at_ms: int, *, recovered: bool = False) -> TradeTick:
    """A trade whose id is no number that counts."""
    return replace(trade(number, at_ms, recovered=recovered), first_id=NO_ID, last_id=NO_ID)


def past(number: int, at_ms: int) -> TradeTick:
    return opaque(number, at_ms, recovered=True)


def came(partition: Partition, *trades: TradeTick, of: str = "a", at_ms: int = NOW_MS) -> Output:
    """A REST answer with these trades."""
    return partition.says(of, *trades, at_ms=at_ms)


def asked(
    partition: Partition, begin_ms: int, end_ms: int, *, of: str = "a", taken: bool = False, at_ms: int = NOW_MS
) -> RangeAnswer:
    """The stream's answer."""
    request = RangeRequest(SYMBOL, of, "trades", T0 + begin_ms * MS, T0 + end_ms * MS, taken)
    out = partition.frame("a", "repair", repairs.encode(request), at_ms)
    ((key, value, _, _),) = out.gaps
    assert key == SYMBOL.encode()
    answer = repairs.decode_request(value or b"")
    assert isinstance(answer, RangeAnswer)
    assert answer.request_offset == len(partition.log) - 1
    return answer


def missing(answer: RangeAnswer) -> list[tuple[int, int]]:
    """In ms after T0."""
    assert answer.refused == ""
    return [((begin - T0) // MS, (end - T0) // MS) for begin, end in answer.missing]


def begun(rules: Rules = A_THEN_B) -> Partition:
    partition = Partition(rules, contiguous=False)
    partition.says("a", opaque(1_000, 0), at_ms=0)
    return partition


# -- what is taken


def test_history_is_published_once_with_the_next_numbers_and_marked() -> None:
    """Up to the first live trade: those of its time and later are the live feed's."""
    partition = begun()
    assert missing(asked(partition, -100, 100)) == [(-100, 0)]
    out = came(partition, past(1, -30), past(2, -20), past(3, 0), past(4, 10))
    marks = [(t["trade_id"], t["recovered"], t["backfilled"]) for t in events(out.trades)]
    assert marks == [("1", True, True), ("2", True, True)]
    assert out.counts["trade, no history"] == 2
    again = came(partition, past(1, -30), past(5, -25))
    assert (ids(again), again.counts["trade, repeat"]) == ([("a", "5")], 1)
    assert events(again.trades)[0]["seq"] == events(out.trades)[-1]["seq"] + 1


def test_ids_that_rise_without_counting_are_taken_by_time_too() -> None:
    """They do not say what is missing."""
    partition = Partition(contiguous=False)
    partition.says("a", trade(1_000, 0), at_ms=0)
    assert ids(came(partition, trade(5, -30, recovered=True), trade(7, -20, recovered=True))) == [
        ("a", "5"),
        ("a", "7"),
    ]
    assert missing(asked(partition, -100, 0, taken=True)) == []


def test_taken_time_is_not_missing_and_nothing_more_of_it_is_published() -> None:
    """Page by page: the trades of a page's last time may go on in the next one."""
    partition = begun()
    came(partition, past(1, -30), past(2, -20))
    assert missing(asked(partition, -100, -20, taken=True)) == []
    assert missing(asked(partition, -100, 0)) == [(-20, 0)]
    assert partition.stream.instruments[SYMBOL].feeds["a"].past.ids == {"2": T0 - 20 * MS}
    out = came(partition, past(2, -20), past(3, -20), past(4, -30))
    assert ids(out) == [("a", "3")]
    assert missing(asked(partition, -20, 0, taken=True)) == []
    assert missing(asked(partition, -100, 100)) == []


def test_page_that_a_kill_cut_off_is_repeated_and_each_trade_published_once() -> None:
    partition = begun()
    partition.restarts(came(partition, past(1, -30), past(2, -20)))
    assert missing(asked(partition, -100, 0)) == [(-100, 0)]
    assert ids(came(partition, past(1, -30), past(2, -20), past(3, -10))) == [("a", "3")]


def test_trade_from_before_the_first_that_came_live_does_not_come_by_history_too() -> None:
    partition = begun()
    assert ids(partition.says("a", opaque(5, -20), at_ms=20)) == [("a", "5")]
    assert ids(came(partition, past(4, -30), past(5, -20))) == [("a", "4")]


@pytest.mark.parametrize("taken", [False, True])
def test_trade_that_came_by_history_does_not_come_live_too(taken: bool) -> None:
    """The venue's feed may be behind its REST interface. One that it did not have is still news."""
    partition = begun()
    came(partition, past(5, -20))
    if taken:
        asked(partition, -100, 0, taken=True)
    out = partition.says("a", opaque(5, -20), opaque(6, -15), at_ms=20)
    assert (ids(out), out.counts["trade, repeat"]) == ([("a", "6")], 1)


def test_trade_without_a_time_or_an_id_is_a_dead_letter() -> None:
    """It could come twice, and nobody would know."""
    partition = begun()
    for one in (replace(past(1, 0), ts_exchange=None), replace(past(1, -5), trade_id="")):
        (letter,) = events(came(partition, one).dead)
        assert letter["error"] == "a past trade without a time or an id: it cannot be known again"
    assert partition.stream.log.sources["a"].faults == 0


# -- several sources


def test_history_is_one_sources() -> None:
    """The first that brings any. Where sources are merged, each has its own."""
    partition = begun()
    partition.says("b", opaque(9, 5), at_ms=5)
    assert "no live trade" in asked(partition, -10, 0, of="b").refused
    for rules, expected in ((A_THEN_B, []), (MERGED, [("b", "8")])):
        partition = Partition(rules, contiguous=False)
        partition.says("a", opaque(1_000, 0), at_ms=0)
        partition.says("b", opaque(9, 300), at_ms=300)
        partition.disconnects("a", 400)
        partition.says("b", opaque(10, 700), at_ms=700)
        came(partition, past(999, -5))
        answer = asked(partition, -10, 0, of="b", taken=True)
        assert ("two would have each time of the market twice" in answer.refused) == (not expected)
        assert ids(came(partition, past(8, -5), of="b")) == []
        assert ids(came(partition, past(8, -15), of="b")) == expected


def test_taken_time_without_a_trade_makes_it_that_sources_history() -> None:
    partition = begun()
    asked(partition, -10, 0)
    assert partition.stream.instruments[SYMBOL].history_of == ""
    asked(partition, -10, 0, taken=True)
    assert partition.stream.instruments[SYMBOL].history_of == "a"


# -- what is refused


def test_history_without_live_trades_is_refused() -> None:
    """It has to end somewhere."""
    for of in ("a", "z"):
        assert "start `mdstream ingest`" in asked(Partition(contiguous=False), -10, 0, of=of).refused
    assert ids(came(Partition(contiguous=False), past(1, -5))) == []


def test_history_of_ids_that_count_is_asked_for_by_them() -> None:
    partition = Partition()
    partition.says("a", trade(1_000, 0), at_ms=0)
    assert asked(partition, -10, 0).refused == "its trade ids count: its history is asked for by them"


def test_history_of_a_state_that_does_not_say_where_it_began_is_refused() -> None:
    """A state of a version without these fields is read."""
    partition = begun()
    states = partition.stream.instruments
    older: Any = msgspec.msgpack.decode(msgspec.msgpack.encode(states[SYMBOL]))
    del older[len(older) - 4 :]
    del older[8]["a"][-1]
    states[SYMBOL] = msgspec.convert(older, Instrument)
    partition.restarts(Output(changed={SYMBOL}))
    assert "older version" in asked(partition, -10, 0).refused
    assert ids(came(partition, past(1, -5))) == []


# -- bounds


def test_more_ranges_than_the_state_has_room_for_are_refused() -> None:
    partition = begun()
    first = -2 * MAX_RANGES - 10
    for number in range(MAX_RANGES):
        assert missing(asked(partition, first + 2 * number, first + 2 * number + 1, taken=True)) == []
    assert "ask for what lies between" in asked(partition, -5, 0, taken=True).refused
    assert missing(asked(partition, first, -10, taken=True)) == []
    assert missing(asked(partition, -5, 0, taken=True)) == []


def test_trades_that_find_no_room_stay_missing() -> None:
    """They are refused, and the time from the first of them on is not taken: it is asked for again."""
    partition = begun()
    came(partition, *(past(number, -100_000 + number) for number in range(MAX_IDS)))
    out = came(partition, past(MAX_IDS, -70_000), past(MAX_IDS + 1, -60_000), past(MAX_IDS + 2, -65_000))
    assert ids(out) == []
    assert f"more than {MAX_IDS} past trades" in events(out.dead)[0]["error"]
    assert missing(asked(partition, -100_000, -50_000, taken=True)) == [(-70_000, -50_000)]
    out = came(partition, *(past(MAX_IDS + extra, ms) for extra, ms in enumerate((-70_000, -60_000, -65_000))))
    assert len(ids(out)) == 3
    assert missing(asked(partition, -70_000, -50_000, taken=True)) == []


def test_ids_that_may_come_both_ways_are_remembered_up_to_a_number() -> None:
    """The last ones before the first live trade, and none that is much older."""
    partition = begun()
    came(partition, past(0, -LATE_NS // MS - 1), *(past(number, number - 500) for number in range(1, MAX_EARLY + 10)))
    asked(partition, -100_000, 0, taken=True)
    early = partition.stream.instruments[SYMBOL].feeds["a"].past.early
    assert list(early) == [str(number) for number in range(10, MAX_EARLY + 10)]


# -- anything, in any order

VENUE = [(number, (number // 2) * 10 - 200) for number in range(50)]
"""Its trades: two of each time, ids and ms after T0; the live ones begin somewhere in them."""
KINDS = st.sampled_from(["page", "page", "whole", "ask", "late", "restart"])
STEPS = st.lists(st.tuples(KINDS, st.integers(0, 49), st.integers(1, 12)), max_size=30)


def page_of(first: int, rows: int) -> tuple[Sequence[tuple[int, int]], int, int]:
    """A page from the time of a trade on; and the time in ms that is taken then: up to its last trade's, or to where
    there are no more."""
    begin_ms = VENUE[first][1]
    after = [one for one in VENUE if one[1] >= begin_ms]
    page = after[:rows]
    return page, begin_ms, page[-1][1] if len(after) > rows else 1_000


def played(steps: Sequence[tuple[str, int, int]], first: int) -> tuple[Partition, list[Output], set[int]]:
    """The live trades begin with the one of that number. Also the trades that have to be published."""
    partition, outs = Partition(contiguous=False), list[Output]()
    live, whole = [one for one in VENUE if one[0] >= first], set[int]()
    begun_ms = VENUE[first][1]
    outs.append(partition.says("a", *(opaque(*one) for one in live), at_ms=500))
    expected = {number for number, _ in live}
    for at_ms, (what, number, rows) in enumerate(steps, 501):
        page, begin_ms, end_ms = page_of(number, rows)
        if what == "late":
            outs.append(partition.says("a", opaque(*VENUE[number]), at_ms=at_ms))
            expected.add(number)
        elif what == "restart":
            partition.restarts(*outs)
        elif what in ("page", "whole"):
            outs.append(came(partition, *(past(*one) for one in page), at_ms=at_ms))
            expected |= {one for one, ms in page if ms < begun_ms}
        if what in ("whole", "ask"):
            whole |= set(range(begin_ms, min(end_ms, begun_ms))) if what == "whole" else set()
            request = RangeRequest(SYMBOL, "a", "trades", T0 + begin_ms * MS, T0 + max(end_ms, begin_ms + 1) * MS)
            if begin_ms < end_ms or what == "ask":
                sent = repairs.encode(replace(request, taken=what == "whole"))
                outs.append(partition.frame("a", "repair", sent, at_ms))
                (answer,) = (repairs.decode_request(value or b"") for _, value, _, _ in outs[-1].gaps)
                span = set(range(begin_ms, min(max(end_ms, begin_ms + 1), begun_ms)))
                assert {ms for a, b in missing(answer) for ms in range(a, b)} == span - whole
    return partition, outs, expected


@given(STEPS, st.integers(2, 49))
@example([("page", 0, 5), ("restart", 0, 1), ("whole", 0, 5), ("whole", 4, 12), ("late", 3, 1), ("ask", 0, 12)], 30)
def test_stream_has_each_trade_once_under_one_number(steps: list[tuple[str, int, int]], first: int) -> None:
    """Whatever is asked, brought, repeated, late or restarted; marked exactly if it came by history."""
    _, outs, expected = played(steps, first)
    trades = [event for out in outs for event in events(out.trades)]
    published = [int(event["trade_id"]) for event in trades]
    assert sorted(published) == sorted(expected)
    assert [event["seq"] for event in trades] == list(range(trades[0]["seq"], trades[0]["seq"] + len(trades)))
    assert not any(out.dead for out in outs)
    begun_ms = VENUE[first][1]
    assert all(VENUE[int(event["trade_id"])][1] < begun_ms for event in trades if event.get("backfilled"))


@given(STEPS, st.integers(2, 49), st.lists(st.integers(1, 30), max_size=6))
def test_reprocessing_gives_the_same_bytes_in_any_batches(
    steps: list[tuple[str, int, int]], first: int, cuts: list[int]
) -> None:
    """From a checkpoint after any of them."""
    partition, outs, _ = played([step for step in steps if step[0] != "restart"], first)
    state, done, begin = Restored(), list[Output](), 0
    for end in [*sorted(cut for cut in set(cuts) if cut < len(partition.log)), len(partition.log)]:
        stream = Canonical(RAW, 0, partition.venues.values(), rules=A_THEN_B, announces=lambda _: True,
                           instruments=state.instruments, log=state.log, position=begin)  # fmt: skip
        done.append(stream.step(partition.log[stream.read_from : end]))
        written = saved(stream, Output(changed=set(stream.instruments)))
        state, begin = checkpoint.read(read_into(Ledger(RAW, checkpoint.LAYOUT), written)), end
    assert joined(done) == joined(outs)
