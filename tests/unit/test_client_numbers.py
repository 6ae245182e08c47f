"""The client hands out each event once, and knows exactly what it has not been given."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mdstream.client.numbers import Hole, Numbers, Revisions

PUBLISHED = st.integers(0, 2**52)


def read(seqs: list[int], had: dict[str, int] | None = None) -> tuple[list[int], list[Hole]]:
    """The numbers of one symbol that are handed out, and the holes between them."""
    numbers, taken, holes = Numbers(had), [], []
    for seq in seqs:
        missing = numbers.missing_before("BTCUSDT", seq)
        if missing is None:
            continue
        if missing:
            holes.append(Hole("BTCUSDT", seq - missing, seq - 1))
        taken.append(seq)
    return taken, holes


@st.composite
def crashes(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Numbers that were published one by one, and the log of a writer that crashed: each time the last ones again."""
    first, count = draw(PUBLISHED), draw(st.integers(1, 30))
    log: list[int] = []
    for seq in range(first, first + count):
        log.append(seq)
        again = draw(st.integers(0, min(5, seq - first + 1)))
        log += range(seq - again + 1, seq + 1)
    return list(range(first, first + count)), log


@given(crashes())
def test_a_writer_that_repeats_itself_is_read_as_one_that_does_not(written: tuple[list[int], list[int]]) -> None:
    published, log = written
    assert read(log) == (published, [])


@given(crashes(), st.data())
def test_what_is_handed_out_and_the_holes_are_all_numbers_from_the_first_to_the_last(
    written: tuple[list[int], list[int]], data: st.DataObject
) -> None:
    """Whatever got lost: nothing twice, nothing out of order, nothing missing without a hole."""
    _, log = written
    kept = [seq for seq in log if data.draw(st.booleans())]
    taken, holes = read(kept)
    assert taken == sorted(set(taken))
    missing = [seq for hole in holes for seq in range(hole.first, hole.last + 1)]
    assert not set(missing) & set(taken)
    if kept:
        assert sorted(taken + missing) == list(range(kept[0], max(kept) + 1))
    assert sum(hole.missing for hole in holes) == len(missing)


@given(PUBLISHED, st.lists(st.integers(-3, 3), max_size=20))
def test_a_reader_that_goes_on_after_a_number_gets_what_follows_it(had: int, steps: list[int]) -> None:
    """Whether it reads again from before that number, or begins behind it and so has missed something."""
    begin = had + (steps[0] if steps else 1)
    taken, holes = read(list(range(begin, had + 10)), {"BTCUSDT": had})
    assert taken == list(range(max(begin, had + 1), had + 10))
    assert holes == ([Hole("BTCUSDT", had + 1, begin - 1)] if begin > had + 1 else [])


def test_symbols_are_counted_apart() -> None:
    numbers = Numbers()
    assert [numbers.missing_before(symbol, seq) for symbol, seq in [("A", 5), ("B", 90), ("A", 6), ("B", 93)]] == [
        0,
        0,
        0,
        2,
    ]


@given(st.lists(st.tuples(st.sampled_from(("1s", "1m")), st.integers(0, 3), st.integers(0, 4)), max_size=60))
def test_of_each_bar_only_higher_revisions_are_new(bars: list[tuple[str, int, int]]) -> None:
    """And the last one handed out is the highest: the valid one."""
    revisions = Revisions()
    new = [bar for bar in bars if revisions.is_new("BTCUSDT", *bar)]
    for interval, ts_open, _ in bars:
        found = [revision for *bar, revision in new if bar == [interval, ts_open]]
        assert found == sorted(set(found))
        assert found[-1] == max(revision for *bar, revision in bars if bar == [interval, ts_open])


def test_only_so_many_bars_are_remembered() -> None:
    """Those published last: a bar that is revised stays, however old it is."""
    revisions = Revisions(max_bars=2)
    for ts_open, revision in ((1, 0), (2, 0), (1, 1), (3, 0)):
        assert revisions.is_new("BTCUSDT", "1m", ts_open, revision)
    assert not revisions.is_new("BTCUSDT", "1m", 1, 1)
    assert revisions.is_new("BTCUSDT", "1m", 2, 0), "forgotten"
