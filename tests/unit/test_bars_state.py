"""The bars' state on md.state: comes back as it was, beside the canonical state, and stays bounded."""

from __future__ import annotations

import pytest
from bar_builders import RULES, T0, records, trade
from stream_outputs import read_into

from mdstream.bars import state as bars_state
from mdstream.bars.bars import Bars, Collected
from mdstream.bars.rules import AHEAD_NS, SECOND_NS, interval
from mdstream.bars.state import Progress, Restored
from mdstream.stream import checkpoint
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Out
from mdstream.stream.state import Instrument, LogState

TRADES, RAW = "md.trades", "md.raw.crypto"
NOW_MS = 1_767_625_300_000


def collected(*at_ms: int, symbol: str = "BTCUSDT") -> tuple[Bars, Collected]:
    bars = Bars(RULES)
    bars.step(records(trade(n, at, symbol=symbol) for n, at in enumerate(at_ms, 1)))
    return bars, bars.collect(bars.watermark_ns)


def written(claim: int, bars: Bars, found: Collected, position: int) -> Out:
    made = Progress(position, bars.latest_ns, bars.closed_ns, [tally.public() for tally in found.bars])
    changed = bars_state.changes(TRADES, claim, RULES, found, NOW_MS)
    return [*changed, *bars_state.progress(TRADES, claim, made, NOW_MS)]


def read(*checkpoints: Out) -> Restored:
    return bars_state.read(read_into(Ledger(TRADES, bars_state.LAYOUT), *checkpoints))


def test_checkpoint_ends_in_its_progress_under_keys_of_its_own() -> None:
    """No key is an instrument's alone: compaction must not take the canonical state for ours."""
    keys = [key for key, *_ in written(1, *collected(0, 1_500, 2_500), 3)]
    minute, hour = ((T0 // interval(name).ns) % (interval(name).kept + more) for name, more in (("1m", 9), ("1h", 8)))
    assert keys[0] == b"md.trades|BTCUSDT"
    assert keys[-1] == b"md.trades"
    assert {f"md.trades|BTCUSDT|1m|{minute}".encode(), f"md.trades|BTCUSDT|1h|{hour}".encode()} < set(keys)
    assert len(keys) == len(set(keys)) == 1 + 6 + 1


def test_restored_bars_go_on_where_the_others_stopped() -> None:
    """Same seq, same open and closed bars, same revisions next."""
    bars, found = collected(0, 1_500, 2_500)
    restored = read(written(1, bars, found, 3))
    again = restored.bars(RULES)
    late = records([trade(3, 2_500), trade(4, 100), trade(5, 9_000)], 3)
    for each in (bars, again):
        each.step(late)
    one, other = bars.collect(bars.watermark_ns), again.collect(again.watermark_ns)
    assert [tally.public() for tally in one.bars] == [tally.public() for tally in other.bars]
    assert [packed for _, packed in one.states] == [packed for _, packed in other.states]
    assert restored.progress == Progress(3, T0 + 2_500_000_000, T0 + 1_500_000_000, restored_outbox(found))


def restored_outbox(found: Collected) -> list[bytes]:
    return [tally.public() for tally in found.bars]


def test_the_canonical_state_beside_it_is_skipped() -> None:
    """And so are tombstones, and what anyone else may have written."""
    canonical = checkpoint.write(RAW, 9, [("BTCUSDT", Instrument(trade_seq=5))], 70, LogState(), NOW_MS)
    others: Out = [(b"k", None, 0, []), (None, b"v", 0, []), (b"k", b"\xc1", 0, []), (b"k", b"", 0, [])]
    assert read(canonical, others) == Restored()


def test_the_canonical_reader_passes_over_this_state() -> None:
    """A takeover of raw partitions is not disturbed by it."""
    own = written(7, *collected(0, 5_000), 2)
    canonical = checkpoint.write(RAW, 1, [("BTCUSDT", Instrument(trade_seq=5))], 70, LogState(), NOW_MS)
    found = read_into(Ledger(RAW, checkpoint.LAYOUT), own, canonical, own)
    assert checkpoint.read(found) == checkpoint.Restored({"BTCUSDT": Instrument(trade_seq=5)}, 70)
    assert checkpoint.read(read_into(Ledger(TRADES, checkpoint.LAYOUT), own)) == checkpoint.Restored()


def test_another_layout_starts_again() -> None:
    """State that a later version wrote is not guessed at."""
    theirs: Out = [(k, (v or b"").replace(b"bars/2", b"bars/9"), ms, h) for k, v, ms, h in written(3, *collected(0), 9)]
    assert read(theirs) == Restored()


def test_bars_of_intervals_that_are_not_built_any_more_are_left_out() -> None:
    """MDSTREAM_BARS may change between two starts."""
    bars, found = collected(0, 5_000)
    restored = read(written(1, bars, found, 2))
    for tally in restored.tallies.values():
        tally.interval = "7m"
    assert restored.bars(RULES).collect(T0 * 2).bars == []


def test_bars_that_no_trade_can_change_any_more_are_left_out() -> None:
    """A compacted topic may still hold them."""
    bars, found = collected(0)
    restored = read(written(1, bars, found, 1))
    later = restored.bars(RULES)
    later.step(records([trade(9, 3 * 86_400_000)]))
    later.collect(later.watermark_ns)
    for tally in restored.tallies.values():
        later.put(tally)
    later.step(records([trade(10, 0)]))
    assert later.report().late == {each.name: 1 for each in RULES.intervals}


@pytest.mark.parametrize("name", ["1s", "10s", "1m", "5m", "1h", "1d"])
def test_bars_that_are_kept_or_open_together_have_slots_of_their_own(name: str) -> None:
    """Else one would overwrite the other on a compacted topic."""
    each = interval(name)
    begin = T0 // each.ns * each.ns
    together = range(begin - each.window_ns - each.ns, begin + AHEAD_NS + 2 * SECOND_NS + each.ns, each.ns)
    assert len({each.slot(ts_open) for ts_open in together}) == len(together)


def test_state_of_a_symbol_is_bounded_on_a_compacted_topic() -> None:
    """Whatever it trades, it has so many keys and no more."""
    bars, keys = Bars(RULES), set()
    for hour in range(30):
        bars.step(records(trade(hour * 90 + n, (hour * 3600 + n * 40) * 1000) for n in range(1, 91)))
        changed = bars_state.changes(TRADES, 1, RULES, bars.collect(bars.watermark_ns), NOW_MS)
        keys |= {key for key, *_ in changed}
    assert len(keys) <= 1 + sum(each.kept + AHEAD_NS // each.ns + 8 for each in RULES.intervals)


def test_published_records_carry_key_and_end_of_the_bar() -> None:
    """Key = symbol; the time stamp is when the bar ended."""
    _, found = collected(0, 5_000)
    outbox = restored_outbox(found)
    assert bars_state.published(outbox, RULES) == [(b"BTCUSDT", outbox[0], T0 // 1_000_000 + 1000, [])]
