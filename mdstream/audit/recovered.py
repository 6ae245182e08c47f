"""What repair and backfill were asked for. A REST answer may hold more: trades that were not missing are ignored."""

from __future__ import annotations

from collections import defaultdict

from mdstream.audit.seen import is_number
from mdstream.audit.trades import AuditTrade
from mdstream.venues.spans import Span, has, merged


class RequestedGaps:
    """The ids of all gaps, and the past times, that the canonical stream reported, by source and instrument."""

    def __init__(self) -> None:
        self._ranges: defaultdict[tuple[str, str], set[tuple[int, int]]] = defaultdict(set)
        self._times: dict[tuple[str, str], list[Span]] = {}

    def add(self, provider: str, symbol: str, first_id: str, last_id: str) -> None:
        """Take in a gap, both ends included."""
        if is_number(first_id) and is_number(last_id):
            self._ranges[provider, symbol].add((int(first_id), int(last_id)))

    def add_time(self, provider: str, symbol: str, begin: int, end: int) -> None:
        """Take in the time from `begin` to before `end`, ns."""
        known = self._times.get((provider, symbol), ())
        self._times[provider, symbol] = merged([*known, Span(begin, end - 1)])

    def __contains__(self, trade: AuditTrade) -> bool:
        if has(self._times.get((trade.provider, trade.symbol), ()), trade.time_ns):
            return True
        if not is_number(trade.trade_id):
            return False
        number = int(trade.trade_id)
        return any(first <= number <= last for first, last in self._ranges.get((trade.provider, trade.symbol), ()))
