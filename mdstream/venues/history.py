"""The base of every venue's trade history: which page to request, and which trades it has. Pure: no I/O, no clock.

    missing ids ─ ask ─> Page ─ HTTP, elsewhere ─> Answer ─ judge ─> trades ─ read ─> the ids it holds
                                                               ├──> RetryableError
                                                               └──> PermanentError

The venue's provider has to decode the answers (mdstream/repairs.py).
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from mdstream.errors import SettingsError, SymbolError
from mdstream.net.redact import redacted
from mdstream.repairs import RepairRequest
from mdstream.ticks import TradeTick
from mdstream.venues import rest_setting, ws_setting
from mdstream.venues.declared import Declared
from mdstream.venues.rest import Api, PermanentError
from mdstream.venues.spans import Span, count

_HOST = re.compile(r"[a-z]+://(?:[^/@]*@)?([^/:?#]+)")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Our own request limits at one venue, in its units (requests, or their weights). `burst`: at once."""

    per_s: float
    burst: float


class Endpoint(NamedTuple):
    """Where past trades are requested. `path`: path and query after the base URL, with the fields symbol (the venue's),
    first, last, after (the id behind the last) and rows; `cost`: share of the budget of a request."""

    path: str
    cost: float = 1.0


class Page(NamedTuple):
    """One request. `target`: path and query after the base URL; `rows`: trades in it; `cost`: share of the budget."""

    target: str
    rows: int
    cost: float


class History(Api, Declared, ABC):
    """One venue's REST interface for past trades."""

    sites: ClassVar[Mapping[str, str]] = {}
    """Known hosts, websocket and REST, each with the site it belongs to: an exchange, its testnet."""
    endpoints: ClassVar[Mapping[str, Endpoint]]
    """By the id spaces it can be queried in, as TradeTick names them."""
    newest_first: ClassVar[bool]
    """The reading order: if True a page holds the newest trades below an id, else the oldest from an id on."""
    most_rows: ClassVar[int]
    limits: ClassVar[Limits]

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

    def ask(self, request: RepairRequest, span: Span) -> Page | PermanentError:
        """The page with the trades `span` of a request, which may hold at most `most_rows` of them."""
        endpoint = self.endpoints.get(request.id_space)
        if endpoint is None:
            return PermanentError(f"{self.name} gives no history of {request.id_space or 'trades without an id space'}")
        try:
            symbol = self._provider.to_venue(request.symbol)
        except SymbolError as error:
            return PermanentError(str(error))
        rows, after = count([span]), span.last + 1
        return Page(endpoint.path.format(symbol=symbol, rows=rows, after=after, **span._asdict()), rows, endpoint.cost)

    def load(self, headers: Mapping[str, str]) -> float | None:  # noqa: ARG002  a hook: most venues do not report it
        """The used share of the venue's limit, by everyone at this address; None if the venue does not report it."""
        return None

    def read(self, request: RepairRequest, frame: bytes) -> tuple[list[Span], int]:
        """The ids of the request's trades in a REST frame, and how many trades it holds in all.

        Uses the provider's own `decode`: only trades that the canonical stream will understand count. Raises FrameError
        or msgspec.MsgspecError if the frame cannot be understood.
        """
        trades = self._decoded(request, frame)
        return [Span(trade.first_id, trade.last_id) for trade in trades if _is_of(trade, request)], len(trades)

    def trades(self, request: RepairRequest, frame: bytes) -> list[TradeTick]:
        """The request's trades in a REST frame. Raises as `read`."""
        return [trade for trade in self._decoded(request, frame) if _is_of(trade, request)]

    def _decoded(self, request: RepairRequest, frame: bytes) -> list[TradeTick]:
        ticks = self._provider.decode(frame, request.contract_size.encode())
        return [tick for tick in ticks if isinstance(tick, TradeTick)]


def _is_of(trade: TradeTick, request: RepairRequest) -> bool:
    return trade.symbol == request.symbol and trade.id_space == request.id_space


def _host(address: str) -> str:
    match = _HOST.match(address.lower())
    return match[1] if match else ""
