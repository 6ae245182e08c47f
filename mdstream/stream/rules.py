"""What the user decides about sources, gaps and silence, as the stream needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mdstream.stream.failover import Limits
from mdstream.stream.gaps import GapLimits


@dataclass(frozen=True)
class Policy:
    """Which sources an instrument may have, best first: one at a time, or all of them merged."""

    sources: tuple[str, ...]
    merge: bool = False


@dataclass(frozen=True)
class Rules:
    """`policy` holds for every instrument that is not in `by_symbol`; `heartbeat_ns`: silence after which a heartbeat
    is written, and again after each further one."""

    policy: Policy
    by_symbol: Mapping[str, Policy] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    gaps: GapLimits = field(default_factory=GapLimits)
    heartbeat_ns: int = 10_000_000_000

    def of(self, symbol: str) -> Policy:
        """The policy of one instrument."""
        return self.by_symbol.get(symbol, self.policy)
