"""Signals: rules over the features of one symbol. Pure.

    armed ── all conditions hold, nothing blocks, cool-down over: a signal ──> active
      ^                                                                          │
      └──── a condition is missed by more than the hysteresis <──────────────────┘

A feature without a value holds no condition and misses none: one-sided quotes for a moment neither make a signal nor
arm the rule for a second one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from mdstream.errors import SettingsError
from mdstream.senpai.features import FEATURES, Values
from mdstream.senpai.messages import Block, Direction, Features, Signal

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Rule:
    """A signal when each feature of `above` is at its threshold or above, and each of `below` at its or below.

    `hysteresis` is a share of the threshold. Raises SettingsError for what is no feature.
    """

    name: str
    direction: Direction
    above: Mapping[str, float] = field(default_factory=dict)
    below: Mapping[str, float] = field(default_factory=dict)
    version: int = 1
    hysteresis: float = 0.2
    cooldown_ns: int = 30 * SECOND_NS

    def __post_init__(self) -> None:
        if unknown := [name for name in (*self.above, *self.below) if name not in FEATURES]:
            raise SettingsError(f"rule {self.name}: {', '.join(unknown)}: expected some of {', '.join(FEATURES)}")
        if not (self.above or self.below):
            raise SettingsError(f"rule {self.name} has no condition")

    @cached_property
    def _conditions(self) -> tuple[tuple[str, float, float], ...]:
        """Of each, the feature, the threshold, and by what a distance from it is divided."""
        above = ((name, limit, abs(limit) or 1.0) for name, limit in self.above.items())
        below = ((name, limit, -(abs(limit) or 1.0)) for name, limit in self.below.items())
        return *above, *below

    @cached_property
    def features(self) -> tuple[str, ...]:
        return (*self.above, *self.below)

    @cached_property
    def window_ns(self) -> int:
        """The longest window of its features."""
        return max(FEATURES[name].window_ns for name in self.features)

    def margin(self, values: Values) -> float | None:
        """The least distance from a threshold, as a share of it: 0 or more if all hold. None: a value is missing."""
        least, known = math.inf, True
        for name, limit, scale in self._conditions:
            value = values[name]
            if value is None:
                known = False
            elif (found := (value - limit) / scale) < least:
                least = found
        if known or least < -self.hysteresis:
            return least
        return None


DEFAULTS = (
    Rule("momentum_long", "long", {"return_10s": 0.001, "trade_volume_10s": 1.0}, {"spread_bps": 5.0}),
    Rule("momentum_short", "short", {"trade_volume_10s": 1.0}, {"return_10s": -0.001, "spread_bps": 5.0}),
)
"""The price moved by 0.1% in ten seconds, on volume, and the spread is narrow."""


class Armed:
    """One rule for one symbol."""

    __slots__ = ("active", "blocked", "last_ns", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule, self.active = rule, False
        self.last_ns: int | None = None
        self.blocked: tuple[Block, ...] = ()

    def step(self, row: Features, blocks: Callable[[], tuple[Block, ...]]) -> Signal | None:
        """The signal that a row makes, unless something blocks it: that is `blocked` then."""
        rule, self.blocked = self.rule, ()
        margin = rule.margin(row.features)
        if margin is None:
            return None
        if margin < 0:
            self.active = self.active and margin >= -rule.hysteresis
            return None
        if self.active or (self.last_ns is not None and row.ts < self.last_ns + rule.cooldown_ns):
            return None
        self.blocked = blocks()
        if self.blocked:
            return None
        self.active, self.last_ns = True, row.ts
        identity = f"{rule.name}.{rule.version}.{row.symbol}.{row.ts}"
        confidence = 0.5 + 0.5 * min(1.0, margin)
        return Signal(identity, row.symbol, row.ts, rule.name, rule.version, rule.direction, confidence, row.features)
