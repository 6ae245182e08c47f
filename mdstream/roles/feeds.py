"""Which source is followed, and why: the sources of each instrument as the stream judges them, for /feeds.

The stream judges a source by comparison with the others, in log time. A single source, or any source while the log is
not written, is therefore never at fault there. Here it is shown as silent, or as closed while its market is, which
changes only the page.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from mdstream.stream.canonical import Canonical
from mdstream.stream.failover import Finding, Health, silent_since
from mdstream.stream.feed_monitor import counts_from_ns
from mdstream.stream.lines import Line
from mdstream.stream.state import LogState
from mdstream.trading_hours import TradingSession

LOG_STANDS_NS = 30_000_000_000
"""Every ingestor writes to every partition each second; the rest allows for clock differences."""


def feeds(canonicals: Iterable[Canonical], *, now_ns: int | None = None) -> dict[str, Any]:
    """By symbol: policy, source in use, since when (ns) and why, and every source. Silence is in seconds of log time.

    `now_ns`: the current time of our clock.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    shown: dict[str, Any] = {}
    for canonical in canonicals:
        for symbol, lines in canonical.monitor.lines().items():
            shown[symbol] = _instrument(canonical, symbol, lines, now_ns)
    return shown


def _instrument(canonical: Canonical, symbol: str, lines: list[Line], now_ns: int) -> dict[str, Any]:
    instrument, session = lines[0].instrument, lines[0].session_at(now_ns)
    from_ns = counts_from_ns(session, canonical.log.now_ns, now_ns)
    findings = canonical.monitor.findings(lines, from_ns)
    merge = canonical.rules.of(symbol).merge
    return {
        "symbol": symbol,
        "policy": "merge" if merge else "failover",
        "active": None if merge else instrument.active,
        "since": None if merge else instrument.since_ns,
        "reason": None if merge else instrument.reason,
        "session": None if session is None else session.name,
        "sources": {
            line.source.name: _source(canonical, line, findings[line.source.name], now_ns, session, from_ns)
            for line in lines
        },
    }


def _source(
    canonical: Canonical, line: Line, finding: Finding, now_ns: int, session: TradingSession | None, from_ns: int
) -> dict[str, Any]:
    feed, state, log_ns = line.feed, line.source.state, canonical.log.now_ns
    health, why, since_ns = finding.health.name.lower(), finding.reason, None
    if finding.health is not Health.DEAD:
        health, why, since_ns = _silence(canonical, line, now_ns, session, from_ns) or (health, why, None)
    channels = {"trade": feed.trade, "quote": feed.quote, "book": feed.book}
    latency_ns = state.newest_latency_ns
    late_ns = None if latency_ns is None else latency_ns - state.usual_latency_ns
    return {
        "state": "active" if line.live else "standby",
        "health": health,
        "reason": why or None,
        "silent_since": since_ns,
        "silent_s": {
            kind: round((log_ns - channel.seen_ns) / 1e9, 3) if channel.seen_ns else None
            for kind, channel in channels.items()
        },
        "latency_ms": None if latency_ns is None else latency_ns / 1e6,
        "late_ms": None if late_ns is None else late_ns / 1e6,
        "open_gaps": len(feed.gaps),
        "buffered": len(line.buffer),
        "failures": feed.failures,
    }


def _silence(
    canonical: Canonical, line: Line, now_ns: int, session: TradingSession | None, from_ns: int
) -> tuple[str, str, int] | None:
    """Of a source that is not at fault: "silent", "closed" or "halted", why, and since when (log time); else None."""
    log_ns, read_ns = canonical.log.now_ns, _newest_record_ns(canonical.log)
    if read_ns and now_ns - read_ns >= LOG_STANDS_NS:
        why = f"nothing was read since {_clock(read_ns)}: no ingestor writes, or this worker is behind (/health)"
        return "silent", why, line.feed.seen_ns or log_ns
    if session is not None and session.rest:
        why = f"its market is closed until {_clock(session.to_ns)}"
        if session.rest == "halted":
            why = f"trading in it is halted since {_clock(session.from_ns)}"
        return session.rest, why, line.feed.seen_ns or log_ns
    since_ns = silent_since(line.feed, log_ns, canonical.rules.limits, from_ns)
    if since_ns is None:
        return None
    why = f"silent since {_clock(since_ns)}: at fault or its market is quiet, no other source to compare with"
    return "silent", why, since_ns


def _newest_record_ns(log: LogState) -> int:
    """The receive time at which the log stands, 0 without any: log time stays behind it once nothing was written for a
    while."""
    return max((log.now_ns - source.offset_ns for source in log.sources.values()), default=log.now_ns)


def _clock(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
