"""A running consumer as others see it: its /health, for `mdstream status` and the demo."""

from __future__ import annotations

import msgspec

from mdstream.http.seen import health_of


class Seen(msgspec.Struct, frozen=True):
    """As details of SenpaiEndpoint. `behind_s`: since the latest event was received; None before the first one."""

    consumer: str
    mode: str
    symbols: int
    pending: int
    behind_s: float | None
    rows_per_s: float
    signals_made: int
    open_alerts: int
    problems: list[str]


def seen(url: str) -> Seen | None:
    """The consumer at an http URL; None if nothing answers there in time, or something else does."""
    return health_of(url, Seen)


def summary(found: Seen) -> str:
    """The consumer in a line."""
    behind = "no event yet" if found.behind_s is None else f"{found.behind_s:.1f} s behind"
    counts = f"{found.rows_per_s:,.0f} rows/s, {found.signals_made:,} signals, {found.open_alerts:,} open alerts"
    return "; ".join([f"{behind}, {counts}", *found.problems])
