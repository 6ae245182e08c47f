"""Which records of md.state count: those written under the last claim before them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_outputs import read_into

from mdstream.stream import ledger
from mdstream.stream.ledger import END, UNCLAIMED, Ledger, Tenure
from mdstream.stream.output import Out

TOPIC, OTHER, LAYOUT = "md.raw.crypto", "md.raw.equities", "test/1"
CLAIM = ledger.claim_of(TOPIC, 0)


def checkpoint(claim: int, position: int, topic: str = TOPIC, layout: str = LAYOUT, **states: str) -> Out:
    """A whole checkpoint: states by name, then its end."""
    named = [(name.encode(), state.encode()) for name, state in states.items()]
    packed = [(name, msgspec.msgpack.encode(state)) for name, state in [*named, (END, str(position).encode())]]
    return ledger.records(layout, topic, claim, packed, 0)


def read(*written: Out) -> Ledger:
    return read_into(Ledger(TOPIC, LAYOUT), *written)


def reported(found: Ledger) -> dict[str, str]:
    """The states that count; the end's name is empty."""
    return {name.decode(): msgspec.msgpack.decode(state).decode() for name, state in found}


def test_a_claim_is_its_records_offset() -> None:
    """No two workers can have the same one, and the later one is the higher."""
    assert read(CLAIM, CLAIM, CLAIM).claim == 2
    assert Ledger(TOPIC, LAYOUT).claim == UNCLAIMED


def test_checkpoints_of_the_owner_add_up() -> None:
    """One holds what changed since the last: what it does not name stays."""
    assert reported(read(CLAIM, checkpoint(0, 10, A="1", B="1"), checkpoint(0, 20, B="2"))) == {
        "A": "1",
        "B": "2",
        "": "20",
    }


def test_states_outlive_their_owners() -> None:
    """Who claims goes on with what the owner before left."""
    found = read(CLAIM, checkpoint(0, 10, A="1", B="1"), CLAIM, checkpoint(3 + 1, 20, B="2"))
    assert (reported(found), found.claim) == ({"A": "1", "B": "2", "": "20"}, 4)


def test_what_comes_after_another_ones_claim_does_not_count() -> None:
    """Whatever it is, and also while the new owner has written nothing yet."""
    found = read(CLAIM, checkpoint(0, 10, A="1"), CLAIM, checkpoint(0, 90, A="9", B="9"))
    assert (reported(found), found.shadowed) == ({"A": "1", "": "10"}, {b"A", b"B", END})


def test_a_later_claim_counts_though_its_record_was_compacted_away() -> None:
    """Compaction keeps the last claim only; the checkpoints say under which one they were written."""
    assert reported(read(checkpoint(7, 10, A="1"), checkpoint(3, 90, A="9"), CLAIM)) == {"A": "1", "": "10"}


def test_the_next_owner_writes_again_what_is_shadowed() -> None:
    """Compaction may then take what it likes: what counts is the last record of its name."""
    log = [CLAIM, checkpoint(0, 10, A="1", B="1"), CLAIM, checkpoint(0, 90, A="9", C="9"), CLAIM]
    found = read(*log)
    claim = found.claim
    log += [found.repairs(claim, 0), checkpoint(claim, 10)]
    assert reported(read(*log)) == {"A": "1", "B": "1", "": "10"}
    assert read(*log).shadowed == set()
    assert reported(read(compacted(log))) == {"A": "1", "B": "1", "": "10"}


def test_states_of_another_layout_are_none_and_their_claims_count() -> None:
    """A later version's worker owns the partition as well as one of ours."""
    found = read(CLAIM, checkpoint(0, 10, A="1"), CLAIM, checkpoint(3, 20, layout="test/2", A="2"))
    assert (reported(found), found.claim) == ({}, 3)


@pytest.mark.parametrize("value", [None, b"", b"\xc1", msgspec.msgpack.encode([2, TOPIC, 1]), b"\x93\x01"])
def test_what_is_no_record_of_ours_changes_nothing(value: bytes | None) -> None:
    """Tombstones, garbage, and what versions without claims wrote."""
    found = read(CLAIM, [(TOPIC.encode(), value, 0, []), (None, value, 0, [])])
    assert (reported(found), found.claim, found.shadowed) == ({}, 0, set())


def test_other_topics_are_none_of_ours() -> None:
    """Several topics keep their state in one partition; each has claims of its own."""
    log = [CLAIM, checkpoint(0, 10, A="1"), ledger.claim_of(OTHER, 0), checkpoint(3, 5, topic=OTHER, A="7")]
    assert (reported(read(*log)), read(*log).claim) == ({"A": "1", "": "10"}, 0)


@pytest.mark.parametrize(
    ("record", "own"),
    [
        (ledger.claim_of(TOPIC, 0), False),
        (checkpoint(3, 10), False),
        (checkpoint(5, 10), True),
        (ledger.claim_of(OTHER, 0), True),  # not held: it is nobody's
        ([(b"k", b"\xc1", 0, [])], True),
        ([(b"k", None, 0, [])], True),
    ],
)
def test_what_somebody_else_wrote_between_our_records_contests_them(record: Out, own: bool) -> None:
    """Also a late checkpoint of an owner before: compaction may find it before ours."""
    tenure = Tenure()
    assert tenure.wrote(5, 1) == range(5, 5)
    tenure.claimed(TOPIC, 5)
    assert tenure.wrote(6, 2) == range(6, 6)
    assert tenure.wrote(9, 2) == range(8, 9)
    tenure.check(8, record[-1][1])
    assert tenure.owns(TOPIC, 5) == own
    assert not tenure.owns(TOPIC, 3)


def test_a_new_claim_is_not_contested_by_what_came_before() -> None:
    """Its ledger has read that."""
    tenure = Tenure()
    tenure.wrote(5, 1)
    tenure.claimed(TOPIC, 5)
    tenure.check(6, CLAIM[0][1])
    assert not tenure.owns(TOPIC, 5)
    assert tenure.wrote(7, 1) == range(6, 7)
    tenure.claimed(TOPIC, 7)
    assert tenure.owns(TOPIC, 7)


def test_tenure_that_is_given_up_checks_nothing() -> None:
    """What others write then may be much."""
    tenure = Tenure()
    tenure.wrote(5, 1)
    tenure.claimed(TOPIC, 5)
    tenure.give_up(TOPIC)
    assert not tenure.owns(TOPIC, 5)
    assert tenure.wrote(900_000, 1) == range(900_000, 900_000)


def compacted(log: list[Out]) -> Out:
    """The last record of each key, in order."""
    flat = [record for out in log for record in out]
    last = {record[0]: index for index, record in enumerate(flat)}
    return [flat[index] for index in sorted(last.values())]


WRITES = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.sampled_from("ABC"), st.integers(0, 99)), max_size=20)


@given(WRITES)
def test_a_log_that_is_read_in_two_parts_gives_the_same(writes: list[tuple[bool, int, str, int]]) -> None:
    """Claims and checkpoints of anybody, late ones too: a ledger read in two parts is the one read at once."""
    log: list[Out] = []
    claims = [UNCLAIMED]
    for is_claim, owner, name, value in writes:
        if is_claim:
            claims.append(sum(map(len, log)))
        log.append(CLAIM if is_claim else checkpoint(claims[owner % len(claims)], value, **{name: str(value)}))
    whole = read(*log)
    flat = [record for out in log for record in out]
    for cut in range(len(flat) + 1):
        found = read(flat[:cut])
        for offset, (key, value_, _, _) in enumerate(flat[cut:], cut):
            found.take(offset, key, value_)
        assert (dict(found), found.claim, found.shadowed) == (dict(whole), whole.claim, whole.shadowed)


def test_one_topic_that_is_given_up_leaves_the_others_their_knowledge() -> None:
    """Records between ours still have to be checked for the topic that is kept."""
    tenure = Tenure()
    tenure.wrote(5, 1)
    tenure.claimed(TOPIC, 5)
    tenure.claimed(OTHER, 5)
    tenure.give_up(OTHER)
    assert tenure.owns(TOPIC, 5)
    assert tenure.wrote(9, 1) == range(6, 9)
