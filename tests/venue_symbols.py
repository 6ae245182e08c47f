"""What tests that hold for every venue ask it for: symbols of its own, and settings that let them in."""

from __future__ import annotations

from itertools import islice, product
from string import ascii_uppercase

from mdstream.ticks import Tick
from mdstream.venues.feed import Provider
from mdstream.venues.providers import PROVIDERS

SETTINGS = {name: f"test-{name.lower()}" for provider in PROVIDERS.values() for name in provider.credentials}
"""Credentials that every simulated venue accepts."""


def symbols_of(venue: str, count: int) -> list[str]:
    """So many canonical symbols of a form that the venue has, unlike its default ones."""
    default = PROVIDERS[venue].default_symbols[0]
    if default.startswith("BTC"):
        return [f"C{number}{default.removeprefix('BTC')}" for number in range(count)]
    return ["Z" + "".join(letters) for letters in islice(product(ascii_uppercase, repeat=3), count)]


def ticks_of(provider: Provider, frame: str | bytes, contract_size: str = "") -> list[Tick]:
    """The ticks of all parts of a frame; `contract_size`: what a contract is worth, if its sizes count them."""
    parts = provider.split(frame.encode() if isinstance(frame, str) else frame)
    return [tick for part in parts for tick in provider.decode(part, contract_size.encode())]
