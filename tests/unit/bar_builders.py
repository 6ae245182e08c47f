"""Builders of the tests on bars: trades as on md.trades, and bars computed in the plain way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import fsum
from typing import NamedTuple

import msgspec

from mdstream import events
from mdstream.bars import state as bars_state
from mdstream.bars.bars import Collected
from mdstream.bars.rules import SECOND_NS, Rules, interval
from mdstream.bars.state import Progress
from mdstream.events import Bar, Trade, encode
from mdstream.stream.ledger import Ledger

T0 = 1_767_625_200 * SECOND_NS
"""A full hour."""
MS = 1_000_000
RULES = Rules(("1s", "1m", "5m", "1h"), lateness_ns=SECOND_NS)

Key = tuple[str, str, int]


class Raw(NamedTuple):
    """A record as the transport hands it over."""

    offset: int
    value: bytes | None
    key: bytes | None = b"BTCUSDT"
    timestamp: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


def trade(
    seq: int,
    at_ms: float,
    price: float = 100.0,
    size: float = 1.0,
    *,
    symbol: str = "BTCUSDT",
    provider: str = "binance",
    trade_id: str | None = None,
    count: int = 1,
    received_ms: float | None = None,
) -> Trade:
    """A trade `at_ms` after T0, received at once unless `received_ms` says when."""
    at, received = T0 + int(at_ms * MS), T0 + int((at_ms if received_ms is None else received_ms) * MS)
    identity = str(seq) if trade_id is None else trade_id
    return Trade(symbol, seq, provider, identity, price, size, "buy", at, received, count)


def records(trades: Iterable[Trade], first: int = 0) -> list[Raw]:
    return [Raw(first + n, encode(each), each.symbol.encode()) for n, each in enumerate(trades)]


def naive(trades: Iterable[Trade], names: Iterable[str]) -> dict[Key, Bar]:
    """The bars of a set of trades, by definition; all with revision 0."""
    trades, groups = list(trades), defaultdict(list)
    for name in names:
        ns = interval(name).ns
        for each in trades:
            at = each.ts_recv if each.ts_exchange is None else each.ts_exchange
            groups[each.symbol, name, at // ns * ns].append((at, each))
    return {key: _bar(key, found) for key, found in groups.items()}


def _bar(key: Key, found: list[tuple[int, Trade]]) -> Bar:
    found = sorted(found, key=lambda pair: (pair[0], pair[1].provider, _number(pair[1].trade_id), pair[1].price))
    trades = [each for _, each in found]
    prices = [each.price for each in trades]
    return Bar(
        *key,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        volume=fsum(each.size for each in trades),
        quote_volume=fsum(each.price * each.size for each in trades),
        trades=sum(each.count for each in trades),
        revision=0,
    )


def _number(trade_id: str) -> int:
    return int(trade_id) if trade_id else -1


def published(collected: Collected) -> dict[Key, Bar]:
    found = [events.decode(tally.public()) for tally in collected.bars]
    return {(bar.symbol, bar.interval, bar.ts_open): bar for bar in found if isinstance(bar, Bar)}


class CrashError(Exception):
    """The process ends here."""


class Worker:
    """A small shell: state, bars that went out, and a crash between any two of its steps.

    `log` is md.state, `out` is md.bars; both outlive the worker.
    """

    def __init__(self, log: list[tuple[bytes | None, bytes | None]], out: list[bytes]) -> None:
        self.log, self.out = log, out
        found = Ledger("md.trades", bars_state.LAYOUT)
        for offset, (key, value) in enumerate(log):
            found.take(offset, key, value)
        state = bars_state.read(found)
        self.bars = state.bars(RULES)
        self.position = state.progress.position if state.progress else 0
        self.out += state.progress.outbox if state.progress else []

    def turn(self, until_ns: int, crash_before: str = "") -> None:
        collected = self.bars.collect(until_ns)
        outbox = [tally.public() for tally in collected.bars]
        made = Progress(self.position, self.bars.latest_ns, self.bars.closed_ns, outbox)
        for step in ("write", "publish", "acknowledge"):
            if step == crash_before:
                raise CrashError
            if step == "write":
                self._write(collected, made)
            elif step == "publish":
                self.out += outbox

    def _write(self, collected: Collected, made: Progress) -> None:
        changed = bars_state.changes("md.trades", 0, RULES, collected, 0)
        end = bars_state.progress("md.trades", 0, made, 0)
        self.log += [(key, value) for key, value, _, _ in [*changed, *end]]


def compacted(log: list[tuple[bytes | None, bytes | None]]) -> list[tuple[bytes | None, bytes | None]]:
    """The last record of each key."""
    last = {key: index for index, (key, _) in enumerate(log)}
    return [log[index] for index in sorted(last.values())]


def last_revisions(out: list[bytes]) -> dict[Key, Bar]:
    """The highest revision of each bar, set to 0; one revision is always the same bytes, and none is missing."""
    revisions: dict[Key, dict[int, bytes]] = {}
    for value in out:
        bar = events.decode(value)
        assert isinstance(bar, Bar)
        known = revisions.setdefault((bar.symbol, bar.interval, bar.ts_open), {})
        assert known.setdefault(bar.revision, value) == value
    for known in revisions.values():
        assert sorted(known) == list(range(len(known)))
    return {
        key: msgspec.structs.replace(msgspec.json.decode(known[max(known)], type=Bar), revision=0)
        for key, known in revisions.items()
    }
