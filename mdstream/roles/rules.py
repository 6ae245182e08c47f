"""The stream's rules, from the settings."""

from __future__ import annotations

from mdstream.config import Settings
from mdstream.stream.failover import Limits
from mdstream.stream.gaps import GapLimits
from mdstream.stream.rules import Override, Policy, Rules
from mdstream.venues.providers import PROVIDERS, provider
from mdstream.venues.tradingview.feed import MARKET, TradingView

SECOND_NS = 1_000_000_000
ALERTS = Override(f"*{MARKET}", (TradingView.name,))
"""TradingView's instruments have no other source: whoever names the venues of a market need not know of alerts."""


def rules_of(settings: Settings) -> Rules:
    """Sources and policy of every instrument, and the limits. Raises SettingsError for an unknown provider."""
    failover = settings.failover
    named = _known(failover.sources)
    return Rules(
        policy=Policy(named or tuple(PROVIDERS), merge=failover.policy == "merge", named=bool(named)),
        overrides=(
            ALERTS,
            *(
                Override(pattern.upper(), _known(own.sources), None if own.policy is None else own.policy == "merge")
                for pattern, own in failover.instruments.items()
            ),
        ),
        coverage={name: each.coverage for name, each in PROVIDERS.items()},
        limits=Limits(
            stale_after_ns=int(failover.stale_after_s * SECOND_NS),
            recover_after_ns=int(failover.recover_after_s * SECOND_NS),
            max_latency_ns=int(failover.max_latency_s * SECOND_NS),
            max_faults=failover.max_faults_per_minute,
            max_gaps=failover.max_gaps_per_minute,
        ),
        gaps=GapLimits(after_ns=int(failover.gap_after_s * SECOND_NS), max_trades=failover.max_repair_trades),
        heartbeat_ns=int(failover.heartbeat_s * SECOND_NS),
    )


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(provider(name).name for name in names)
