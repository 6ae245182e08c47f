"""When faults begin and end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.errors import SettingsError
from mdstream.simulator.faults.kinds import from_text
from mdstream.simulator.faults.schedule import MAX_ENDED, MAX_LIVE, MAX_SPANS, Faults
from mdstream.simulator.market import SECOND_NS

START_NS = 1_767_625_200_000_000_000

Told = list[tuple[float, str, bool]]


def run(faults: Faults, seconds: float, *, step_s: float = 0.25, from_s: float = 0.0) -> Told:
    """(second, kind, whether it began) of every change."""
    reported: Told = []
    for i in range(int(from_s / step_s), int(seconds / step_s) + 1):
        now_ns = START_NS + int(i * step_s * SECOND_NS)
        reported += [(i * step_s, change.fault.spec.kind, change.began) for change in faults.due(now_ns)]
    return reported


def of(*texts: str, seed: int = 1) -> Faults:
    faults = Faults(seed)
    for text in texts:
        faults.add(from_text(text), START_NS)
    return faults


def test_fault_begins_and_ends_at_its_times() -> None:
    """
    s  0    1    2    3    4    5
       .....[ stall .......].......     at=1s,for=3s
       [ delay ........................  no times: at once, until it is ended
       ..........x................      disconnect at=2s
    """
    faults = of("okx:stall:at=1s,for=3s", "okx:delay", "okx:disconnect:at=2s")
    assert run(faults, 10) == [
        (0.0, "delay", True),
        (1.0, "stall", True),
        (2.0, "disconnect", True),
        (4.0, "stall", False),
    ]
    assert [fault.state for fault in faults.all()] == ["ended", "active", "ended"]


def test_fault_that_begins_late_lasts_as_long() -> None:
    """A busy machine does not shorten a fault."""
    faults = of("okx:stall:at=1s,for=3s")
    assert run(faults, 20, step_s=2.5) == [(2.5, "stall", True), (7.5, "stall", False)]


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_random_fault_is_decided_by_its_seed(seed: int, other: int) -> None:
    """Its own seed, not the simulation's; begun and ended in turn, for its whole length."""
    first, second = (run(of(f"okx:stall:for=1s,every=5s,seed={seed}", seed=s), 200) for s in (1, other))
    assert first == second
    assert [began for _, _, began in first] == [i % 2 == 0 for i in range(len(first))]
    assert all(end - begin == 1.0 for (begin, _, _), (end, _, _) in list(pairwise(first))[::2])


def test_random_fault_comes_at_its_mean_interval() -> None:
    """The pauses are exponentially distributed: their mean is what was asked for."""
    reported = run(of("okx:disconnect:every=10s"), 20_000)
    assert 1800 < len(reported) < 2200
    pauses = [b - a for (a, _, _), (b, _, _) in pairwise(reported)]
    assert max(pauses) > 40
    assert min(pauses) < 1


def test_first_of_many_may_have_its_time() -> None:
    """at= together with every=."""
    times = [at for at, _, _ in run(of("okx:disconnect:at=3s,every=10s"), 100)]
    assert times[0] == 3.0
    assert len(times) > 3


def test_fault_can_be_ended_before_its_time() -> None:
    """An active one reports its end; one that waits never begins."""
    faults = of("okx:stall", "okx:delay:at=5s")
    run(faults, 1)
    stall, delay = faults.all()
    change = faults.end(stall, START_NS + SECOND_NS)
    assert change is not None
    assert not change.began
    assert faults.end(delay, START_NS + SECOND_NS) is None
    assert faults.end(stall, START_NS + 2 * SECOND_NS) is None
    assert run(faults, 10, from_s=1.0) == []


def test_fault_reports_its_state_and_history() -> None:
    """As the control endpoint shows it."""
    faults = of("okx:stall:for=1s,every=5s,symbols=B+A,seed=3")
    run(faults, 60)
    reported = faults.all()[0].describe()
    assert reported["id"] == "f1"
    assert (reported["symbols"], reported["parameters"], reported["every_s"]) == (["A", "B"], {"replay": False}, 5.0)
    assert reported["occurrences"] == len(reported["spans"]) > 3
    assert all(end - begin == SECOND_NS for begin, end in reported["spans"][:-1])


def test_memory_is_bounded() -> None:
    """Only so many faults may be alive; the last that ended are remembered, and the last occurrences of each."""
    faults = of(*["okx:disconnect"] * 60)
    run(faults, 1)
    for _ in range(MAX_LIVE):
        faults.add(from_text("okx:stall"), START_NS)
    with pytest.raises(SettingsError, match="100 faults are waiting or active, which is the limit: end one first"):
        faults.add(from_text("okx:stall"), START_NS)
    for fault in faults.all():
        faults.end(fault, START_NS)
    assert len(faults.all()) == MAX_ENDED
    assert faults.get("f1") is None
    often = of("okx:disconnect:every=1s")
    run(often, 300)
    assert often.all()[0].occurrences > MAX_SPANS == len(often.all()[0].spans)
