"""The venues. To add one: write its file, name it here (docs/providers.md)."""

from __future__ import annotations

from mdstream.errors import SettingsError
from mdstream.providers.base import Provider
from mdstream.providers.binance import Binance
from mdstream.providers.coinbase import Coinbase
from mdstream.providers.okx import Okx

PROVIDERS: dict[str, type[Provider]] = {p.name: p for p in (Binance, Coinbase, Okx)}


def provider(name: str) -> Provider:
    """A new instance of the provider called `name`. Raises SettingsError that lists those there are."""
    try:
        return PROVIDERS[name]()
    except KeyError:
        raise SettingsError(f"no provider {name!r}: there are {', '.join(sorted(PROVIDERS))}") from None
