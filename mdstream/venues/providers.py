"""The providers by their names."""

from __future__ import annotations

from mdstream.errors import SettingsError
from mdstream.venues import parts
from mdstream.venues.feed import Provider

_FOUND: dict[str, type[Provider]] = parts(Provider, "feed")  # type: ignore[type-abstract]
PROVIDERS = dict(sorted(_FOUND.items(), key=lambda named: (not named[1].contiguous_ids, named[0])))
"""By name, in the order in which they are preferred by default: first those whose missing trades are noticed."""

FEEDS = tuple(name for name, each in PROVIDERS.items() if each.has_feed)
"""Those that an ingestor can read: the names allowed for `--provider`."""


def provider(name: str) -> Provider:
    """A new instance of the provider called `name`. Raises SettingsError listing the known ones."""
    try:
        return PROVIDERS[name]()
    except KeyError:
        raise SettingsError(f"no provider {name!r}: there are {', '.join(sorted(PROVIDERS))}") from None
