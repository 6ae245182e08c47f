"""One owner at a time: claims, restores, checkpoints, pauses and crashes of three workers in any interleaving."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from takeover_model import Claims, Epochs, Plan, run

STEPS = st.tuples(st.just("step"), st.integers(0, 3))
EVENTS = STEPS | STEPS | STEPS | STEPS | st.tuples(st.sampled_from(["assign", "assign", "crash"]), st.integers(0, 2))


@settings(max_examples=200)
@given(st.lists(EVENTS, max_size=80))
def test_a_number_names_one_event_and_a_revision_one_bar(plan: Plan) -> None:
    """Whoever was assigned, stopped or killed when: nothing has two names or two contents, and nothing is missing."""
    world = run(plan, Claims)
    assert (world.faults(), world.lacks()) == ([], [])


def drawn(seed: int) -> Plan:
    """A long plan: faults need two workers that write in turn for a while."""
    rng = random.Random(seed)
    kinds = rng.choices(["step", "assign", "crash"], weights=[84, 12, 4], k=rng.randint(5, 120))
    return [(kind, rng.randrange(4 if kind == "step" else 3)) for kind in kinds]


def test_long_plans_bring_no_fault_with_claims_and_many_with_epochs() -> None:
    """The same plans: where the workers count the owners themselves two of them can be one owner."""
    wrong = {
        protocol: sum(bool(run(drawn(n), protocol).faults()) for n in range(1000)) for protocol in (Claims, Epochs)
    }
    assert wrong[Claims] == 0
    assert wrong[Epochs] > 10
