"""When is a process stuck, when does it only wait? The rule over positions, with time as an argument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.app import build
from mdstream.config import load
from mdstream.records import Partition
from mdstream.watchdog.guard import EXIT_DELAY_S, MAX_ASK_S
from mdstream.watchdog.rule import Limits, PartitionProgress, Rule, State, Verdict

LIMITS = Limits(ready_s=10, exit_s=60, start_s=120)
STEP_S = 5.0
A, B = Partition("md.raw.crypto", 0), Partition("md.raw.crypto", 1)


def reader(limits: Limits = LIMITS) -> Rule:
    """A worker's rule."""
    return Rule(limits, reads=True)


def see(
    rule: Rule,
    *,
    done: int,
    end: int,
    delivered: int | None = None,
    epoch: int = 1,
    times: int = 1,
    holding: str | None = None,
    counted_s: float = STEP_S,
) -> Verdict:
    """The verdict after `times` answers that all show the same of one partition."""
    state = State({A: PartitionProgress(epoch, done, done if delivered is None else delivered)}, holding=holding)
    for _ in range(times):
        rule.answered(state, {A: end}, counted_s)
    return rule.verdict(state, 0.0)


# ------------------------------------------------------------------------------------------------------------- stuck


def test_position_that_stays_with_input_ahead_is_not_ready_then_not_live() -> None:
    """
    answers   x----x----x ... x----x
    seconds   0    5    10    55   60
    ready          yes  no    no   no
    live           yes  yes   yes  no
    """
    rule = reader()
    assert see(rule, done=100, end=200, times=2) == Verdict("ok", live=True, ready=True)
    verdict = see(rule, done=100, end=200)
    assert (verdict.status, verdict.live, verdict.ready) == ("stuck", True, False)
    assert verdict.problems == ("stuck: md.raw.crypto[0] is at offset 100 with 100 records waiting, for 10 s",)
    assert see(rule, done=100, end=300, times=9).live
    verdict = see(rule, done=100, end=300)
    assert (verdict.live, verdict.ready) == (False, False)


def test_position_at_the_end_of_its_log_waits_for_nothing() -> None:
    """However long nothing comes."""
    assert see(reader(), done=100, end=100, times=1000) == Verdict("ok", live=True, ready=True)


def test_end_below_the_position_is_no_lag() -> None:
    """A broker may report the last batch's first offset plus one."""
    rule = reader()
    assert see(rule, done=8950, end=2951, times=1000).ready
    assert rule.ahead == {A: 0}


def test_batch_that_was_handed_out_is_input_whatever_the_broker_says() -> None:
    """It was delivered to the agent and is not acknowledged: the reported end may lie before it."""
    assert not see(reader(), done=100, delivered=150, end=101, times=13).live


def test_partition_assigned_again_starts_over() -> None:
    """Its state was restored meanwhile: the same position is no stall."""
    rule = reader()
    see(rule, done=100, end=200, times=12)
    assert see(rule, done=100, end=200, epoch=2).ready


def test_partition_taken_away_is_forgotten() -> None:
    """What another worker owns is not our concern."""
    rule = reader()
    see(rule, done=100, end=200, times=20)
    rule.answered(State({}), {}, STEP_S)
    assert rule.verdict(State({}), 0.0) == Verdict("ok", live=True, ready=True)


def test_one_stuck_partition_is_seen_among_moving_ones() -> None:
    """Per partition: the others' progress hides nothing."""
    rule = reader()
    for n in range(13):
        state = State({A: PartitionProgress(1, 100, 100), B: PartitionProgress(1, n, n)})
        rule.answered(state, {A: 101, B: 1000}, STEP_S)
    verdict = rule.verdict(state, 0.0)
    assert not verdict.live
    assert verdict.problems == ("stuck: md.raw.crypto[0] is at offset 100 with 1 records waiting, for 60 s",)


def test_stuck_partitions_are_counted_and_the_longest_is_named() -> None:
    """One line, however many there are."""
    rule = reader()
    state = State({A: PartitionProgress(1, 5, 5), B: PartitionProgress(1, 7, 7)})
    for _ in range(4):
        rule.answered(state, {A: 6, B: 9}, STEP_S)
    (problem,) = rule.verdict(state, 0.0).problems
    assert problem.endswith("for 15 s; 1 more are stuck too")


def test_exit_that_is_switched_off_leaves_the_process_live() -> None:
    """It is not ready all the same."""
    verdict = see(reader(Limits(ready_s=10, exit_s=0)), done=1, end=2, times=1000)
    assert (verdict.live, verdict.ready) == (True, False)


def test_writer_is_not_measured_by_the_log_it_writes_to() -> None:
    """Other ingestors write to the same topic: only what waits here counts."""
    rule = Rule(LIMITS, reads=False)
    state = State({A: PartitionProgress(0, 10, 10)})
    for n in range(100):
        rule.answered(state, {A: 1000 + n}, STEP_S)
    assert rule.verdict(state, 0.0).ready
    state = State({A: PartitionProgress(0, 10, 12)})
    for _ in range(13):
        rule.answered(state, {A: 2000}, STEP_S)
    verdict = rule.verdict(state, 0.0)
    assert not verdict.live
    assert verdict.problems == ("stuck: md.raw.crypto[0] does not move with 2 records waiting, for 60 s",)


# ----------------------------------------------------------------------------------------------------------- waiting


def test_broker_that_does_not_answer_makes_nobody_stuck() -> None:
    """Not ready after ten seconds without an answer, live for ever: a restart would find the same broker away."""
    rule = reader()
    see(rule, done=100, end=200, times=3)
    state = State({A: PartitionProgress(1, 100, 100)})
    verdict = rule.verdict(state, 86_400)
    assert (verdict.live, verdict.ready) == (True, False)
    assert "holding: Kafka has not answered for 86400 s" in verdict.problems


def test_time_without_answers_does_not_count() -> None:
    """After an outage what was counted before goes on: the shell gives the first answer no time."""
    rule = reader()
    see(rule, done=100, end=200, times=2)
    assert see(rule, done=100, end=200, counted_s=0.0).ready
    assert rule.stalled_s == {A: 5.0}


def test_unanswered_time_alone_is_called_unreachable() -> None:
    """And is over with the next answer."""
    rule = reader()
    see(rule, done=1, end=1)
    state = State({A: PartitionProgress(1, 1, 1)})
    assert rule.verdict(state, 9.9).status == "ok"
    assert rule.verdict(state, 10).status == "unreachable"


def test_process_that_holds_on_purpose_is_not_ready_and_never_stuck() -> None:
    """Its database is away: a restart would find it away too."""
    verdict = see(reader(), done=100, end=200, times=1000, holding="sqlite cannot write x: database is locked")
    assert verdict == Verdict("holding", True, False, ("holding: sqlite cannot write x: database is locked",))


def test_count_starts_when_the_holding_ends() -> None:
    """The time of the database's outage is not held against us afterwards."""
    rule = reader()
    see(rule, done=100, end=200, times=1000, holding="away")
    assert see(rule, done=100, end=200, times=12).live
    assert not see(rule, done=100, end=200).live


def test_worker_without_partitions_is_a_healthy_spare() -> None:
    """There are more workers than partitions: it has joined, and waits for one to fail."""
    rule = reader()
    rule.answered(State({}), {}, STEP_S)
    assert rule.verdict(State({}), 0.0) == Verdict("ok", live=True, ready=True)


def test_worker_that_waits_for_partitions_has_an_allowance() -> None:
    """Joining and restoring take a while; then it is stuck like any other."""
    rule, state = reader(), State({}, settled=False)
    for _ in range(24):
        rule.answered(state, {}, STEP_S)
    verdict = rule.verdict(state, 0.0)
    assert verdict == Verdict("starting", True, False, ("starting: waiting for partitions for 115 s",))
    rule.answered(state, {}, STEP_S)
    verdict = rule.verdict(state, 0.0)
    assert (verdict.status, verdict.live) == ("stuck", False)
    assert verdict.problems == ("stuck: no partitions were assigned for 120 s, although Kafka answers",)


def exit_s(role: str, **settings: float) -> float:
    """When a worker of the role that makes no progress is ended."""
    return build(load(role=role, checkpoint_interval_s=1, **settings)).watchdog.rule.limits.exit_s


def test_core_worker_that_is_stuck_is_gone_within_30_s() -> None:
    """Others could process its partitions; a sink's database may well take a minute."""
    assert exit_s("core") + MAX_ASK_S + EXIT_DELAY_S <= 30
    assert exit_s("core", core_stuck_exit_s=5) == 6
    assert exit_s("core", stuck_exit_s=5) == 6
    assert exit_s("core", stuck_exit_s=0) == 0
    assert exit_s("files", core_stuck_exit_s=5) == 61


def waiting(rule: Rule, answers: int, *, assignments: int) -> bool:
    """Whether a worker is live after it has waited for its partitions for so many answers."""
    state = State({}, settled=False, assignments=assignments)
    for _ in range(answers):
        rule.answered(state, {}, STEP_S)
    return rule.verdict(state, 0.0).live


def test_worker_that_had_partitions_has_no_allowance() -> None:
    """Joining again is quick, and its partitions may make no progress meanwhile."""
    rule = reader()
    rule.answered(State({}, assignments=1), {}, STEP_S)
    assert waiting(rule, 12, assignments=2)
    assert not waiting(rule, 1, assignments=2)


def test_each_rebalance_starts_the_wait_over() -> None:
    """Workers that come and go one after the other keep all of them waiting: nobody is stuck."""
    rule = reader()
    rule.answered(State({}, assignments=1), {}, STEP_S)
    for assignments in range(2, 12):
        assert waiting(rule, 11, assignments=assignments)


def test_partition_that_is_assigned_and_not_restored_makes_no_progress() -> None:
    """Whatever its log holds: to own it is to process it."""
    rule, state = reader(), State({A: PartitionProgress(3, -1, 0)})
    for _ in range(13):
        rule.answered(state, {A: 0}, STEP_S)
    assert not rule.verdict(state, 0.0).live


# ---------------------------------------------------------------------------------------------------- the event loop


def test_event_loop_that_does_not_turn_is_stuck_without_any_input() -> None:
    """Also while Kafka is away: what is frozen can do nothing when it returns."""
    rule, state = reader(), State({})
    for _ in range(11):
        rule.pulsed(7, 1.0)
    verdict = rule.verdict(state, 1000)
    assert (verdict.status, verdict.live) == ("stuck", True)
    assert verdict.problems[0] == "stuck: the event loop has not turned for 10 s"
    for _ in range(50):
        rule.pulsed(7, 1.0)
    assert not rule.verdict(state, 0.0).live


def test_event_loop_that_turns_again_is_not_stuck() -> None:
    """Whatever held it up is over."""
    rule = reader()
    for pulses in (*[7] * 100, 8):
        rule.pulsed(pulses, 1.0)
    assert rule.verdict(State({}), 0.0).ready


def test_quiet_topic_is_reported_and_changes_nothing() -> None:
    """Only its writer knows what is due."""
    rule = reader()
    verdict = see(rule, done=5, end=5, times=21)
    assert rule.quiet_s == {"md.raw.crypto": 100.0}
    assert verdict.ready


# --------------------------------------------------------------------------------------------------------- properties


Steps = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.floats(0, 10)), max_size=60)
"""Records done since the last answer, records added, seconds counted."""


@given(Steps)
def test_partition_that_moves_at_every_answer_is_never_stuck(steps: list[tuple[int, int, float]]) -> None:
    """By as little as one record, with whatever lag."""
    rule, done, end = reader(), 0, 1000
    for moved, added, counted_s in steps:
        done, end = done + moved + 1, end + added
        assert see(rule, done=done, end=end, counted_s=counted_s).ready


@given(Steps)
def test_stall_is_the_time_since_the_last_movement(steps: list[tuple[int, int, float]]) -> None:
    """Whatever happened before: never longer, and not a step shorter while input waits."""
    rule, done, end, since_s, ahead_before = reader(), 0, 0, 0.0, False
    for moved, added, counted_s in steps:
        end += added
        progress = min(moved, end - done)
        done += progress
        ahead = end > done
        since_s = since_s + counted_s if ahead and ahead_before and not progress else 0.0
        ahead_before = ahead
        live = see(rule, done=done, end=end, counted_s=counted_s).live
        assert live == (since_s < LIMITS.exit_s)
        assert rule.stalled_s[A] == since_s


@given(st.floats(0.1, 300), st.floats(0.1, 5))
def test_stall_ends_within_the_grace_and_one_step(exit_s: float, step_s: float) -> None:
    """Not before it, and not later than one answer after it."""
    rule, counted_s = reader(Limits(ready_s=0.1, exit_s=exit_s)), 0.0
    see(rule, done=1, end=2)
    while see(rule, done=1, end=2, counted_s=step_s).live:
        counted_s += step_s
        assert counted_s < exit_s + step_s
    assert counted_s + step_s >= exit_s * 0.999


@pytest.mark.parametrize("reads", [True, False])
def test_process_seen_for_the_first_time_is_live(reads: bool) -> None:
    """Nothing is known against it yet."""
    verdict = Rule(LIMITS, reads=reads).verdict(State(settled=False), 0.0)
    assert (verdict.live, verdict.ready, verdict.status) == (True, False, "starting")
