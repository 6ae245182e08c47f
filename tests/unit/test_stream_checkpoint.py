"""The canonical state as records of md.state: read(write(x)) is x, and a dead owner's late records change nothing."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.stream import checkpoint
from mdstream.stream.checkpoint import POSITION_MARK, Restored
from mdstream.stream.dedupe import Hole, QuoteDedupe, SeenIds, TradeDedupe, UpdateIds
from mdstream.stream.output import Out
from mdstream.stream.state import Channel, Feed, Instrument, LogState, OpenGap, SourceState

RAW, OTHER = "md.raw.crypto", "md.raw.equities"
NOW_MS = 1_767_625_200_000

NUMBERS = st.integers(0, 2**62)
FRACTIONS = st.floats(0, 1e6)
PRICES = st.none() | st.floats(allow_nan=False, allow_infinity=False)
HOLES = st.lists(st.builds(Hole, NUMBERS, NUMBERS, NUMBERS, st.booleans()), max_size=3)
SEEN = st.builds(
    SeenIds, st.integers(-(2**62), 2**62), HOLES, st.dictionaries(st.text(), st.none()), st.integers(-1, 2**62), HOLES
)
CHANNELS = st.builds(Channel, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
FEEDS = st.builds(
    Feed,
    st.builds(
        TradeDedupe, st.sampled_from(["", "trade"]), NUMBERS, SEEN, NUMBERS, st.none() | SEEN, NUMBERS, NUMBERS, NUMBERS
    ),
    st.builds(
        QuoteDedupe,
        st.builds(UpdateIds, st.integers(-1, 2**62), NUMBERS),
        st.none() | NUMBERS,
        st.lists(st.tuples(PRICES, PRICES, PRICES, PRICES), max_size=3),
    ),
    st.builds(UpdateIds, st.integers(-1, 2**62), NUMBERS),
    CHANNELS,
    CHANNELS,
    CHANNELS,
    st.lists(st.builds(OpenGap, NUMBERS, NUMBERS, NUMBERS), max_size=3),
    FRACTIONS,
    NUMBERS,
    NUMBERS,
    st.integers(-1, 2**62),
)
NAMES = st.sampled_from(["binance", "okx", "coinbase"])
INSTRUMENTS = st.builds(
    Instrument,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NAMES,
    NUMBERS,
    st.text(),
    NUMBERS,
    NUMBERS,
    st.dictionaries(NAMES, FEEDS, max_size=3),
)
LATENCIES = st.none() | st.integers(-(2**62), 2**62)
SOURCES = st.builds(
    SourceState,
    st.integers(-(2**62), 2**62),
    NUMBERS,
    NUMBERS,
    st.text(),
    LATENCIES,
    LATENCIES,
    LATENCIES,
    NUMBERS,
    NUMBERS,
    FRACTIONS,
    NUMBERS,
    st.lists(st.integers(-(2**62), 2**62), max_size=5),
    NUMBERS,
)
LOGS = st.builds(LogState, NUMBERS, NUMBERS, st.dictionaries(NAMES, SOURCES, max_size=3))
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
    return checkpoint.write(topic, epoch, changed, position, LogState(), NOW_MS)


@given(STATES, st.integers(1, 2**31), NUMBERS, LOGS)
def test_read_gives_back_what_was_written(
    state: dict[str, Instrument], epoch: int, position: int, log: LogState
) -> None:
    """Every field of every instrument and of the log, the position and the epoch survive, exactly."""
    found = read(checkpoint.write(RAW, epoch, state.items(), position, log, NOW_MS))
    assert found[RAW] == Restored(state, position, epoch, log)


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


@pytest.mark.parametrize(
    "value",
    [b"\xc1 not msgpack", msgspec.msgpack.encode([RAW, 1, None, 10]), msgspec.msgpack.encode([99, RAW, 1, None, 10])],
    ids=["garbage", "layout 1", "a later layout"],
)
def test_foreign_value_is_passed_over_and_counted(value: bytes) -> None:
    """A state that cannot be read is none: `seq` begins anew, and higher, where the group's committed offset is."""
    found = {RAW: Restored()}
    assert checkpoint.read(found, [(b"A", value), (b"@" + RAW.encode(), value)]) == 2
    assert found == {RAW: Restored()}


@given(STATES, STATES)
def test_compaction_keeps_what_a_reader_needs(first: dict[str, Instrument], second: dict[str, Instrument]) -> None:
    """The last record of each key alone gives the same state as the whole log."""
    log = [
        *checkpoint.write(RAW, 1, first.items(), 10, LogState(), NOW_MS),
        *checkpoint.write(RAW, 1, second.items(), 20, LogState(), NOW_MS),
    ]
    last = {key: index for index, (key, _, _, _) in enumerate(log)}
    compacted = [log[index] for index in sorted(last.values())]
    assert read(compacted) == read(log)
