"""The base of what we ask a venue about the past: within which limits, and whether it is the venue that we read live.

Pure: no I/O, no clock. Its two kinds are History (history.py), by trade ids, and Timed (timed.py), by time.
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from mdstream.errors import SettingsError
from mdstream.net.redact import redacted
from mdstream.venues import rest_setting, ws_setting
from mdstream.venues.declared import Declared
from mdstream.venues.rest import Api

_HOST = re.compile(r"[a-z]+://(?:[^/@]*@)?([^/:?#]+)")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Our own request limits at one venue, in its units (requests, or their weights). `burst`: at once."""

    per_s: float
    burst: float


class Page(NamedTuple):
    """One request. `target`: path and query after the base URL; `rows`: most rows; `cost`: share of the budget."""

    target: str
    rows: int
    cost: float


class Past(Api, Declared, ABC):
    """One venue's REST interface for the past."""

    sites: ClassVar[Mapping[str, str]] = {}
    """Known hosts, websocket and REST, each with the site it belongs to: an exchange, its testnet."""
    limits: ClassVar[Limits]
    client: ClassVar[str | None] = None
    """What is asked in place of an HTTP server, of a venue with a `library`: a class, as MODULE.CLASS, that is made
    with `base_url` and has the method `get` of rest.client.Client. Its module is imported only when it is used."""

    def check_addresses(self, addresses: Mapping[str, str]) -> str | None:
        """A warning if only one of websocket and REST address is known to belong to a site; None if both belong to the
        same one, or both are unknown. Raises SettingsError if they belong to different sites."""
        urls = self._provider.url(addresses), self.base_url(addresses)
        live, past = (self.sites.get(_host(url)) for url in urls)
        if live == past:
            return None
        both = f"{ws_setting(self.name)}={redacted(urls[0])} and {rest_setting(self.name)}={redacted(urls[1])}"
        if live is not None and past is not None:
            raise SettingsError(
                f"{both}: one is of {live}, the other of {past}; trades are repaired from where they are"
            )
        return f"{both}: only one of them is {live or past}; set both if they belong together"

    def headers(self, settings: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG002  a hook: most need no key
        """The headers of its requests, with the key that the settings have; empty if it needs none."""
        return {}

    def load(self, headers: Mapping[str, str]) -> float | None:  # noqa: ARG002  a hook: most venues do not report it
        """The used share of the venue's limit, by everyone at this address; None if the venue does not report it."""
        return None


def _host(address: str) -> str:
    match = _HOST.match(address.lower())
    return match[1] if match else ""
