"""A running consumer as others see it: its /health, for `mdstream status` and the demo."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException

import msgspec

ANSWER_LIMIT_S = 2.0
MOST_BYTES = 1 << 20


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
    try:
        try:
            with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=ANSWER_LIMIT_S) as answer:  # noqa: S310  the caller's
                text = answer.read(MOST_BYTES)
        except urllib.error.HTTPError as answer:  # 503: it has problems
            text = answer.read(MOST_BYTES)
        return msgspec.json.decode(text, type=Seen)
    except (OSError, HTTPException, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def summary(found: Seen) -> str:
    """The consumer in a line."""
    behind = "no event yet" if found.behind_s is None else f"{found.behind_s:.1f} s behind"
    counts = f"{found.rows_per_s:,.0f} rows/s, {found.signals_made:,} signals, {found.open_alerts:,} open alerts"
    return "; ".join([f"{behind}, {counts}", *found.problems])
