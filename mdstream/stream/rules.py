"""The user's settings for sources, gaps and silence, as the stream needs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mdstream.stream.failover import Limits
from mdstream.stream.gaps import GapLimits


@dataclass(frozen=True)
class Policy:
    """The sources an instrument may use, best first: one at a time, or all of them merged."""

    sources: tuple[str, ...]
    merge: bool = False


@dataclass(frozen=True)
class Rules:
    """`policy` applies to every instrument not in `by_symbol`; a heartbeat is written after each `heartbeat_ns` of
    silence."""

    policy: Policy
    by_symbol: Mapping[str, Policy] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    gaps: GapLimits = field(default_factory=GapLimits)
    heartbeat_ns: int = 10_000_000_000

    def of(self, symbol: str) -> Policy:
        """The policy of one instrument."""
        return self.by_symbol.get(symbol, self.policy)
