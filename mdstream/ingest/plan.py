"""Which symbols of which providers, from the command line, and by what the venues list.

BTCUSDT          a symbol, refused if the venue does not list it
BTC*-PERP        all that trade and match, by symbol or the venue's name
top:20:*USDT     of these the twenty with the highest volume of 24 hours
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from mdstream.config import Settings
from mdstream.errors import ListingError, SettingsError, SymbolError, UnknownError, UnlistedError
from mdstream.events import ListedInstrument
from mdstream.instruments import is_linear
from mdstream.venues import contracts
from mdstream.venues.feed import Provider
from mdstream.venues.listing import matches
from mdstream.venues.providers import FEEDS, PROVIDERS, provider
from topics import Topic, Topics

ALL = "all"
TOP = "top:"
NEAREST = 3

Listing = Sequence[ListedInstrument] | ListingError
"""What a venue lists, or why that is not known."""

_TOP = re.compile(r"top:(?P<most>[1-9][0-9]{0,4}):(?P<pattern>.+)")


@dataclass(frozen=True)
class Wanted:
    """Canonical `symbols` of one provider, each once, and why others were refused; maybe none are left.

    `contract_size`: what contracts of the venue are worth, by symbol, if its sizes count them. One of which it is not
    known has the venue's own name among the symbols.
    """

    provider: Provider
    symbols: tuple[str, ...]
    errors: tuple[SymbolError, ...] = ()
    contract_size: Mapping[str, str] = field(default_factory=dict)

    @property
    def refused(self) -> tuple[str, ...]:
        """The reasons in words."""
        return tuple(map(str, self.errors))

    @property
    def in_contracts(self) -> tuple[str, ...]:
        """The symbols of linear contracts of which it is not known what one is worth."""
        return tuple(each for each in self.symbols if self.provider.sizes_in_contracts and self._is_unknown(each))

    def _is_unknown(self, symbol: str) -> bool:
        return symbol not in self.contract_size and is_linear(self.provider.from_venue(symbol))

    @property
    def markets(self) -> tuple[str, ...]:
        """The markets that the provider publishes to, each once; first its own, where frames of no instrument go."""
        return tuple(dict.fromkeys((self.provider.market, *map(self.provider.market_of, self.symbols))))


def names_of(name: str) -> list[str]:
    """The providers that `name` names, separated by commas; "all" means every one that has a feed."""
    if name == ALL:
        return sorted(FEEDS)
    return list(dict.fromkeys(part.strip() for part in name.split(",")))


def plan(
    name: str,
    symbols: Sequence[str] | None = None,
    listings: Mapping[str, Listing] | None = None,
    contract_sizes: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Wanted]:
    """The plan for `symbols` of the providers `name` (see `names_of`).

    Without `symbols` each provider has its default symbols. A symbol that is not valid at a venue, or not in its list
    among the `listings`, is refused, the others stay. `contract_sizes`: by provider, what its contracts are worth, as
    far as known. Raises SymbolError if none is left for any provider, SettingsError for a provider that is unknown or
    has no feed.
    """
    venues, listings, contract_sizes = [provider(each) for each in names_of(name)], listings or {}, contract_sizes or {}
    for venue in venues:
        if not venue.has_feed:
            raise SettingsError(f"{venue.name} has no feed to read: it calls `mdstream api` (docs/api.md)")
    found = [
        wanted_of(venue, symbols or venue.default_symbols, listings.get(venue.name), contract_sizes.get(venue.name, {}))
        for venue in venues
    ]
    if not any(wanted.symbols for wanted in found):
        raise found[0].errors[0]
    return found


def wanted_of(
    venue: Provider,
    given: Sequence[str],
    listing: Listing | None = None,
    contract_size: Mapping[str, str] | None = None,
) -> Wanted:
    """The symbols of one provider, as users name them; none of them may be left. Without a list all are taken."""
    listed = {each.symbol for each in listing} if isinstance(listing, Sequence) else None
    symbols: dict[str, None] = {}
    errors: list[SymbolError] = []
    for text in given:
        try:
            if is_pattern(text):
                symbols.update(dict.fromkeys(_matching(venue, text, listing)))
            else:
                symbols[_named(venue, text, listed)] = None
        except SymbolError as error:
            errors.append(error)
    if not venue.sizes_in_contracts:
        return Wanted(venue, tuple(symbols), tuple(errors))
    contract_size = contract_size or {}
    names = [symbol if symbol in contract_size else venue.as_sent(venue.to_venue(symbol)) for symbol in symbols]
    return Wanted(venue, tuple(dict.fromkeys(names)), tuple(errors), contract_size)


def contract_sizes_of(listings: Mapping[str, Listing]) -> dict[str, Mapping[str, str]]:
    """By provider with such a list: what its contracts are worth, by symbol, where its sizes count them."""
    known = {name: found for name, found in listings.items() if isinstance(found, Sequence)}
    return {
        name: contracts.contract_sizes_of(found) for name, found in known.items() if PROVIDERS[name].sizes_in_contracts
    }


def is_pattern(text: str) -> bool:
    """Whether it stands for what the venue lists, and names nothing itself."""
    return text.startswith(TOP) or "*" in text or "?" in text


def _named(venue: Provider, text: str, listed: Collection[str] | None) -> str:
    """The symbol that a name stands for, among those `listed` if they are known. Raises SymbolError."""
    symbol = venue.canonical(text)
    if listed is not None and symbol not in listed:
        nearest = get_close_matches(symbol, sorted(listed), NEAREST, cutoff=0.0)
        raise UnlistedError(venue.name, symbol, f"the nearest are {', '.join(nearest)}")
    return symbol


def _matching(venue: Provider, text: str, listing: Listing | None) -> Sequence[str]:
    """What trades and matches a pattern, by symbol or by falling volume. Raises SymbolError."""
    top = _TOP.fullmatch(text)
    if text.startswith(TOP) and not top:
        raise UnlistedError(venue.name, text, "expected top:COUNT:PATTERN, like top:20:*USDT")
    if listing is None or isinstance(listing, ListingError):
        raise UnknownError(venue.name, text, listing.reason if listing else "it was not asked for")
    pattern = top["pattern"] if top else text
    found = [each for each in listing if each.status == "trading" and matches(each, pattern)]
    if not found:
        raise UnlistedError(venue.name, text, "nothing that trades matches")
    if top is None:
        return [each.symbol for each in found]
    if all(each.volume_24h is None for each in found):
        raise UnlistedError(venue.name, text, "the venue's list has no volumes to rank by")
    found.sort(key=lambda each: (-(each.volume_24h or 0.0), each.symbol))
    return [each.symbol for each in found[: int(top["most"])]]


def raw_topics(wanted: Sequence[Wanted], settings: Settings) -> dict[str, Topic]:
    """The raw topic of each market in the plan. Raises SettingsError for a market that the settings do not name."""
    topics = Topics(settings)
    return {market: topics.raw_of(market) for w in wanted for market in w.markets}
