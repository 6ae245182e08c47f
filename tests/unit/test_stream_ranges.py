"""Bars of venues from before the first live trade: each taken once, none that the live trades make.

seconds   0 ... 55   56   57   58 59 60            the first live trade is at 57.5 s
bars      o     o    o    o     x  x  x            o taken, x not
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from stream_histories import MS, SYMBOL, T0_MS
from stream_outputs import RAW, events, joined, read_into, saved
from test_stream_publication import A_THEN_B, Partition, ids, trade

from mdstream import repairs
from mdstream.events import HISTORY
from mdstream.records import Record
from mdstream.repairs import RangeAnswer, RangeRequest
from mdstream.roles.feeds import feeds
from mdstream.stream import checkpoint
from mdstream.stream.canonical import Canonical
from mdstream.stream.checkpoint import Restored
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Output
from mdstream.stream.ranges import MAX_BARS, MAX_INTERVALS, MAX_RANGES
from mdstream.stream.state import Instrument
from mdstream.ticks import BarTick
from mdstream.venues.spans import count

SECOND = 1_000 * MS
T0 = T0_MS * MS
NOW_MS = 60_000
BEGUN_MS = 57_500


def bar(second: int, interval: str = "1s", *, symbol: str = SYMBOL) -> BarTick:
    """The venue's bar from so many seconds after T0 on."""
    return BarTick(symbol, interval, T0 + second * SECOND, 2.0, 3.0, 1.0, 2.5, 100.0 + second, 20.0, 5)


def came(partition: Partition, *bars: BarTick, of: str = "a", at_ms: int = NOW_MS) -> Output:
    """A REST answer with these bars."""
    return partition.says(of, *bars, at_ms=at_ms, kind="kline")


def opens(out: Output) -> list[int]:
    """The bars of an output, in seconds after T0."""
    return [(event["ts_open"] - T0) // SECOND for event in events(out.bars)]


def said(partition: Partition, request: RangeRequest, at_ms: int = NOW_MS) -> RangeAnswer:
    """The stream's answer."""
    out = partition.frame("a", "repair", repairs.encode(request), at_ms)
    ((key, value, _, _),) = out.gaps
    assert key == request.symbol.encode()
    answer = repairs.decode_request(value or b"")
    assert isinstance(answer, RangeAnswer)
    assert answer.request_offset == len(partition.log) - 1
    return answer


def asked(
    partition: Partition, first: int, end: int, interval: str = "1s", *, taken: bool = False, at_ms: int = NOW_MS
) -> RangeAnswer:
    """As `said`, with times in seconds after T0."""
    request = RangeRequest(SYMBOL, "a", interval, T0 + first * SECOND, T0 + end * SECOND, taken)
    return said(partition, request, at_ms)


def seconds(answer: RangeAnswer) -> list[tuple[int, int]]:
    """The missing ranges, in seconds after T0."""
    assert answer.refused == ""
    return [((first - T0) // SECOND, (end - T0) // SECOND) for first, end in answer.missing]


def begun(at_ms: int = BEGUN_MS) -> Partition:
    partition = Partition()
    partition.says("a", trade(1, at_ms), at_ms=at_ms)
    return partition


# -- what is taken


def test_bar_of_history_is_published_once_as_the_venue_has_it() -> None:
    """With a revision above those of every bar that is made of trades, and whose it is."""
    partition = begun()
    out = came(partition, bar(3), replace(bar(4), quote_volume=None, trades=None))
    first, second = events(out.bars)
    assert first == {
        "type": "bar", "symbol": SYMBOL, "interval": "1s", "ts_open": T0 + 3 * SECOND, "open": 2.0, "high": 3.0,
        "low": 1.0, "close": 2.5, "volume": 103.0, "quote_volume": 20.0, "trades": 5, "revision": HISTORY,
        "provider": "a", "backfilled": True,
    }  # fmt: skip
    assert (second["quote_volume"], second["trades"]) == (None, None)
    assert (out.bars[0][0], out.events["bar", "a"]) == (SYMBOL.encode(), 2)
    again = came(partition, bar(3), bar(4), bar(5), of="b")
    assert (opens(again), again.counts["bar, repeat"]) == ([5], 2)


@pytest.mark.parametrize(("begun_ms", "last"), [(57_500, 57), (57_001, 57), (57_000, 56)])
def test_history_ends_with_the_bar_in_which_the_live_trades_begin(begun_ms: int, last: int) -> None:
    """That one would have a part of its trades only. From the next one on the trades make the bars."""
    partition = begun(begun_ms)
    out = came(partition, *map(bar, range(50, 60)))
    assert (opens(out), out.counts["bar, no history"]) == (list(range(50, last + 1)), 59 - last)
    answer = asked(partition, 50, 60)
    assert (seconds(answer), answer.live_from) == ([(50, last + 1)], T0 + begun_ms * MS)


def test_bar_that_was_not_over_when_it_was_received_is_left_out() -> None:
    """The venue's answer has a part of it. It is not missing yet."""
    partition = Partition()
    assert opens(came(partition, bar(58), bar(59), bar(60), at_ms=60_999)) == [58, 59]
    assert seconds(asked(partition, 58, 70, at_ms=60_999)) == [(58, 60)]
    assert seconds(asked(partition, 58, 70, at_ms=61_000)) == [(58, 61)]


def test_no_ingestor_has_to_have_read_the_instrument() -> None:
    """It has no source yet, and shows up nowhere. Its live trades begin as any do, behind its history."""
    partition = Partition()
    out = came(partition, bar(1), bar(2))
    assert asked(partition, 0, 3, taken=True).live_from is None
    partition.restarts(out, Output(changed={SYMBOL}))
    assert feeds([partition.stream]) == {}
    assert opens(came(partition, bar(0), bar(1), bar(3))) == [3]
    live = partition.says("a", trade(1, NOW_MS), at_ms=NOW_MS)
    assert ids(live) == [("a", "1")]
    assert list(feeds([partition.stream])) == [SYMBOL]
    assert opens(came(partition, bar(59), bar(60), at_ms=70_000)) == [59]


def test_intervals_are_taken_each_on_its_own() -> None:
    partition = begun()
    assert [e["interval"] for e in events(came(partition, bar(0), bar(0, "5s"), bar(55, "5s")).bars)] == ["1s"] + [
        "5s"
    ] * 2
    asked(partition, 0, 20, taken=True)
    assert seconds(asked(partition, 0, 20)) == []
    assert seconds(asked(partition, 0, 60, "5s")) == [(0, 60)]


def test_what_was_taken_is_not_missing_any_more_whoever_brought_it() -> None:
    """Also where the venue has no bar: there were no trades."""
    partition = begun()
    assert seconds(asked(partition, 0, 60)) == [(0, 58)]
    came(partition, bar(10), bar(12))
    assert seconds(asked(partition, 10, 20)) == [(10, 20)]
    assert seconds(asked(partition, 10, 20, taken=True)) == []
    assert seconds(asked(partition, 0, 60)) == [(0, 10), (20, 58)]
    out = came(partition, bar(9), bar(11), of="b")
    assert (opens(out), out.counts["bar, repeat"]) == ([9], 1)


def test_window_cut_off_by_a_kill_is_repeated_and_each_bar_published_once() -> None:
    """The worker knows what came of it, though it is not taken yet; so a venue may correct its bars meanwhile."""
    partition = begun()
    partition.restarts(came(partition, bar(10), bar(11), bar(13)))
    assert seconds(asked(partition, 10, 15)) == [(10, 15)]
    out = came(partition, bar(10), replace(bar(11), volume=99.0), bar(12), bar(13), bar(14))
    assert opens(out) == [12, 14]
    assert seconds(asked(partition, 10, 15, taken=True)) == []
    assert partition.stream.instruments[SYMBOL].past["1s"].bars == []


# -- what is refused


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (RangeRequest(SYMBOL, "a", "1x", T0, T0 + SECOND), "bars of '1x': expected a length like 1s, 5m, 1h or 1d"),
        (RangeRequest(SYMBOL, "a", "5s", T0 + SECOND, T0 + 5 * SECOND), "are not both multiples of 5s since 1970"),
        (RangeRequest(SYMBOL, "a", "5s", T0, T0 + 6 * SECOND), "are not both multiples of 5s since 1970"),
        (RangeRequest("BTCUSD-PERP", "a", "1s", T0, T0 + SECOND), "it has no bars: its sizes are not in units of base"),
    ],
)
def test_request_that_no_history_can_answer_is_refused_with_the_reason(request_: RangeRequest, reason: str) -> None:
    partition = Partition()
    answer = said(partition, replace(request_, taken=True))
    assert reason in answer.refused
    assert (answer.missing, partition.stream.instruments) == ([], {})


def test_symbol_of_another_partition_is_refused() -> None:
    """Its state is there: a bar becomes a dead letter, a request is answered."""
    partition = Partition(announces=False)
    assert "partition" in asked(partition, 0, 5, taken=True).refused
    (letter,) = events(came(partition, bar(0)).dead)
    assert SYMBOL in letter["error"]
    assert partition.stream.instruments == {}


@pytest.mark.parametrize(("begin", "end"), [(5, 5), (6, 5), (-1, 5), (0, 2**63)])
def test_request_for_no_time_is_a_dead_letter(begin: int, end: int) -> None:
    request = repairs.encode(RangeRequest(SYMBOL, "a", "1s", begin, end))
    (letter,) = events(Partition().frame("a", "repair", request, NOW_MS).dead)
    assert letter["error"] == f"the time from {begin} to before {end} is no range"


def test_bar_that_cannot_be_is_a_dead_letter_and_no_fault_of_the_live_feed() -> None:
    """The others of its frame are taken."""
    partition = begun()
    out = came(partition, bar(1), replace(bar(2), high=0.5), bar(3))
    (letter,) = events(out.dead)
    assert letter["error"] == "a bar with open, high, low and close 2 0.5 1 2.5"
    assert (opens(out), partition.stream.log.sources["a"].faults) == ([1, 3], 0)


def test_history_of_a_state_that_does_not_say_where_it_began_is_refused() -> None:
    """A state of a version without this is read; what is before its live trades is not known."""
    partition = begun()
    states = partition.stream.instruments
    older = msgspec.msgpack.decode(msgspec.msgpack.encode(states[SYMBOL]))
    del older[len(older) - 4 :]
    states[SYMBOL] = msgspec.convert(older, Instrument)
    partition.restarts(Output(changed={SYMBOL}))
    assert "older version" in asked(partition, 0, 5).refused
    assert came(partition, bar(0)).counts["bar, no history"] == 1


# -- bounds


def test_more_ranges_than_the_state_has_room_for_are_refused() -> None:
    """What lies between them is asked for then: ranges that meet are one."""
    partition = Partition()
    for second in range(0, 2 * MAX_RANGES, 2):
        assert seconds(asked(partition, second, second + 1, taken=True, at_ms=10**6)) == []
    answer = asked(partition, 2 * MAX_RANGES, 2 * MAX_RANGES + 1, taken=True, at_ms=10**6)
    assert "ask for what lies between" in answer.refused
    assert seconds(asked(partition, 0, 2 * MAX_RANGES, taken=True, at_ms=10**6)) == []
    assert seconds(asked(partition, 2 * MAX_RANGES, 2 * MAX_RANGES + 1, taken=True, at_ms=10**6)) == []


def test_more_intervals_than_the_state_has_room_for_are_refused() -> None:
    partition = Partition()
    lengths = [length for length in range(1, 61) if 2 * T0 % (length * SECOND) == 0][: MAX_INTERVALS + 1]
    *known, other = [f"{length}s" for length in lengths]
    assert len(known) == MAX_INTERVALS
    for name in known:
        came(partition, replace(bar(0, name), ts_open=0))
    request = RangeRequest(SYMBOL, "a", other, 0, 3_600 * SECOND)
    assert f"bars of {MAX_INTERVALS} other intervals" in said(partition, request).refused
    (letter,) = events(came(partition, replace(bar(0, other), ts_open=0)).dead)
    assert f"bars of {MAX_INTERVALS} other intervals" in letter["error"]
    assert said(partition, replace(request, interval=known[0])).refused == ""


def test_bars_of_windows_that_nobody_finishes_are_remembered_up_to_a_number() -> None:
    """The last ones by time: a window that is not finished is the newest, or was left long ago."""
    partition = Partition()
    many = [bar(2 * number) for number in range(MAX_BARS + 1)]
    came(partition, *many, at_ms=10**7)
    assert len(partition.stream.instruments[SYMBOL].past["1s"].bars) == MAX_BARS
    assert opens(came(partition, *many, at_ms=10**7)) == [0]


# -- anything, in any order

VENUE = {second: bar(second) for second in range(-30, 60) if second % 7}
"""Its bars: of some seconds it has none."""
STEPS = st.lists(
    st.tuples(st.sampled_from(["live", "rest", "rest", "taken", "ask"]), st.integers(-30, 50), st.integers(1, 20)),
    max_size=30,
)
CUTS = st.lists(st.integers(0, 30), max_size=6)


def played(steps: Sequence[tuple[str, int, int]]) -> tuple[Partition, list[Output], set[int]]:
    """Each step one record, a second after the one before; and the seconds whose bars have to be published."""
    partition, outs = Partition(), list[Output]()
    bars, whole, live = set[int](), set[int](), list[int]()
    for now, (what, first, length) in enumerate(steps):
        end_ms = min([now * 1_000, *(-(-at_ms // 1_000) * 1_000 for at_ms in live[:1])])
        window = [second for second in range(first, first + length) if second * 1_000 < end_ms]
        if what == "live":
            at_ms = now * 1_000 - 10 * length
            outs.append(partition.says("a", trade(len(live), at_ms), at_ms=now * 1_000))
            live.append(at_ms)
        elif what == "rest":
            ticks = [VENUE[second] for second in range(first, first + length) if second in VENUE]
            outs.append(came(partition, *ticks, at_ms=now * 1_000))
            bars |= (VENUE.keys() & set(window)) - whole
        else:
            whole |= set(window) if what == "taken" else set()
            request = RangeRequest(
                SYMBOL, "b", "1s", T0 + first * SECOND, T0 + (first + length) * SECOND, what == "taken"
            )
            outs.append(partition.frame("a", "repair", repairs.encode(request), now * 1_000))
            (answer,) = (repairs.decode_request(value or b"") for _, value, _, _ in outs[-1].gaps)
            assert {s for a, b in seconds(answer) for s in range(a, b)} == set(window) - whole
    return partition, outs, bars


@given(STEPS)
@example([("rest", -30, 20), ("taken", -30, 20), ("live", 0, 1), ("rest", -30, 20), ("ask", -30, 20)])
def test_stream_has_each_bar_of_history_once_and_none_of_the_live_trades(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is asked, answered, taken or repeated, and whenever the live trades begin."""
    partition, outs, expected = played(steps)
    found = [second for out in outs for second in opens(out)]
    assert sorted(found) == sorted(expected)
    assert not any(out.dead for out in outs)
    instrument = partition.stream.instruments.get(SYMBOL, Instrument())
    for taken in instrument.past.values():
        assert count(taken.bars) + count(taken.whole) <= 90 * SECOND
        for spans in (taken.whole, taken.bars):
            assert all(before.last + 1 < after.first for before, after in pairwise(spans))


@given(STEPS, CUTS)
def test_reprocessing_gives_the_same_bytes_in_any_batches(steps: list[tuple[str, int, int]], cuts: list[int]) -> None:
    """In batches of any size, and from a checkpoint after any of them."""
    partition, outs, _ = played(steps)
    whole = joined(outs)
    state, done = Restored(), list[Output]()
    for records in _cut(partition.log, cuts):
        stream = Canonical(RAW, 0, partition.venues.values(), rules=A_THEN_B, announces=lambda _: True,
                           instruments=state.instruments, log=state.log, position=state.position or 0)  # fmt: skip
        from_offset = stream.read_from
        done.append(stream.step(partition.log[from_offset : records[-1].offset + 1]))
        everything = Output(changed=set(stream.instruments))
        state = checkpoint.read(read_into(Ledger(RAW, checkpoint.LAYOUT), saved(stream, everything)))
    assert joined(done) == whole


def _cut(log: Sequence[Record], cuts: Iterable[int]) -> Iterator[Sequence[Record]]:
    ends = sorted({cut for cut in cuts if 0 < cut < len(log)} | {len(log)})
    for begin, end in zip([0, *ends], ends, strict=False):
        if begin < end:
            yield log[begin:end]
