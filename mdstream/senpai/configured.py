"""The engine's limits, from the settings."""

from __future__ import annotations

from mdstream.config.groups import Senpai
from mdstream.senpai.engine import Limits
from mdstream.senpai.signals import DEFAULTS, SECOND_NS, Rule


def limits_of(senpai: Senpai, since_ns: int | None = None) -> Limits:
    """Of an engine whose input is whole from `since_ns` on. Raises SettingsError for a rule with an unknown feature."""
    return Limits(
        rows_per_s=senpai.rows_per_s,
        lateness_ns=int(senpai.lateness_ms * 1e6),
        stale_ns=int(senpai.stale_s * SECOND_NS),
        max_quote_age_ns=int(senpai.max_quote_age_s * SECOND_NS),
        max_latency_ms=senpai.max_latency_ms,
        since_ns=since_ns,
        rules=tuple(
            Rule(
                name,
                each.direction,
                each.above,
                each.below,
                each.version,
                each.hysteresis,
                int(each.cooldown_s * SECOND_NS),
            )
            for name, each in senpai.rules.items()
        )
        or DEFAULTS,
    )
