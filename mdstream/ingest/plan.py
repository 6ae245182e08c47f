"""Which symbols of which providers, from what the user typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mdstream.config import Settings
from mdstream.errors import SettingsError
from mdstream.providers import PROVIDERS, provider
from mdstream.providers.base import Provider
from topics import Topic, Topics

ALL = "all"


@dataclass(frozen=True)
class Wanted:
    """Canonical `symbols` of one provider, each once."""

    provider: Provider
    symbols: tuple[str, ...]


def plan(name: str, symbols: str) -> list[Wanted]:
    """What `--provider NAME --symbols A,B` asks for; "all" is every provider there is.

    Raises SettingsError for an unknown provider or no symbol, SymbolError for one that a venue cannot have.
    """
    given = [part.strip() for part in symbols.split(",") if part.strip()]
    if not given:
        raise SettingsError(f"no symbols in {symbols!r}: name some, separated by commas, like BTCUSDT,ETHUSDT")
    names = sorted(PROVIDERS) if name == ALL else [name]
    return [_wanted(provider(name), given) for name in names]


def _wanted(venue: Provider, given: Sequence[str]) -> Wanted:
    canonical = (venue.from_venue(venue.to_venue(symbol)) for symbol in given)
    return Wanted(venue, tuple(dict.fromkeys(canonical)))


def raw_topics(wanted: Sequence[Wanted], settings: Settings) -> dict[str, Topic]:
    """The raw topic of each market in the plan. Raises SettingsError for a market that the settings do not name."""
    topics = Topics(settings)
    markets = dict.fromkeys(w.provider.market for w in wanted)
    unknown = [market for market in markets if market not in topics.raw]
    if unknown:
        known = ", ".join(topics.raw)
        raise SettingsError(f"no market {', '.join(unknown)} in MDSTREAM_MARKETS={known}: add it there")
    return {market: topics.raw_of(market) for market in markets}
