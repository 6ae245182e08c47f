"""The features: one function and one line of FEATURES each. docs/senpai.md defines them. Pure.

A function takes what a symbol has at T and returns the value, None where there is no data.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from mdstream.senpai.inputs import Quote
from mdstream.senpai.window import LONG_NS, SHORT_NS, Window

Values = dict[str, float | int | None]


class Moment(NamedTuple):
    """A symbol at T. `quote`: the newest, `mid`: its mid; both None if it left the window, or there is none."""

    window: Window
    quote: Quote | None
    mid: float | None


def moment(window: Window, quote: Quote | None) -> Moment:
    """A symbol at the window's T, given its newest quote."""
    if quote is None or window.slot(quote.at) <= window.start:
        return Moment(window, None, None)
    return Moment(window, quote, mid_of(quote))


def mid_of(quote: Quote) -> float | None:
    """None for a quote with one side or none, and for a crossed one."""
    bid, ask = quote.bid, quote.ask
    return None if bid is None or ask is None or bid > ask else (bid + ask) / 2.0


def spread_abs(now: Moment) -> float | None:
    if now.mid is None or now.quote is None or now.quote.ask is None or now.quote.bid is None:
        return None
    return now.quote.ask - now.quote.bid


def spread_bps(now: Moment) -> float | None:
    spread = spread_abs(now)
    return None if spread is None or now.mid is None or now.mid <= 0 else spread / now.mid * 10_000.0


def return_10s(now: Moment) -> float | None:
    if now.quote is None or now.mid is None or now.mid <= 0:
        return None
    before = now.window.earlier_mid(now.quote.provider)
    return None if before is None else now.mid / before - 1.0


def realized_vol_60s(now: Moment) -> float | None:
    return None if now.quote is None else now.window.volatility(now.quote.provider)


class Feature(NamedTuple):
    """How a feature is computed; the length of its window (0: the newest event alone), and the events in it."""

    of: Callable[[Moment], float | int | None]
    window_ns: int
    kinds: Collection[str]


TRADES, QUOTES, ALL = ("trade",), ("quote",), ("trade", "quote")

FEATURES: dict[str, Feature] = {
    "mid": Feature(lambda now: now.mid, 0, QUOTES),
    "spread_abs": Feature(spread_abs, 0, QUOTES),
    "spread_bps": Feature(spread_bps, 0, QUOTES),
    "trade_vwap_10s": Feature(lambda now: now.window.short.vwap, SHORT_NS, TRADES),
    "trade_vwap_60s": Feature(lambda now: now.window.long.vwap, LONG_NS, TRADES),
    "trade_count_10s": Feature(lambda now: now.window.short.trades, SHORT_NS, TRADES),
    "trade_volume_10s": Feature(lambda now: now.window.short.volume, SHORT_NS, TRADES),
    "return_10s": Feature(return_10s, SHORT_NS, QUOTES),
    "realized_vol_60s": Feature(realized_vol_60s, LONG_NS, QUOTES),
    "latency_ms_p50": Feature(lambda now: now.window.latencies.percentile(50), LONG_NS, ALL),
    "latency_ms_p95": Feature(lambda now: now.window.latencies.percentile(95), LONG_NS, ALL),
}


def values(now: Moment) -> Values:
    """Every feature at a moment."""
    return {name: feature.of(now) for name, feature in FEATURES.items()}
