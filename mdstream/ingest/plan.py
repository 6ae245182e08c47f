"""Which symbols of which providers, from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mdstream.config import Settings
from mdstream.errors import SettingsError, SymbolError
from mdstream.venues.feed import Provider
from mdstream.venues.providers import PROVIDERS, provider
from topics import Topic, Topics

ALL = "all"


@dataclass(frozen=True)
class Wanted:
    """Canonical `symbols` of one provider, each once, and the reasons why others were refused."""

    provider: Provider
    symbols: tuple[str, ...]
    refused: tuple[str, ...] = ()

    @property
    def markets(self) -> tuple[str, ...]:
        """The markets that the provider publishes to, each once; first its own, where frames of no instrument go."""
        return tuple(dict.fromkeys((self.provider.market, *map(self.provider.market_of, self.symbols))))


def plan(name: str, symbols: str) -> list[Wanted]:
    """The plan for `--provider NAME --symbols A,B`; "all" means every provider
    that needs no program beside us, as one with a library does.

    A symbol that is not valid at a venue is refused, the others stay. Raises SymbolError if none is left for a
    provider, SettingsError for an unknown provider or without symbols.
    """
    given = [part.strip() for part in symbols.split(",") if part.strip()]
    if not given:
        raise SettingsError(f"no symbols in {symbols!r}: name some, separated by commas, like BTCUSDT,ETHUSDT")
    names = sorted(n for n, each in PROVIDERS.items() if each.library is None) if name == ALL else [name]
    return [_wanted(provider(name), given) for name in names]


def _wanted(venue: Provider, given: Sequence[str]) -> Wanted:
    symbols: dict[str, None] = {}
    errors: list[SymbolError] = []
    for symbol in given:
        try:
            symbols[venue.canonical(symbol)] = None
        except SymbolError as error:
            errors.append(error)
    if not symbols:
        raise errors[0]
    return Wanted(venue, tuple(symbols), tuple(map(str, errors)))


def raw_topics(wanted: Sequence[Wanted], settings: Settings) -> dict[str, Topic]:
    """The raw topic of each market in the plan. Raises SettingsError for a market that the settings do not name."""
    topics = Topics(settings)
    return {market: topics.raw_of(market) for w in wanted for market in w.markets}
