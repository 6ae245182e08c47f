"""The audit of what the real stream makes of generated faults: what stood by is no loss, what was lost is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import pairwise

import msgspec
import stream_histories as made
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stream_histories import FAILOVER, MERGE, Fault, History, faults, history, new_stream

from mdstream.audit.details import Details, Difference, differences
from mdstream.audit.ledger import Ledger, differing
from mdstream.audit.standby import Alive, Followed, StandBy
from mdstream.audit.trades import AuditTrade, Place, Scope
from mdstream.errors import FrameError
from mdstream.events import Trade
from mdstream.records import decode_raw
from mdstream.stream.output import Out
from mdstream.stream.rules import Rules
from mdstream.ticks import TradeTick

SECONDS = 75
NEAR_MS = 1_000
"""A loss so near to a handover may be taken for what stood by."""
DECODERS = {venue.name: venue.decode for venue in made.VENUES}
few = settings(max_examples=int(os.environ.get("MDSTREAM_TEST_EXAMPLES", "15")), deadline=None)


def add_frame(past: History) -> list[tuple[str, int, list[AuditTrade]]]:
    """Of each venue's frame in the log: source, receive time, and its trades."""
    frames = []
    for record in past.log:
        provider, recv_ns, kind = decode_raw(record)
        source = provider.decode()
        if kind != b"trade":
            continue
        try:
            ticks = [tick for tick in DECODERS[source](record.value or b"") if isinstance(tick, TradeTick)]
        except (FrameError, msgspec.MsgspecError):
            ticks = []
        frames.append((source, recv_ns, [_print(source, tick, recv_ns) for tick in ticks]))
    return frames


def _print(source: str, tick: TradeTick, recv_ns: int) -> AuditTrade:
    message = (source, tick.symbol, tick.trade_id, tick.price, tick.size, tick.side)
    return AuditTrade(*message, tick.ts_exchange or recv_ns, tick.id_space, recv_ns, tick.recovered)


def canonical_of(out: Out) -> list[AuditTrade]:
    """The stream's trades, as the canonical topic holds them."""
    trades = (msgspec.json.decode(value or b"", type=Trade) for _, value, _, _ in out)
    message = ((t, (t.provider, t.symbol, t.trade_id, t.price, t.size, t.side)) for t in trades)
    return [AuditTrade(*of, t.ts_exchange or t.ts_recv, "", t.ts_recv, t.recovered) for t, of in message]


def audit(past: History, canonical: Iterable[AuditTrade], rules: Rules) -> list[Difference]:
    """Both passes over the raw log and these canonical trades."""
    canonical, frames = list(canonical), add_frame(past)
    followed, alive = Followed(lambda symbol: rules.of(symbol).merge), Alive()
    left, right = Ledger("raw", Scope(), may_repeat=True), Ledger("canonical", Scope(), may_repeat=False)
    standby = StandBy(followed, alive, right)
    for seq, one in enumerate(canonical):
        followed.learn(one)
        right.add(one, seq)
    for source, recv_ns, trades in frames:
        alive.add_frame(source, recv_ns)
        for one in trades:
            if left.add(one):
                standby.consider(one)
    standby.settle(left)
    left.choose_id_spaces(right)
    wanted = differing([left, right])
    details = (
        Details(left, wanted, may_repeat=True, stood_by=standby.__contains__),
        Details(right, wanted, may_repeat=False),
    )
    for one in (one for _, _, trades in frames for one in trades):
        details[0].add(one)
    for seq, one in enumerate(canonical):
        details[1].add(one, seq, Place(0, seq), repr(one).encode())
    found = [*differences(*details, wanted), *details[1].own_differences()]
    assert bool(found) is bool(wanted)  # counts and names say the same
    return found


@few
@given(
    faults(("stall", "disconnect", "kill", "drop", "delay", "reorder", "duplicate", "malformed"), seconds=SECONDS),
    st.integers(0, 2**16),
)
@example([Fault("binance", "stall", 20_000, 20_000)], 1)
@example([Fault("binance", "kill", 10_000, 20_000), Fault("okx", "stall", 40_500, 10_000)], 3)
def test_nothing_counts_as_lost_by_the_stream(wrong: list[Fault], seed: int) -> None:
    """Whoever was followed, whenever it changed: what arrived is on the canonical topic or stood by."""
    past = history(wrong, seconds=SECONDS, seed=seed)
    for rules in (FAILOVER, MERGE):
        assert audit(past, canonical_of(new_stream(rules).step(past.log).trades), rules) == []


@few
@given(faults(("stall", "disconnect", "kill"), seconds=SECONDS, most=3), st.integers(0, 2**16), st.data())
def test_trade_that_the_stream_would_lose_is_named(wrong: list[Fault], seed: int, data: st.DataObject) -> None:
    """Any one of the canonical trades, unless it stands right at a handover."""
    past = history(wrong, seconds=SECONDS, seed=seed)
    trades = canonical_of(new_stream(FAILOVER).step(past.log).trades)
    lost = data.draw(st.sampled_from(trades))
    handovers = [b.time_ns for a, b in pairwise(trades) if a.provider != b.provider]
    found = audit(past, [one for one in trades if one != lost], FAILOVER)
    if all(abs(lost.time_ns - at_ns) > NEAR_MS * made.MS for at_ns in handovers):
        assert [(one.kind, one.provider, one.trade_id) for one in found] == [("missing", lost.provider, lost.trade_id)]
