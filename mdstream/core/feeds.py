"""Who is followed, and why: the sources of each instrument as the stream sees them, for the /feeds page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mdstream.stream.canonical import Canonical
from mdstream.stream.failover import Finding
from mdstream.stream.lines import Line


def feeds(canonicals: Iterable[Canonical]) -> dict[str, Any]:
    """By symbol: policy, source in use, since when (ns) and why, and each source. Silence is in seconds of log time."""
    said: dict[str, Any] = {}
    for canonical in canonicals:
        for symbol, lines in canonical.rounds.lines().items():
            said[symbol] = _instrument(canonical, symbol, lines)
    return said


def _instrument(canonical: Canonical, symbol: str, lines: list[Line]) -> dict[str, Any]:
    instrument, findings = lines[0].instrument, canonical.rounds.findings(lines)
    merge = canonical.rules.of(symbol).merge
    return {
        "symbol": symbol,
        "policy": "merge" if merge else "failover",
        "active": None if merge else instrument.active,
        "since": None if merge else instrument.since_ns,
        "reason": None if merge else instrument.reason,
        "sources": {
            line.source.name: _source(line, findings[line.source.name], canonical.log.now_ns) for line in lines
        },
    }


def _source(line: Line, finding: Finding, now_ns: int) -> dict[str, Any]:
    feed, state = line.feed, line.source.state
    channels = {"trade": feed.trade, "quote": feed.quote, "book": feed.book}
    latency_ns = state.newest_latency_ns
    late_ns = None if latency_ns is None else latency_ns - state.usual_latency_ns
    return {
        "state": "active" if line.live else "standby",
        "health": finding.health.name.lower(),
        "reason": finding.reason or None,
        "silent_s": {
            kind: round((now_ns - channel.seen_ns) / 1e9, 3) if channel.seen_ns else None
            for kind, channel in channels.items()
        },
        "latency_ms": None if latency_ns is None else latency_ns / 1e6,
        "late_ms": None if late_ns is None else late_ns / 1e6,
        "open_gaps": len(feed.gaps),
        "buffered": len(line.buffer),
        "failures": feed.failures,
    }
