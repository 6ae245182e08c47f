"""Builders of SenpAI's tests, and its rows computed in the plain way: from lists of all events, anew for each row."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil, log, sqrt
from typing import Any

from mdstream.events import FeedStatus, Gap, Quote, Trade, encode
from mdstream.senpai.engine import Engine, Limits
from mdstream.senpai.messages import Alert, Features, Message, Signal

T0 = 1_767_625_200_000_000_000
MS, S = 1_000_000, 1_000_000_000
BTC = "BTCUSDT"
Numbered = Trade | Quote
Any_ = Trade | Quote | FeedStatus | Gap


def trade(seq: int, at_ms: float, price: float = 100.0, size: float = 1.0, *, late_ms: float = 0, **more: Any) -> Trade:
    """A trade `at_ms` after T0, received `late_ms` later."""
    at = T0 + int(at_ms * MS)
    given: dict[str, Any] = {
        "symbol": BTC,
        "provider": "binance",
        "trade_id": str(seq),
        "side": "buy",
        "ts_exchange": at,
    } | more
    return Trade(seq=seq, price=price, size=size, ts_recv=at + int(late_ms * MS), **given)


def quote(
    seq: int, at_ms: float, bid: float | None = 99.0, ask: float | None = 101.0, *, late_ms: float = 0, **more: Any
) -> Quote:
    at = T0 + int(at_ms * MS)
    given: dict[str, Any] = {
        "symbol": BTC,
        "provider": "binance",
        "bid_size": 1.0,
        "ask_size": 1.0,
        "ts_exchange": at,
    } | more
    return Quote(seq=seq, bid=bid, ask=ask, ts_recv=at + int(late_ms * MS), **given)


def switched(at_ms: float, provider: str = "okx", previous: str = "binance", symbol: str = BTC) -> FeedStatus:
    return FeedStatus(symbol, provider, "switched", "late", T0 + int(at_ms * MS), previous)


def gap(at_ms: float, state: Any = "open", first: str = "5") -> Gap:
    return Gap(BTC, "binance", first, "9", state, T0 + int(at_ms * MS), 5)


def run(events: Sequence[Any_], limits: Limits | None = None, end_ms: float | None = None) -> list[Message]:
    """All messages of an engine; `end_ms`: to when it advances in the end."""
    engine = Engine(limits)
    out = [message for event in events for message in engine.step(encode(event))]
    last = max((event.ts_recv for event in events), default=T0)
    return out + engine.advance(last + 3 * S + engine.limits.lateness_ns if end_ms is None else T0 + int(end_ms * MS))


def rows(messages: list[Message]) -> list[Features]:
    return [each for each in messages if isinstance(each, Features)]


def signals(messages: list[Message]) -> list[Signal]:
    return [each for each in messages if isinstance(each, Signal)]


def alerts(messages: list[Message], *kinds: str) -> list[Alert]:
    return [each for each in messages if isinstance(each, Alert) and (not kinds or each.kind in kinds)]


# -- the plain way


def at(event: Numbered) -> int:
    return event.ts_recv if event.ts_exchange is None else min(event.ts_exchange, event.ts_recv)


def naive(events: Sequence[Any_], limits: Limits) -> dict[int, dict[str, Any]]:
    """The features of one symbol's events, all of which are whole, by T; with `incomplete` and `switched`."""
    step, lateness = limits.step_ns, limits.lateness_ns
    placed: list[tuple[int, Any_, bool]] = []
    latest = -1
    last: dict[type, int] = {}
    for event in events:
        hole = False
        if isinstance(event, Trade | Quote):
            before = last.get(type(event))
            if before is not None and event.seq <= before:
                continue
            hole = before is not None and event.seq > before + 1
            last[type(event)] = event.seq
        elif latest < 0:
            continue
        latest = max(latest, event.ts_recv)
        row = max(ceil(Fraction(event.ts_recv, step)), ceil(Fraction(latest - lateness, step))) * step
        placed.append((row, event, hole))
    used = [(row, event) for row, event, _ in placed if isinstance(event, Trade | Quote) and at(event) > row - 60 * S]
    numbered = [(row, event.ts_recv) for row, event, _ in placed if isinstance(event, Trade | Quote)]
    first = min((ns for row, ns in numbered if row == ceil(Fraction(ns, step)) * step), default=0)
    return {
        row: _features([e for r, e in used if r <= row], row)
        | _flags(sorted((each for each in placed if each[0] <= row), key=lambda each: each[0]), row, first)
        for row in sorted({row for row, _ in used})
    }


def _mid(each: Quote) -> float | None:
    return None if each.bid is None or each.ask is None or each.bid > each.ask else (each.bid + each.ask) / 2


def _features(events: Sequence[Numbered], now: int) -> dict[str, Any]:
    long = [each for each in events if now - 60 * S < at(each) <= now]
    trades = [each for each in long if isinstance(each, Trade)]
    short = [each for each in trades if at(each) > now - 10 * S]
    quotes = [each for each in events if isinstance(each, Quote)]
    newest = max(quotes, key=lambda each: each.seq, default=None)
    if newest is not None and at(newest) <= now - 60 * S:
        newest = None
    mid = None if newest is None else _mid(newest)
    spread = (
        None if mid is None or newest is None or newest.ask is None or newest.bid is None else newest.ask - newest.bid
    )
    mids = sorted(
        (at(each), each.seq, value)
        for each in long
        if isinstance(each, Quote) and newest is not None and each.provider == newest.provider
        if (value := _mid(each)) is not None and value > 0
    )
    before = [value for ns, _, value in mids if ns <= now - 10 * S]
    closes = {ceil(Fraction(ns, S)): value for ns, _, value in mids if ceil(Fraction(ns, S)) * S <= now}
    ends = list(closes.values())
    latencies = sorted(
        each.ts_recv - each.ts_exchange
        for each in long
        if each.ts_exchange is not None and not (isinstance(each, Trade) and each.recovered)
    )
    return {
        "mid": mid,
        "spread_abs": spread,
        "spread_bps": None if spread is None or not mid or mid <= 0 else spread / mid * 10_000,
        "trade_vwap_10s": _vwap(short),
        "trade_vwap_60s": _vwap(trades),
        "trade_count_10s": sum(each.count for each in short) or None,
        "trade_volume_10s": float(sum(Fraction(each.size) for each in short)) if short else None,
        "return_10s": None if mid is None or mid <= 0 or not before else mid / before[-1] - 1,
        "realized_vol_60s": sqrt(sum(log(b / a) ** 2 for a, b in pairwise(ends))) if len(ends) > 1 else None,
        "latency_ms_p50": latencies[ceil(len(latencies) * 0.5) - 1] / MS if latencies else None,
        "latency_ms_p95": latencies[-(-len(latencies) * 95 // 100) - 1] / MS if latencies else None,
    }


def _vwap(trades: list[Trade]) -> float | None:
    size = sum(Fraction(each.size) for each in trades)
    return float(sum(Fraction(each.price) * Fraction(each.size) for each in trades) / size) if size else None


WINDOWS = {
    "trade_vwap_10s": (10, "t"),
    "trade_count_10s": (10, "t"),
    "trade_volume_10s": (10, "t"),
    "return_10s": (10, "q"),
    "trade_vwap_60s": (60, "t"),
    "realized_vol_60s": (60, "q"),
    "latency_ms_p50": (60, "tq"),
    "latency_ms_p95": (60, "tq"),
}
"""Length in s, and of what."""


def _flags(placed: list[tuple[int, Any_, bool]], now: int, first: int) -> dict[str, Any]:
    holes = [("t" if isinstance(each, Trade) else "q", each.ts_recv) for _, each, hole in placed if hole]
    gaps = [each for _, each, _ in placed if isinstance(each, Gap)]
    opened: dict[str, int] = {}
    for each in gaps:
        if each.state == "open":
            opened[each.first_id] = each.ts_recv
        else:
            began = opened.pop(each.first_id, each.ts_recv)
            holes += [("t", began)] if each.state == "lost" else []
    holes += [("t", began) for began in opened.values()]
    holes += [("tq", first)]
    return {
        "incomplete": {
            name
            for name, (length, kinds) in WINDOWS.items()
            if any(now - length * S < ns and set(kind) & set(kinds) for kind, ns in holes)
        },
        "switched": any(now - 60 * S < each.ts_recv for _, each, _ in placed if isinstance(each, FeedStatus)),
    }
