"""The base of every venue's trade history: which page to request, and which trades it has. Pure: no I/O, no clock.

    missing ids ─ ask ─> Page ─ HTTP, elsewhere ─> Answer ─ judge ─> trades ─ read ─> the ids it holds
                                                               ├──> RetryableError
                                                               └──> PermanentError

The venue's provider has to decode the answers (mdstream/repairs.py).
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from mdstream.errors import SymbolError
from mdstream.repairs import RepairRequest
from mdstream.ticks import TradeTick
from mdstream.venues.declared import Declared
from mdstream.venues.past import Page, Past
from mdstream.venues.rest import PermanentError
from mdstream.venues.spans import Span, count


class Endpoint(NamedTuple):
    """Where past trades are requested. `path`: path and query after the base URL, with the fields symbol (the venue's),
    first, last, after (the id behind the last) and rows; `cost`: share of the budget of a request."""

    path: str
    cost: float = 1.0


class History(Past, Declared, ABC):
    """One venue's REST interface for past trades."""

    endpoints: ClassVar[Mapping[str, Endpoint]]
    """By the id spaces it can be queried in, as TradeTick names them."""
    newest_first: ClassVar[bool]
    """The reading order: if True a page holds the newest trades below an id, else the oldest from an id on."""
    most_rows: ClassVar[int]

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
