"""Which symbols of which providers, from what the user typed."""

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
    """Canonical `symbols` of one provider, each once, and those that it cannot have, each with the reason."""

    provider: Provider
    symbols: tuple[str, ...]
    refused: tuple[str, ...] = ()


def plan(name: str, symbols: str) -> list[Wanted]:
    """What `--provider NAME --symbols A,B` asks for; "all" is every provider there is.

    A symbol that a venue cannot have is refused, and the others stay. Raises SymbolError where none is left for a
    provider, SettingsError for an unknown one or no symbol.
    """
    given = [part.strip() for part in symbols.split(",") if part.strip()]
    if not given:
        raise SettingsError(f"no symbols in {symbols!r}: name some, separated by commas, like BTCUSDT,ETHUSDT")
    names = sorted(PROVIDERS) if name == ALL else [name]
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
    markets = dict.fromkeys(w.provider.market for w in wanted)
    unknown = [market for market in markets if market not in topics.raw]
    if unknown:
        known = ", ".join(topics.raw)
        raise SettingsError(f"no market {', '.join(unknown)} in MDSTREAM_MARKETS={known}: add it there")
    return {market: topics.raw_of(market) for market in markets}
