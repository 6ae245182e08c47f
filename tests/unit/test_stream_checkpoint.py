"""The canonical state as records of md.state: read(write(x)) is x."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_outputs import read_into

from mdstream.stream import checkpoint
from mdstream.stream.checkpoint import Restored
from mdstream.stream.dedupe import Hole, SeenIds, TradeDedupe
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Out
from mdstream.stream.quote_dedupe import QuoteDedupe, UpdateIds
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
    st.binary(max_size=3),
    st.booleans(),
    NUMBERS,
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
LOGS = st.builds(LogState, NUMBERS, NUMBERS, st.dictionaries(NAMES, SOURCES, max_size=3), NUMBERS)
SYMBOLS = st.text(min_size=1, max_size=12)
STATES = st.dictionaries(SYMBOLS, INSTRUMENTS, max_size=4)


def read(*checkpoints: Out) -> Restored:
    """What a reader of the log makes of these checkpoints, one after the other."""
    return checkpoint.read(read_into(Ledger(RAW, checkpoint.LAYOUT), *checkpoints))


def written(claim: int, symbols: dict[str, int], position: int, *, topic: str = RAW) -> Out:
    """A checkpoint of instruments that differ in `trade_seq` only."""
    changed = ((symbol, Instrument(trade_seq=seq)) for symbol, seq in symbols.items())
    return checkpoint.write(topic, claim, changed, position, LogState(), NOW_MS)


@given(STATES, st.integers(0, 2**62), NUMBERS, LOGS)
def test_read_gives_back_what_was_written(
    state: dict[str, Instrument], claim: int, position: int, log: LogState
) -> None:
    """Every field of every instrument and of the log, and the position survive, exactly."""
    assert read(checkpoint.write(RAW, claim, state.items(), position, log, NOW_MS)) == Restored(state, position, log)


def test_checkpoint_ends_in_its_position() -> None:
    """The position comes last: it makes the checkpoint whole."""
    records = written(3, {"BTCUSDT": 1, "ETHUSDT": 2}, 99)
    assert [key for key, _, _, _ in records] == [b"md.raw.crypto|BTCUSDT", b"md.raw.crypto|ETHUSDT", b"md.raw.crypto"]
    assert {(now, tuple(headers)) for _, _, now, headers in records} == {(NOW_MS, ())}


def test_later_checkpoint_of_same_claim_adds_to_the_earlier() -> None:
    """A checkpoint holds what changed since the last one: the instruments it does not name stay as they were."""
    found = read(written(1, {"A": 1, "B": 1}, 10), written(1, {"B": 2}, 20))
    assert {symbol: each.trade_seq for symbol, each in found.instruments.items()} == {"A": 1, "B": 2}
    assert found.position == 20


def test_markets_are_read_side_by_side() -> None:
    """Markets share md.state: each one's reader takes the records of its own raw topic only."""
    both = written(7, {"AAPL": 1}, 70, topic=OTHER), written(1, {"A": 1}, 10)
    assert read(*both) == Restored({"A": Instrument(trade_seq=1)}, 10)
    other = checkpoint.read(read_into(Ledger(OTHER, checkpoint.LAYOUT), *both))
    assert other == Restored({"AAPL": Instrument(trade_seq=1)}, 70)


@pytest.mark.parametrize(
    "value",
    [b"\xc1 not msgpack", msgspec.msgpack.encode([2, RAW, 1, None, 10]), msgspec.msgpack.encode(["c/9", RAW, 1, []])],
    ids=["garbage", "layout 2", "a later layout"],
)
def test_a_state_that_cannot_be_read_is_none(value: bytes) -> None:
    """`seq` restarts, and higher, where the group's committed offset is."""
    assert read([(b"md.raw.crypto|A", value, 0, []), (RAW.encode(), value, 0, [])]) == Restored()


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
