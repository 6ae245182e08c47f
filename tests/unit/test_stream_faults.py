"""What the canonical stream is worth when things go wrong: generated histories of two venues, with faults at random."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import stream_histories as made
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stream_histories import FAILOVER, MERGE, STEP_MS, T0_MS, Fault, History, faults, history, new_stream
from stream_outputs import RAW, events, joined, read_into, saved

from mdstream import repairs
from mdstream.records import Record
from mdstream.repairs import RepairRequest, Unrecoverable, decode_request
from mdstream.stream import checkpoint
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Output
from mdstream.stream.rules import Rules

SECONDS = 75
SETTLED = 98
"""Seconds after which every fault that began within SECONDS has ended, and every gap it left has been reported."""
ANY = ("stall", "disconnect", "kill", "drop", "delay", "reorder", "duplicate", "malformed")
SEEDS = st.integers(0, 2**16)
few = settings(max_examples=int(os.environ.get("MDSTREAM_TEST_EXAMPLES", "15")), deadline=None)


def run(past: History, rules: Rules) -> Output:
    return new_stream(rules).step(past.log)


def numbers(trades: Iterable[dict[str, Any]]) -> Counter[tuple[str, int]]:
    return Counter((trade["provider"], int(trade["trade_id"])) for trade in trades)


def switches(out: Output) -> list[dict[str, Any]]:
    return [event for event in events(out.status) if event.get("state") == "switched"]


def requests_of(out: Output) -> list[RepairRequest]:
    return [decode_request(value or b"") for _, value, _, _ in out.gaps]


# -- nothing lost, nothing twice


@few
@given(faults(ANY, seconds=SECONDS), SEEDS)
def test_merged_stream_has_every_trade_that_arrived_once(wrong: list[Fault], seed: int) -> None:
    """Whatever is late, doubled, out of order or corrupt between: what any source delivered is there, once."""
    past = history(wrong, seconds=SECONDS, seed=seed)
    arrived = {(m.venue, m.number) for m in past.made if m.arrived_ms}
    assert numbers(events(run(past, MERGE).trades)) == Counter(arrived)


@few
@given(faults(ANY, seconds=SECONDS), SEEDS)
def test_failed_over_stream_has_no_trade_twice_and_seq_without_a_hole(wrong: list[Fault], seed: int) -> None:
    trades = events(run(history(wrong, seconds=SECONDS, seed=seed), FAILOVER).trades)
    assert max(numbers(trades).values()) == 1
    assert [trade["seq"] for trade in trades] == list(range(trades[0]["seq"], trades[0]["seq"] + len(trades)))


@few
@given(faults(ANY, seconds=SECONDS), SEEDS)
def test_one_source_at_a_time(wrong: list[Fault], seed: int) -> None:
    """A trade is of the source in use, or fills a hole in what its source gave while it was in use."""
    stream = new_stream(FAILOVER)
    newest: dict[str, int] = defaultdict(int)
    for record in history(wrong, seconds=SECONDS, seed=seed).log:
        for trade in events(stream.step([record]).trades):
            provider, number = trade["provider"], int(trade["trade_id"])
            assert provider == stream.instruments[made.SYMBOL].active or number < newest[provider]
            newest[provider] = max(newest[provider], number)


# -- no hole in the market's time


def market_holes(trades: list[dict[str, Any]], longer_than_ms: int) -> list[tuple[float, float]]:
    """Stretches of the venues' time without a trade, in ms since the beginning."""
    times = sorted(trade["ts_exchange"] // 1_000_000 - T0_MS for trade in trades)
    return [(before, after) for before, after in pairwise([0, *times]) if after - before > longer_than_ms]


@few
@given(faults(ANY, seconds=SECONDS), SEEDS)
@example([Fault("binance", "stall", 20_000, 20_000)], 1)
@example([Fault("binance", "delay", 10_000, 20_000, 700), Fault("binance", "disconnect", 30_000, 5_000)], 2)
@example([Fault("binance", "kill", 10_000, 20_000), Fault("okx", "stall", 30_500, 10_000)], 3)
@example([Fault("binance", "stall", 74_000, 400)], 1)  # its gap is reported 1 s later
@example([Fault("binance", "stall", 2_000, 12_000), Fault("binance", "disconnect", 14_000, 5_000)], 1)  # noticed late
def test_no_hole_where_any_source_was_well(wrong: list[Fault], seed: int) -> None:
    """A hole in the market's time lies where each source had been in trouble just before, or was: handover adds none.

    What was too short to be a fault is a gap, and as good as repaired.
    """
    past = history(wrong, seconds=SETTLED, seed=seed)
    out = run(past, FAILOVER)
    requested = {(r.provider, n) for r in requests_of(out) for n in range(r.first_id, r.last_id + 1)}
    repaired = [{"ts_exchange": m.at_ms * 1_000_000} for m in past.made if (m.venue, m.number) in requested]
    for before, after in market_holes(events(out.trades) + repaired, 4 * STEP_MS + made.JITTER_MS):
        for venue in made.FIRST_IDS:
            # Well from long enough before to be known for it, until whoever was followed is found to have failed.
            assert not all(
                past.well(venue, int(at), before_ms=6_000, after_ms=6_000)
                for at in (before + STEP_MS, (before + after) / 2, after - STEP_MS)
            ), (venue, before, after)


def test_stall_of_the_preferred_source_is_noticed_and_leaves_no_hole() -> None:
    """20 s of silence: the standby is taken within stale_after + 1 s, the preferred one recover_after later again."""
    past = history([Fault("binance", "stall", 20_000, 20_000)], seconds=90, seed=1)
    out = run(past, FAILOVER)
    there, back = switches(out)
    assert (there["previous"], there["provider"]) == ("binance", "okx")
    assert 0 <= there["ts_recv"] / 1e6 - T0_MS - 20_000 - 3_000 <= 1_000
    assert "no trades for 3." in there["reason"]
    assert (back["previous"], back["provider"]) == ("okx", "binance")
    assert 30_000 <= back["ts_recv"] / 1e6 - T0_MS - 40_000 <= 31_000
    trades = events(out.trades)
    assert market_holes(trades, 2 * STEP_MS + made.JITTER_MS) == []
    times = [trade["ts_exchange"] for trade in trades]
    assert times == sorted(times)  # the handover neither repeats nor reorders the market


@few
@given(faults(("stall", "disconnect", "kill"), seconds=SECONDS, most=8), SEEDS)
def test_switches_are_no_more_than_the_faults_ask_for(wrong: list[Fault], seed: int) -> None:
    """Each fault drives away once and lets come back once; nothing flaps in between, however faults alternate."""
    out = run(history(wrong, seconds=SECONDS, seed=seed), FAILOVER)
    assert len(switches(out)) <= 2 * len(wrong)


def test_preferred_source_is_taken_at_once_in_the_beginning() -> None:
    """The first to speak is followed; the preferred one, if it comes soon after, need not show that it is good."""
    out = run(history([Fault("binance", "stall", 0, 1_000)], seconds=10, seed=3), FAILOVER)
    (switch,) = switches(out)
    assert (switch["previous"], switch["provider"], switch["reason"]) == ("okx", "binance", "binance is preferred")
    assert switch["ts_recv"] / 1e6 - T0_MS < 2_000
    assert market_holes(events(out.trades), 2 * STEP_MS + made.JITTER_MS) == []


def test_source_that_keeps_failing_is_trusted_later_and_later() -> None:
    """A preferred source that stalls soon after each return: it has to be good for 30 s, then 60 s, then 120 s."""
    wrong = [Fault("binance", "stall", at, 5_000) for at in (10_000, 50_000, 90_000, 160_000)]
    out = run(history(wrong, seconds=320, seed=4), FAILOVER)
    back = [event["ts_recv"] // 10**9 - T0_MS // 1000 for event in switches(out) if event["provider"] == "binance"]
    assert back == [15 + 30, 95 + 60, 165 + 120]


def test_quiet_market_is_not_a_fault() -> None:
    """Both sources silent, both ingestors alive: nobody is left; a heartbeat says since when nothing was heard."""
    quiet = [Fault(venue, "stall", 20_000, 39_000) for venue in made.FIRST_IDS]
    out = run(history(quiet, seconds=SECONDS, seed=5), FAILOVER)
    assert switches(out) == []
    heartbeats = [event for event in events(out.status) if event["type"] == "heartbeat"]
    assert [heartbeat["symbol"] for heartbeat in heartbeats] == [made.SYMBOL] * 3
    assert {round(heartbeat["silent_since"] / 1e9 - T0_MS / 1e3) for heartbeat in heartbeats} == {20}
    assert [round(heartbeat["ts_recv"] / 1e9 - T0_MS / 1e3) for heartbeat in heartbeats] == [30, 40, 50]


def test_ingestor_that_is_gone_is_left_and_reported() -> None:
    """No heartbeat for stale_after is as good as a disconnect; after heartbeat_s the provider itself is reported."""
    out = run(history([Fault("binance", "kill", 20_000, 30_000)], seconds=60, seed=6), FAILOVER)
    assert [(event["provider"], event["reason"][:33]) for event in switches(out)] == [
        ("okx", "binance: no sign of its ingestor ")
    ]
    heartbeats = [event for event in events(out.status) if event["type"] == "heartbeat"]
    assert {(heartbeat["symbol"], heartbeat["provider"]) for heartbeat in heartbeats} == {("__system__", "binance")}


def test_no_failover_for_a_source_that_is_the_only_one() -> None:
    """There is nobody to stand in: the stream waits."""
    past = history([Fault("binance", "stall", 20_000, 10_000), Fault("okx", "kill", 0, 75_000)], seconds=75, seed=7)
    assert switches(run(past, FAILOVER)) == []


@pytest.mark.parametrize(
    ("kind", "by_ms", "reason"),
    [
        ("delay", 4_000, "late by more than 2.0 s"),
        ("malformed", 0, "frames a minute cannot be understood"),
        ("disconnect", 0, "disconnected (closed (1006))"),
    ],
)
def test_reason_of_a_switch_is_reported(kind: str, by_ms: int, reason: str) -> None:
    past = history([Fault("binance", kind, 20_000, 15_000, by_ms)], seconds=50, seed=8)
    (switch,) = [event for event in switches(run(past, FAILOVER)) if event["provider"] == "okx"]
    # A delay begins with a silence of its own length.
    assert reason in switch["reason"] or (kind == "delay" and "no trades for" in switch["reason"])


# -- gaps


@few
@given(faults(("drop", "reorder", "duplicate"), seconds=40, venues=("binance",), most=6), SEEDS, st.booleans())
def test_every_gap_is_reported_repaired_and_closed(wrong: list[Fault], seed: int, merge: bool) -> None:
    """What was dropped is asked for, exactly; the venue's answers make the stream whole; every gap closes."""
    past = history([fault._replace(for_ms=fault.for_ms // 10) for fault in wrong], seconds=60, seed=seed)
    rules = replace(MERGE if merge else FAILOVER, limits=replace(FAILOVER.limits, max_gaps=1e9))
    stream = new_stream(rules)
    out = stream.step(past.log)
    requests = requests_of(out)
    missing = {(m.venue, m.number) for m in past.made if not m.arrived_ms}
    requested = [(r.provider, number) for r in requests for number in range(r.first_id, r.last_id + 1)]
    assert set(requested) >= missing
    assert len(requested) == len(set(requested))
    end_ms, offset = T0_MS + 60_000, len(past.log)
    answers = [
        replace(made.raw(r.provider, "trade", made.rest_answer(r, past.made), end_ms + n), offset=offset + n)
        for n, r in enumerate(requests)
    ]
    answers.append(made.raw("okx", "heartbeat", b"{}", end_ms + 3_000, offset + len(answers)))
    repaired = stream.step(answers)
    trades = events(out.trades) + events(repaired.trades)
    of_binance = {(m.venue, m.number) for m in past.made if m.venue == "binance"}
    assert {key for key in numbers(trades) if key[0] == "binance"} == of_binance
    assert max(numbers(trades).values()) == 1
    assert {numbers([t]).popitem()[0] for t in trades if t.get("recovered")} == missing
    reported = Counter((g["first_id"], g["state"]) for g in events(out.status + repaired.status) if g["type"] == "gap")
    assert reported == Counter((str(r.first_id), state) for r in requests for state in ("open", "closed"))


def test_repeated_answers_of_the_repair_change_nothing() -> None:
    """Repairs are at least once: a recovered trade is taken where it is missing, and nowhere else."""
    past = history([Fault("binance", "drop", 5_000, 1_000)], seconds=10, seed=9)
    stream = new_stream(MERGE)
    (request,) = requests_of(stream.step(past.log))
    beyond = replace_range(request, last=request.last_id + 5)
    counts = []
    for n, requested in enumerate((beyond, request, beyond)):
        answer = made.raw("binance", "trade", made.rest_answer(requested, past.made), T0_MS + 11_000, len(past.log) + n)
        counts.append(len(stream.step([answer]).trades))
    assert counts == [10, 0, 0]


@pytest.mark.parametrize(
    ("right", "wrong", "doubt"),
    [
        (b'"time": 17', b'"time": 15', "made at 15"),
        (b'"price": "1.5"', b'"price": "0.1"', "a price of 0.1, the trade behind it has 1.5"),
        (b'"price": "1.5"', b'"price": "93741.2"', "a price of 93741.2, the trade behind it has 1.5"),
    ],
)
def test_trade_of_another_time_or_price_fills_no_hole(right: bytes, wrong: bytes, doubt: str) -> None:
    """A REST interface of another exchange has other trades under the same ids: the gap is lost, for that reason."""
    past = history([Fault("binance", "drop", 5_000, 1_000)], seconds=10, seed=9)
    stream = new_stream(MERGE)
    (request,) = requests_of(stream.step(past.log))
    answer = made.rest_answer(request, past.made)
    assert right in answer
    frame = answer.replace(right, wrong)
    out = stream.step([made.raw("binance", "trade", frame, T0_MS + 11_000, len(past.log))])
    assert out.trades == []
    (letter,) = events(out.dead)  # one, for a page of ten
    assert f"recovered trade {request.first_id} is not the one that is missing: {doubt}" in letter["error"]
    (gap,) = [event for event in events(out.status) if event["type"] == "gap"]
    assert (gap["state"], gap["missing"]) == ("lost", 10)
    assert doubt in gap["reason"]
    assert stream.sources[b"binance"].state.faults == 0  # nothing is wrong with the live feed


def replace_range(request: RepairRequest, *, last: int) -> RepairRequest:
    return msgspec.structs.replace(request, last_id=last)


def test_what_cannot_be_had_any_more_is_closed_as_lost() -> None:
    """Five of ten come, the venue has no more: the gap ends as lost, with what is missing, and why."""
    past = history([Fault("binance", "drop", 5_000, 1_000)], seconds=10, seed=10)
    stream = new_stream(MERGE)
    (request,) = requests_of(stream.step(past.log))
    half = replace_range(request, last=request.first_id + 4)
    first, last = request.first_id + 5, request.last_id
    lost = Unrecoverable(made.SYMBOL, "binance", request.id_space, first, last, "the venue has no more")
    out = stream.step(
        [
            made.raw("binance", "trade", made.rest_answer(half, past.made), T0_MS + 10_500, len(past.log)),
            made.raw("binance", "repair", repairs.encode(lost), T0_MS + 10_600, len(past.log) + 1),
        ]
    )
    (gap,) = [event for event in events(out.status) if event["type"] == "gap"]
    assert (gap["state"], gap["missing"], gap["reason"]) == ("lost", 5, "the venue has no more")
    assert gap["took_ns"] > 3_000_000_000
    assert len(out.trades) == 5


def test_what_the_standby_covered_is_no_gap() -> None:
    """Trades that the preferred source lost while another was followed are not missed, and not asked for."""
    past = history([Fault("binance", "stall", 20_000, 10_000)], seconds=90, seed=11)
    out = run(past, FAILOVER)
    assert len(switches(out)) == 2
    assert out.gaps == []


def test_gap_too_large_to_be_repaired_is_lost_at_once() -> None:
    rules = replace(MERGE, gaps=replace(MERGE.gaps, max_trades=9))
    out = run(history([Fault("binance", "drop", 5_000, 1_000)], seconds=10, seed=12), rules)
    (gap,) = [event for event in events(out.status) if event["type"] == "gap"]
    assert (gap["state"], gap["missing"], out.gaps) == ("lost", 10, [])


# -- a function of the log


@few
@given(faults(ANY, seconds=SECONDS), SEEDS, st.data(), st.sampled_from([MERGE, FAILOVER]))
def test_crash_at_any_checkpoint_repeats_the_same_bytes(
    wrong: list[Fault], seed: int, data: st.DataObject, rules: Rules
) -> None:
    """Batches of any size, a checkpoint after any of them, and a new owner from there: the decisions are the same."""
    log: Sequence[Record] = history(wrong, seconds=SECONDS, seed=seed).log
    expected = joined([new_stream(rules).step(log)])
    cuts = sorted(data.draw(st.sets(st.integers(1, len(log) - 1), min_size=1, max_size=12)))
    crashes = data.draw(st.sets(st.sampled_from(cuts), max_size=4))
    stream, outputs, written = new_stream(rules), [], []
    for start, end in pairwise([0, *cuts, len(log)]):
        outputs.append(stream.step(log[start:end]))
        written += saved(stream, outputs[-1])
        if end in crashes:
            stream = new_stream(rules, checkpoint.read(read_into(Ledger(RAW, checkpoint.LAYOUT), written)))
            again = stream.step(log[stream.read_from : end])
            assert not any(joined([again]).values())
    assert joined(outputs) == expected


@few
@given(faults(ANY, seconds=SECONDS), SEEDS)
def test_worker_that_catches_up_decides_as_one_that_was_there(wrong: list[Fault], seed: int) -> None:
    """Five hundred records at a time or one by one: what was due at a time is decided at that time of the log."""
    past = history(wrong, seconds=SECONDS, seed=seed)
    there, late = new_stream(FAILOVER), new_stream(FAILOVER)
    live = joined(there.step([record]) for record in past.log)
    assert joined(late.step(past.log[n : n + 500]) for n in range(0, len(past.log), 500)) == live
