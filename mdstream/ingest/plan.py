"""Which symbols of which providers, from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mdstream.config import Settings
from mdstream.errors import SymbolError
from mdstream.venues.feed import Provider
from mdstream.venues.providers import PROVIDERS, provider
from topics import Topic, Topics

ALL = "all"


@dataclass(frozen=True)
class Wanted:
    """Canonical `symbols` of one provider, each once, and why others were refused; maybe none are left."""

    provider: Provider
    symbols: tuple[str, ...]
    errors: tuple[SymbolError, ...] = ()

    @property
    def refused(self) -> tuple[str, ...]:
        """The reasons in words."""
        return tuple(map(str, self.errors))

    @property
    def markets(self) -> tuple[str, ...]:
        """The markets that the provider publishes to, each once; first its own, where frames of no instrument go."""
        return tuple(dict.fromkeys((self.provider.market, *map(self.provider.market_of, self.symbols))))


def plan(name: str, symbols: Sequence[str] | None = None) -> list[Wanted]:
    """The plan for `symbols` of the providers `name`, separated by commas; "all" means every provider.

    Without `symbols` each provider has its default symbols. A symbol that is not valid at a venue is refused, the
    others stay. Raises SymbolError if none is left for any provider, SettingsError for an unknown provider.
    """
    names = sorted(PROVIDERS) if name == ALL else dict.fromkeys(part.strip() for part in name.split(","))
    venues = [provider(name) for name in names]
    found = [wanted_of(venue, symbols or venue.default_symbols) for venue in venues]
    if not any(wanted.symbols for wanted in found):
        raise found[0].errors[0]
    return found


def wanted_of(venue: Provider, given: Sequence[str]) -> Wanted:
    """The symbols of one provider, as users name them; none of them may be left."""
    symbols: dict[str, None] = {}
    errors: list[SymbolError] = []
    for symbol in given:
        try:
            symbols[venue.canonical(symbol)] = None
        except SymbolError as error:
            errors.append(error)
    return Wanted(venue, tuple(symbols), tuple(errors))


def raw_topics(wanted: Sequence[Wanted], settings: Settings) -> dict[str, Topic]:
    """The raw topic of each market in the plan. Raises SettingsError for a market that the settings do not name."""
    topics = Topics(settings)
    return {market: topics.raw_of(market) for w in wanted for market in w.markets}
