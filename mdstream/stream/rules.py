"""The user's settings for sources, gaps and silence, as the stream needs them.

The sources of a symbol are resolved from the least specific setting to the most specific one:

    default  <  shorter pattern  <  longer pattern  <  exact name
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import reduce

from mdstream.stream.failover import Limits
from mdstream.stream.gaps import GapLimits


@dataclass(frozen=True)
class Policy:
    """The sources an instrument may use, best first: one at a time, or all of them merged.

    `named`: the user chose them, so each may stand in for any other, whatever it covers.
    """

    sources: tuple[str, ...]
    merge: bool = False
    named: bool = True


@dataclass(frozen=True)
class Override:
    """A setting for the symbols that match `pattern`, in which `*` is any text. Empty or None: as without it."""

    pattern: str
    sources: tuple[str, ...] = ()
    merge: bool | None = None

    def apply(self, policy: Policy) -> Policy:
        return Policy(
            self.sources or policy.sources,
            policy.merge if self.merge is None else self.merge,
            named=policy.named or bool(self.sources),
        )


@dataclass(frozen=True)
class Rules:
    """`policy` applies where no override does; a heartbeat is written after each `heartbeat_ns` of silence.

    `coverage`: by provider, which trades of an instrument it carries (Provider.coverage).
    """

    policy: Policy
    overrides: tuple[Override, ...] = ()
    coverage: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    gaps: GapLimits = field(default_factory=GapLimits)
    heartbeat_ns: int = 10_000_000_000
    _policies: dict[str, Policy] = field(default_factory=dict, init=False, repr=False, compare=False)

    def of(self, symbol: str) -> Policy:
        """The policy of one instrument. Needed four times a second, hence cached."""
        found = self._policies.get(symbol)
        if found is None:
            found = self._policies[symbol] = self._resolve(symbol)
        return found

    def _resolve(self, symbol: str) -> Policy:
        """Of equally long patterns the last in alphabetical order wins: the order of the settings decides nothing."""
        matching = [each for each in self.overrides if fnmatchcase(symbol, each.pattern)]
        matching.sort(key=lambda each: (each.pattern == symbol, len(each.pattern), each.pattern))
        return reduce(lambda policy, each: each.apply(policy), matching, self.policy)

    def allows(self, symbol: str, source: str, *, beside: str) -> bool:
        """Whether `source` may be used for an instrument that has data from `beside` already.

        Sources that the user did not name have to cover the same trades: a venue's own feed and a consolidated one
        differ in volume.
        """
        policy, own = self.of(symbol), self.coverage.get(source)
        return source in policy.sources and (policy.named or self.coverage.get(beside, own) == own)
