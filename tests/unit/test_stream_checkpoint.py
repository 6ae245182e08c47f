"""The canonical state as records of md.state: read(write(x)) is x, and a dead owner's late records change nothing."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.stream import checkpoint
from mdstream.stream.canonical import Feed, Instrument, Out
from mdstream.stream.checkpoint import POSITION_MARK, Restored
from mdstream.stream.ids import SeenIds

RAW, OTHER = "md.raw.crypto", "md.raw.equities"
NOW_MS = 1_767_625_200_000

NUMBERS = st.integers(0, 2**62)
PRICES = st.none() | st.floats(allow_nan=False, allow_infinity=False)
HOLES = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3)
SEEN = st.builds(SeenIds, last=st.integers(-1, 2**62), missing=HOLES, recent=st.dictionaries(st.text(), st.none()))
FEEDS = st.builds(
    Feed,
    view=st.sampled_from(["", "trade", "aggTrade"]),
    view_ns=NUMBERS,
    ids=SEEN,
    quote_id=st.integers(-1, 2**62),
    quote=st.none() | st.tuples(PRICES, PRICES, PRICES, PRICES, st.none() | NUMBERS),
    book_id=st.integers(-1, 2**62),
)
INSTRUMENTS = st.builds(
    Instrument,
    trade_seq=NUMBERS,
    quote_seq=NUMBERS,
    book_seq=NUMBERS,
    feeds=st.dictionaries(st.sampled_from(["binance", "okx", "coinbase"]), FEEDS, max_size=3),
)
SYMBOLS = st.text(min_size=1, max_size=12).filter(lambda symbol: not symbol.startswith("@"))
STATES = st.dictionaries(SYMBOLS, INSTRUMENTS, max_size=4)


def read(*checkpoints: Out, topics: tuple[str, ...] = (RAW,)) -> dict[str, Restored]:
    """What a reader of the log makes of these checkpoints, one after the other."""
    found = {topic: Restored() for topic in topics}
    checkpoint.read(found, ((key, value) for key, value, _, _ in itertools.chain(*checkpoints)))
    return found


def written(epoch: int, symbols: dict[str, int], position: int, *, topic: str = RAW) -> Out:
    """A checkpoint of instruments that differ in `trade_seq` only."""
    changed = ((symbol, Instrument(trade_seq=seq)) for symbol, seq in symbols.items())
    return checkpoint.write(topic, epoch, changed, position, NOW_MS)


@given(STATES, st.integers(1, 2**31), NUMBERS)
def test_read_gives_back_what_was_written(state: dict[str, Instrument], epoch: int, position: int) -> None:
    """Every field of every instrument, the position and the epoch survive, exactly."""
    found = read(checkpoint.write(RAW, epoch, state.items(), position, NOW_MS))
    assert found[RAW] == Restored(state, position, epoch)


def test_checkpoint_ends_in_its_position() -> None:
    """The position comes last: a log that was read to its end ends in a whole checkpoint."""
    records = written(3, {"BTCUSDT": 1, "ETHUSDT": 2}, 99)
    assert [key for key, _, _, _ in records] == [b"BTCUSDT", b"ETHUSDT", POSITION_MARK + RAW.encode()]
    assert {(now, tuple(headers)) for _, _, now, headers in records} == {(NOW_MS, ())}


def test_checkpoint_without_changes_is_the_position_alone() -> None:
    """A claim of a new owner: nothing but a position under a new epoch."""
    assert len(written(2, {}, 10)) == 1
    assert read(written(2, {}, 10))[RAW] == Restored({}, 10, 2)


def test_later_checkpoint_of_same_epoch_adds_to_the_earlier() -> None:
    """A checkpoint holds what changed since the last one: the instruments it does not name stay as they were."""
    found = read(written(1, {"A": 1, "B": 1}, 10), written(1, {"B": 2}, 20))[RAW]
    assert {symbol: each.trade_seq for symbol, each in found.instruments.items()} == {"A": 1, "B": 2}
    assert found.position == 20


def test_older_epoch_after_a_newer_one_is_passed_over() -> None:
    """A worker that was no longer a member wrote late: neither its instruments nor its position count."""
    found = read(written(1, {"A": 1}, 10), written(2, {"A": 2}, 30), written(1, {"A": 9, "B": 9}, 90))[RAW]
    assert {symbol: each.trade_seq for symbol, each in found.instruments.items()} == {"A": 2}
    assert (found.position, found.epoch) == (30, 2)


def test_claim_alone_shuts_out_the_last_owner() -> None:
    """A claim is enough: what the last owner writes after it is passed over."""
    assert read(written(1, {"A": 1}, 10), written(2, {}, 10), written(1, {"A": 5}, 50))[RAW].position == 10


def test_newer_epoch_takes_over_at_its_first_record() -> None:
    """Epochs only rise: the state of earlier owners stays, and what the new one writes comes on top."""
    found = read(written(1, {"A": 1, "B": 1}, 10), written(5, {"A": 7}, 20))[RAW]
    assert {symbol: each.trade_seq for symbol, each in found.instruments.items()} == {"A": 7, "B": 1}
    assert found.epoch == 5


def test_other_topics_records_are_ignored() -> None:
    """Markets share md.state: a partition's reader takes the records of its own raw topic only."""
    found = read(written(7, {"AAPL": 1}, 70, topic=OTHER), written(1, {"A": 1}, 10))
    assert set(found) == {RAW}
    assert (found[RAW].position, found[RAW].epoch, set(found[RAW].instruments)) == (10, 1, {"A"})


def test_markets_are_read_side_by_side() -> None:
    """One pass over the log serves every raw topic of the partition, each with its own epoch and position."""
    found = read(written(7, {"AAPL": 1}, 70, topic=OTHER), written(1, {"A": 1}, 10), topics=(RAW, OTHER))
    assert (found[RAW].position, found[OTHER].position) == (10, 70)
    assert (set(found[RAW].instruments), set(found[OTHER].instruments)) == ({"A"}, {"AAPL"})


@pytest.mark.parametrize(("key", "value"), [(None, b"x"), (b"A", None), (None, None)])
def test_records_without_key_or_value_are_ignored(key: bytes | None, value: bytes | None) -> None:
    """Tombstones and records of others' tools are no state."""
    found = {RAW: Restored()}
    checkpoint.read(found, [(key, value)])
    assert found == {RAW: Restored()}


def test_foreign_value_is_an_error() -> None:
    """A record that is no checkpoint is not taken for an empty state, which would lose the numbers."""
    with pytest.raises(msgspec.DecodeError):
        checkpoint.read({RAW: Restored()}, [(b"A", b"\xc1 not msgpack")])


@given(STATES, STATES)
def test_compaction_keeps_what_a_reader_needs(first: dict[str, Instrument], second: dict[str, Instrument]) -> None:
    """The last record of each key alone gives the same state as the whole log."""
    log = [*checkpoint.write(RAW, 1, first.items(), 10, NOW_MS), *checkpoint.write(RAW, 1, second.items(), 20, NOW_MS)]
    last = {key: index for index, (key, _, _, _) in enumerate(log)}
    compacted = [log[index] for index in sorted(last.values())]
    assert read(compacted) == read(log)
