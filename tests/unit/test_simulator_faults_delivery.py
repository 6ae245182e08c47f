"""What faults do to frames: exactly what they say, and nothing else."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.simulator.faults import stages
from mdstream.simulator.faults.delivery import ORDER, Frame, Pipe
from mdstream.simulator.faults.kinds import from_text
from mdstream.simulator.faults.stages import stage

MS = 1_000_000
STEP_NS = 5 * MS

shares = st.floats(0.01, 1.0)
seeds = st.text(max_size=5)
numbers = st.integers(0, 300)

Timed = tuple[int, Frame]


class Run:
    """`count` frames of two symbols through one fault, a frame every 5 ms, the fault ended after the last one."""

    def __init__(self, count: int, *faults: str, seed: str = "1", end: bool = True) -> None:
        self.counts: Counter[str] = Counter()
        self.lost: list[Frame] = []
        self.sent = [frame(i) for i in range(count)]
        self.out: list[Timed] = []
        pipe = Pipe()
        for i, text in enumerate(faults):
            spec = from_text(f"okx:{text}")
            pipe.add(f"f{i}", spec.kind, stage(spec, self.counts, seed=seed, lose=self.lost.append))
        for i, each in enumerate(self.sent):
            now_ns = i * STEP_NS
            self.out += [(now_ns, f) for f in pipe.due(now_ns)]
            self.out += [(now_ns, f) for f in pipe.push([each], now_ns)]
        for i in range(len(faults) if end else 0):
            self.out += [(count * STEP_NS, f) for f in pipe.remove(f"f{i}", count * STEP_NS)]
        assert bool(pipe) is (bool(faults) and not end)

    @property
    def got(self) -> list[Frame]:
        return [f for _, f in self.out]


def frame(i: int) -> Frame:
    """Every third one is no trade; trades span one to three fills."""
    symbol, text = "AB"[i % 2], f'{{"n":{i},"p":"{i}.5","s":"x"}}'
    if i % 3 == 0:
        return Frame(text, ("client",), symbol)
    first = 1000 + i * 3
    return Frame(text, ("client",), symbol, first, first + i % 3)


@given(numbers, st.lists(st.sampled_from(["duplicate", "reorder", "delay", "malformed", "drop"]), max_size=6), seeds)
def test_pipe_is_the_same_for_the_same_seed(count: int, faults: list[str], seed: str) -> None:
    """Chance comes from the seed alone."""
    assert Run(count, *faults, seed=seed).out == Run(count, *faults, seed=seed).out


@given(numbers, st.lists(st.sampled_from(["duplicate:late_ms=30", "reorder", "delay:ms=40", "stall:replay=true"])))
def test_faults_that_lose_nothing_lose_nothing(count: int, faults: list[str]) -> None:
    """However they are combined: when they are over, everything sent has arrived, and nothing else."""
    run = Run(count, *faults)
    assert set(run.got) == set(run.sent)
    if not any("duplicate" in fault for fault in faults):
        assert Counter(run.got) == Counter(run.sent)


@pytest.mark.parametrize("kind", ORDER)
def test_other_symbols_pass_untouched(kind: str) -> None:
    """At once and in order."""
    run = Run(2000, f"{kind}:symbols=A")
    sent = [(i * STEP_NS, f) for i, f in enumerate(run.sent) if f.symbol == "B"]
    assert [(at, f) for at, f in run.out if f.symbol == "B"] == sent
    assert run.counts["frames"] > 0


def test_delay_is_exactly_that_late() -> None:
    """Every frame, in order, after its time; at the end the rest at once."""
    run = Run(100, "delay:ms=50")
    assert run.got == run.sent
    assert [at for at, _ in run.out[:90]] == [i * STEP_NS + 50 * MS for i in range(90)]
    assert {at for at, _ in run.out[90:]} == {100 * STEP_NS}


@given(numbers)
def test_stall_sends_nothing_and_replays_on_request(count: int) -> None:
    """Nothing while it lasts; afterwards nothing either, or all of it in order."""
    assert Run(count, "stall").got == []
    run = Run(count, "stall:replay=true")
    assert run.got == run.sent
    assert {at for at, _ in run.out} <= {count * STEP_NS}
    assert run.counts["frames"] == count


@given(numbers, shares, st.sampled_from([0, 30]), seeds)
def test_duplicate_sends_some_frames_twice(count: int, share: float, late_ms: int, seed: str) -> None:
    """Never more than twice, first ones in order and on time, second ones later by what was asked for."""
    run = Run(count, f"duplicate:share={share},late_ms={late_ms}", seed=seed)
    firsts = list(dict.fromkeys(run.got))
    assert firsts == run.sent
    times = Counter(run.got)
    assert set(times.values()) <= {1, 2}
    assert run.counts["frames"] == sum(times.values()) - count
    last_ns = count * STEP_NS
    for i, each in enumerate(run.sent):
        at = [t for t, f in run.out if f == each]
        assert at[0] == i * STEP_NS
        assert at[1:] in ([], [min(at[0] + late_ms * MS, last_ns)])


@given(numbers, st.integers(2, 30), seeds)
def test_reorder_moves_frames_within_their_window(count: int, window: int, seed: str) -> None:
    """Each window holds the frames that it would have held; none is missing or doubled."""
    run = Run(count, f"reorder:window={window},ms=60000", seed=seed)
    for start in range(0, count, window):
        assert Counter(run.got[start : start + window]) == Counter(run.sent[start : start + window])


def test_reorder_shuffles_and_holds_nothing_for_long() -> None:
    """A window that does not fill is released after its time."""
    assert Run(100, "reorder:window=50").got != frames(100)
    run = Run(100, "reorder:window=1000,ms=20")
    late = [at - run.sent.index(f) * STEP_NS for at, f in run.out]
    assert max(late) == 20 * MS
    assert min(late) >= 0


def frames(count: int) -> list[Frame]:
    return [frame(i) for i in range(count)]


@given(numbers, shares, st.integers(1, 40), st.booleans(), seeds)
def test_drop_takes_trades_away_and_nothing_else(
    count: int, share: float, run_length: int, unrecoverable: bool, seed: str
) -> None:
    """The remaining trades and all quotes are in order and on time; `lose` gets the trades that REST must not have
    either."""
    run = Run(count, f"drop:share={share},run={run_length},unrecoverable={str(unrecoverable).lower()}", seed=seed)
    dropped = [f for f in run.sent if f not in set(run.got)]
    assert run.out == [(i * STEP_NS, f) for i, f in enumerate(run.sent) if f not in set(dropped)]
    assert all(f.last_id for f in dropped)
    assert run.lost == (dropped if unrecoverable else [])
    assert run.counts["trades"] == len(dropped)
    assert Run(count, "drop:share=1.0").got == [f for f in run.sent if not f.last_id]


def test_drop_takes_its_share() -> None:
    """In runs of ids, or one by one."""
    trades = sum(1 for f in frames(30_000) if f.last_id)
    for text in ("drop:share=0.1", "drop:share=0.1,run=30"):
        assert Run(30_000, text).counts["trades"] / trades == pytest.approx(0.1, rel=0.15)
    assert Run(30_000, "drop").counts["trades"] / trades == pytest.approx(0.01, rel=0.3)


def test_drop_of_one_run_takes_the_next_ids_of_each_symbol() -> None:
    """run= alone: so many fills of each instrument from its next trade on, once."""
    run = Run(100, "drop:run=30")
    for symbol in "AB":
        ids = [f.first_id for f in run.sent if f.symbol == symbol and f.last_id]
        left = [f.first_id for f in run.got if f.symbol == symbol and f.last_id]
        assert left == [i for i in ids if i >= ids[0] + 30]


def test_drop_treats_all_forms_of_a_trade_alike() -> None:
    """The same fill on a raw and on a combined stream is sent on both or on none."""
    spec, lost = from_text("okx:drop:share=0.5"), list[Frame]()
    one = stage(spec, Counter(), seed="7", lose=lost.append)
    for i in range(1, 300, 3):
        raw, combined = frame(i), frame(i)._replace(payload="another form")
        assert bool(list(one.push(raw, 0))) == bool(list(one.push(combined, 0)))


@given(numbers, shares, st.booleans(), seeds)
def test_malformed_adds_or_replaces(count: int, share: float, replace: bool, seed: str) -> None:
    """Good frames are untouched: junk comes right behind one, or instead of it, to the same clients."""
    run = Run(count, f"malformed:share={share},replace={str(replace).lower()}", seed=seed)
    good = set(run.sent)
    junk = [f for f in run.got if f not in good]
    assert len(junk) == run.counts["frames"]
    assert all((f.to, f.first_id, f.last_id) == (("client",), 0, 0) for f in junk)
    assert [f for f in run.got if f in good] == (run.sent if not replace else [f for f in run.sent if f in run.got])
    assert len(run.got) == (count if replace else count + len(junk))


def test_stages_act_in_one_order_whenever_they_began() -> None:
    """A stall that began first still comes last: what is dropped or doubled meanwhile is as without it."""
    first, second = Run(200, "stall:replay=true", "drop:share=0.5"), Run(200, "drop:share=0.5", "stall:replay=true")
    assert first.got == second.got
    assert len(first.got) < 200


def test_held_frames_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delay lets the oldest go early, a stall that replays keeps the first ones; both count it."""
    monkeypatch.setattr(stages, "MAX_HELD", 10)
    run = Run(50, "delay:ms=60000")
    assert run.got == run.sent
    assert run.counts["early"] == 40
    run = Run(50, "stall:replay=true")
    assert run.got == run.sent[:10]
    assert run.counts["lost"] == 40
