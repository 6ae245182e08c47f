"""Trades from before the stream's first: taken where they were asked for, once, and never in place of live ones.

ids      0 .. 4000   5000 .. 5099   6000 ...       the live trades of `a` begin at 6000
asked                [__________]
REST             x    o  o  o  o                   o published, x not
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from stream_histories import SYMBOL
from stream_outputs import events
from test_stream_publication import Partition, ids, trade

from mdstream import repairs
from mdstream.repairs import HistoryAnswer, HistoryRequest, Unrecoverable
from mdstream.stream.dedupe import EARLIER_IDS, MAX_HOLES, MAX_OPENED, NEAR_NS, SeenIds
from mdstream.stream.output import Output
from mdstream.stream.rules import Policy, Rules
from mdstream.stream.state import Instrument
from mdstream.ticks import NO_ID
from mdstream.venues.spans import Span, count, merged

FIRST = 6000
MERGED = Rules(Policy(("a", "b"), merge=True))


def asked(
    partition: Partition, first: int, last: int, *, of: str = "a", view: str = "", opens: bool = True
) -> HistoryAnswer:
    """The stream's answer."""
    request = HistoryRequest(SYMBOL, of, view, first, last, opens)
    out = partition.frame(of, "repair", repairs.encode(request), 1000)
    ((key, value, _, _),) = out.gaps
    assert key == SYMBOL.encode()
    answer = repairs.decode_request(value or b"")
    assert isinstance(answer, HistoryAnswer)
    assert answer.request_offset == len(partition.log) - 1
    return answer


def came(partition: Partition, *numbers: int, of: str = "a", at_ms: int = -5000) -> Output:
    """A REST answer with these trades."""
    return partition.says(of, *(trade(number, at_ms, recovered=True) for number in numbers), at_ms=1000)


def begun(rules: Rules | None = None, *, contiguous: bool = True) -> Partition:
    partition = Partition(contiguous=contiguous) if rules is None else Partition(rules)
    partition.says("a", trade(FIRST, 0), at_ms=0)
    return partition


# -- what is taken


def test_history_is_published_where_it_was_asked_for_marked_and_once() -> None:
    """It has the next numbers, as any event; a second copy, and what nobody asked for, has none."""
    partition = begun()
    assert asked(partition, 4000, 4002).missing == [(4000, 4002)]
    out = came(partition, 3999, 4000, 4001, 4003)
    marks = [(t["trade_id"], t["recovered"], t["backfilled"]) for t in events(out.trades)]
    assert marks == [("4000", True, True), ("4001", True, True)]
    again = came(partition, 4000, 4001, 4002)
    assert ids(again) == [("a", "4002")]
    first, *_, last = events(out.trades) + events(again.trades)
    assert last["seq"] == first["seq"] + 2


def test_seam_is_the_first_live_trade() -> None:
    """Everything up to it is asked for, nothing from it on: what comes live is never missing."""
    partition = begun()
    partition.says("a", trade(FIRST + 1, 10), at_ms=10)
    assert asked(partition, FIRST - 3, FIRST + 50).missing == [(FIRST - 3, FIRST - 1)]
    out = came(partition, *range(FIRST - 3, FIRST + 4))
    assert ids(out) == [("a", str(number)) for number in range(FIRST - 3, FIRST)]
    assert ids(partition.says("a", trade(FIRST + 2, 20), at_ms=2000)) == [("a", str(FIRST + 2))]


def test_gap_that_was_lost_is_missing_and_can_be_filled_later() -> None:
    """By its own trades, which are no history: the bars that are still kept get them."""
    partition = begun()
    partition.says("a", trade(FIRST + 3, 10), at_ms=10)
    partition.frame("a", "repair", repairs.encode(Unrecoverable(SYMBOL, "a", "", FIRST + 1, FIRST + 2, "")), 20)
    assert asked(partition, FIRST, FIRST + 9).missing == [(FIRST + 1, FIRST + 2)]
    (event,) = events(came(partition, FIRST + 2, at_ms=5).trades)
    assert (event["recovered"], event.get("backfilled")) == (True, None)
    assert asked(partition, FIRST, FIRST + 9).missing == [(FIRST + 1, FIRST + 1)]


def test_question_alone_opens_nothing() -> None:
    """It is the plan before, and the verification after."""
    partition = begun()
    assert asked(partition, 4000, 4002, opens=False).missing == [(4000, 4002)]
    assert ids(came(partition, 4000)) == []
    asked(partition, 4000, 4002)
    came(partition, 4000, 4002)
    assert asked(partition, 3999, 4002, opens=False).missing == [(3999, 3999), (4001, 4001)]


def test_what_the_venue_does_not_have_stays_unknown_and_may_be_asked_for_again() -> None:
    partition = begun()
    asked(partition, 4000, 4009)
    partition.frame("a", "repair", repairs.encode(Unrecoverable(SYMBOL, "a", "", 4003, 4005, "not there")), 1000)
    assert ids(came(partition, 4002, 4004)) == [("a", "4002")]
    assert asked(partition, 4002, 4006).missing == [(4003, 4006)]
    assert ids(came(partition, 4002, 4004)) == [("a", "4004")]


def test_state_of_history_survives_a_restart() -> None:
    """What was published before the checkpoint is not published again, what was asked for is still taken."""
    partition = begun()
    asked(partition, 4000, 4002)
    partition.restarts(came(partition, 4000))
    assert ids(came(partition, 4000, 4001)) == [("a", "4001")]


def test_trade_of_another_venues_under_an_id_of_history_is_refused() -> None:
    """It is younger than the trades that came after it. The range is unknown again."""
    partition = begun()
    asked(partition, 4000, 4000)
    out = came(partition, 4000, at_ms=NEAR_NS // 10**6 + 1)
    (letter,) = events(out.dead)
    assert "does the REST interface belong to the websocket's venue?" in letter["error"]
    assert ids(came(partition, 4000)) == []
    assert asked(partition, 4000, 4000).missing == [(4000, 4000)]


# -- several sources


def standby(rules: Rules | None = None) -> Partition:
    """`b` was first; `a`, preferred, took over from it: b's trade at 0 ms, a's from 300 ms on."""
    partition = Partition() if rules is None else Partition(rules)
    partition.says("b", trade(900, 0), at_ms=0)
    partition.says("a", trade(FIRST, 300), at_ms=300)
    partition.says("a", trade(FIRST + 1, 600), at_ms=600)
    return partition


def test_history_of_a_later_source_ends_where_another_was_followed() -> None:
    """Else the same time of the market would be in the stream twice. What is left out is not missing either."""
    partition = standby()
    assert asked(partition, 5998, 5999).missing == [(5998, 5999)]
    assert ids(came(partition, 5998, at_ms=-1)) == [("a", "5998")]
    out = came(partition, 5999, at_ms=0)
    assert (ids(out), out.counts["trade, another source has it"]) == ([], 1)
    assert asked(partition, 5998, 5999, opens=False).missing == []


def test_history_is_one_sources() -> None:
    partition = standby()
    asked(partition, 5998, 5999)
    assert (
        asked(partition, 800, 899, of="b").refused == "its history is a's: two would have each time of the market twice"
    )
    assert ids(came(partition, 899, of="b")) == []


def test_merged_sources_have_each_their_history() -> None:
    partition = standby(MERGED)
    for of, number in (("a", 5999), ("b", 899)):
        assert asked(partition, number, number, of=of).refused == ""
        assert ids(came(partition, number, of=of)) == [(of, str(number))]


# -- what is refused


def test_history_without_live_trades_is_refused() -> None:
    """It has to end somewhere. Also for a provider that is not known, and as long as a venue has only said which trade
    was its last: nothing of that is taken."""
    for of in ("a", "z"):
        assert "start `mdstream ingest`" in asked(Partition(), 1, 2, of=of).refused
    for rules in (None, MERGED):
        partition = Partition() if rules is None else Partition(rules)
        partition.says("a", replace(trade(FIRST, 0), resume=True), at_ms=0)
        assert "start `mdstream ingest`" in asked(partition, 1, 2).refused
        assert ids(came(partition, FIRST - 1)) == []


def test_history_of_ids_that_may_skip_is_refused() -> None:
    assert asked(begun(contiguous=False), 1, 2).refused == "its trade ids may skip: what is missing is not known"


def test_history_in_another_id_space_is_refused() -> None:
    assert asked(begun(), 1, 2, view="aggTrade").refused == "its trades are counted by one id space, not by aggTrade"


def test_history_before_ids_that_began_anew_is_refused() -> None:
    """Ids below the new count's first are the old count's: those were published."""
    partition = begun()
    partition.says("a", trade(50, 10), at_ms=10)
    assert "began anew" in asked(partition, 1, 2).refused
    assert ids(came(partition, 1)) == []


@pytest.mark.parametrize("resume", [False, True])
def test_history_before_a_change_of_the_id_space_is_refused(resume: bool) -> None:
    """The other id space has the same executions, which were published, also where it begins with its last trade."""
    partition = begun()
    partition.says("a", replace(trade(77_000, 30_000), id_space="x", resume=resume), at_ms=30_000)
    assert "began anew" in asked(partition, 1, 2, view="x").refused


def test_history_of_a_state_that_does_not_say_where_it_began_is_refused() -> None:
    """A state of a version without these fields is read, and live trades go on in it under the next numbers."""
    partition = begun()
    partition.says("a", trade(FIRST + 2, 10), at_ms=10)
    states = partition.stream.instruments
    older = msgspec.msgpack.decode(msgspec.msgpack.encode(states[SYMBOL]))
    del older[len(older) - 4 :]
    seen = older[8]["a"][0][2]
    del seen[len(seen) - 2 :]
    states[SYMBOL] = msgspec.convert(older, Instrument)
    assert (states[SYMBOL].begun_by, states[SYMBOL].feeds["a"].trades.seen.begun) == ("", NO_ID)
    partition.restarts(Output(changed={SYMBOL}))
    assert "older version" in asked(partition, 1, 2).refused
    out = came(partition, 1, FIRST - 1, FIRST + 1, at_ms=5)
    live = partition.says("a", trade(FIRST + 3, 20), at_ms=1020)
    published = events(out.trades) + events(live.trades)
    assert [(t["trade_id"], t["seq"] - published[0]["seq"]) for t in published] == [
        (str(FIRST - 1), 0), (str(FIRST + 1), 1), (str(FIRST + 3), 2)
    ]  # fmt: skip
    assert not any(t.get("backfilled") for t in published)


def test_more_ranges_than_the_state_has_room_for_are_refused() -> None:
    partition = begun()
    answers = [asked(partition, number, number) for number in range(0, 4 * MAX_HOLES, 2)]
    refused = [answer.refused for answer in answers]
    assert "too many separate ranges" in refused[-1]
    assert refused.index(refused[-1]) == MAX_HOLES - 1
    assert ids(came(partition, 2 * MAX_HOLES)) == []


def test_request_that_names_no_range_is_a_dead_letter() -> None:
    request: Any = HistoryRequest(SYMBOL, "a", "", 9, 5)
    (letter,) = events(begun().frame("a", "repair", repairs.encode(request), 0).dead)
    assert letter["error"] == "trades 9 to 5 are no range"


# -- anything, in any order

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["live", "rest", "open", "ask", "lost", "restart"]), st.integers(0, 40), st.integers(0, 8)
    ),
    max_size=40,
)


@given(EVENTS, st.integers(15, 30), st.booleans())
def test_stream_has_each_trade_once_under_one_number(
    steps: list[tuple[str, int, int]], first: int, resumes: bool
) -> None:
    """Whatever is asked, answered, lost, repeated, late or restarted. What is missing by its own account is what it has
    not published; a trade is marked exactly if its id is below the first live one. The venue may begin with the trade
    before that."""
    partition, outs = Partition(), []
    if resumes:
        outs.append(partition.says("a", replace(trade(first - 1, first - 1), resume=True), at_ms=0))
    outs.append(partition.says("a", trade(first, first), at_ms=0))
    for at_ms, (what, begin, length) in enumerate(steps, 1):
        numbers = range(begin, begin + length + 1)
        if what == "live":
            outs.append(partition.says("a", *(trade(number, number) for number in numbers), at_ms=at_ms))
        elif what == "rest":
            rest = (trade(number, number, recovered=True) for number in numbers)
            outs.append(partition.says("a", *rest, at_ms=at_ms))
        elif what == "lost":
            lost = repairs.encode(Unrecoverable(SYMBOL, "a", "", numbers[0], numbers[-1], ""))
            outs.append(partition.frame("a", "repair", lost, at_ms))
        elif what == "restart":
            partition.restarts(*outs)
        else:
            asked(partition, numbers[0], numbers[-1], opens=what == "open")
    trades = [event for out in outs for event in events(out.trades)]
    published = [int(event["trade_id"]) for event in trades]
    assert len(set(published)) == len(published)
    assert [event["seq"] for event in trades] == list(range(trades[0]["seq"], trades[0]["seq"] + len(trades)))
    assert all(event.get("backfilled", False) <= (int(event["trade_id"]) < first) for event in trades)
    missing = asked(partition, 0, 100, opens=False).missing
    assert {n for a, b in missing for n in range(a, b + 1)} == set(range(max(published) + 1)) - set(published)


# -- the ids as such

STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "fill", "close", "add"]), st.integers(0, 60), st.integers(0, 12)), max_size=60
)


@given(STEPS, st.integers(20, 40))
def test_no_id_of_history_is_new_twice(steps: list[tuple[str, int, int]], first: int) -> None:
    """Whatever is opened, found gone, repaired or comes live. What is unseen is what was not new, up to the newest."""
    seen, new = SeenIds(), set[int]()
    seen.add(first, first, 1)
    new.add(first)
    for what, begin, length in steps:
        for number in range(begin, begin + length + 1) if what in ("fill", "add") else ():
            if seen.fill(number, number) if what == "fill" else seen.add(number, number, 1):
                assert number not in new
                new.add(number)
        if what == "open":
            assert seen.open(Span(begin, begin + length))
        elif what == "close":
            seen.close(Span(begin, begin + length))
        unseen = seen.unseen(Span(0, 100))
        assert {n for a, b in unseen for n in range(a, b + 1)} == set(range(seen.last + 1)) - new
        assert seen.missing == sorted(seen.missing, key=lambda hole: hole.first)
        assert seen.opened == merged(seen.opened)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(seen), type=SeenIds) == seen


def test_history_that_is_pushed_out_by_other_holes_is_unknown_again() -> None:
    """It was not published, so it may be asked for again."""
    seen = SeenIds()
    seen.add(10_000, 10_000, 1)
    seen.open(Span(100, 199))
    for number in range(MAX_HOLES):
        seen.add(10_002 + 2 * number, 10_002 + 2 * number, 1)
    assert seen.unseen(Span(100, 199)) == [Span(100, 199)]
    assert not seen.fill(150, 150)


def test_ranges_of_history_stay_bounded() -> None:
    """However often a part of it is not to be had: then the lowest of these count as known, and stay out."""
    seen = SeenIds()
    seen.add(10_000, 10_000, 1)
    seen.open(Span(0, 9_999))
    for number in range(2 * MAX_OPENED, 0, -1):
        seen.close(Span(10 * number, 10 * number))
    assert len(seen.opened) <= MAX_OPENED
    unknown = [Span(10 * number, 10 * number) for number in range(1, 2 * MAX_OPENED + 1)]
    assert count(seen.unseen(Span(0, 9_999))) <= 10_000
    assert not any(seen.fill(*span) for span in unknown)


def test_lowest_ranges_of_history_are_joined_if_there_are_too_many() -> None:
    """What was not to be had between them stays out; all above may be asked for again."""
    seen, gone = SeenIds(), [10 * number + 5 for number in range(MAX_OPENED)]
    seen.add(10_000, 10_000, 1)
    seen.open(Span(0, 9_999))
    seen.fill(gone[-1] + 1, 9_999)
    for number in gone:
        seen.fill(number - 5, number - 1)
        seen.fill(number + 1, number + 4)
    for number in gone:
        seen.close(Span(number, number))
    assert seen.unseen(Span(0, 9_999)) == [Span(number, number) for number in gone[1:]]
    assert seen.open(Span(0, gone[1]))
    assert (seen.fill(gone[0], gone[0]), seen.fill(gone[1], gone[1])) == (False, True)


@pytest.mark.parametrize("first", [0, 1, EARLIER_IDS, 5 * EARLIER_IDS])
def test_earlier_ids_are_missing_history(first: int) -> None:
    """Those that may still come live are fetched with the rest."""
    seen = SeenIds()
    seen.add(first, first, 1)
    assert seen.open(Span(0, first))
    assert count(seen.unseen(Span(0, first))) == first
    assert first == 0 or seen.fill(0, first - 1)
    assert seen.unseen(Span(0, first)) == []
