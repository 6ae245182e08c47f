"""The base of every venue's list of instruments: what to ask, and how to read the answers. Pure: no I/O, no clock.

    targets, volume_targets ─ HTTP, elsewhere ─> Answer ─ judge ─> bodies ─ read ─> ListedInstrument, ..

A venue gives the rows of an answer as it has them; names, kinds and exact decimals are the same work everywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec

from mdstream.errors import FrameError, SymbolError
from mdstream.events import ListedInstrument
from mdstream.instruments import Kind
from mdstream.venues.declared import Declared
from mdstream.venues.feed import UNREADABLE
from mdstream.venues.rest import Api

Step = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,20}(\.[0-9]{1,20})?([eE]-?[0-9]{1,2})?)?$")]
"""A tick, a lot or the value of a contract as venues write it; empty where there is none."""


class Row(NamedTuple):
    """An instrument in a venue's answer. `contract_currency` empty: the base; `key`: its name in the volumes' answer,
    where that differs."""

    symbol: str
    base: str
    quote: str
    tick_size: str
    lot_size: str
    trading: bool
    contract_size: str = "1"
    contract_currency: str = ""
    key: str = ""


class Listing(Api, Declared, ABC):
    """One venue's list of instruments."""

    targets: ClassVar[Sequence[str]]
    """Path and query of each request after the base URL; together their answers are the list."""
    answer: ClassVar[Any]
    """The type of these answers."""
    volume_targets: ClassVar[Sequence[str]] = ()
    """The requests for the volumes of the last 24 hours; none where the venue does not give them for all at once."""
    volume_answer: ClassVar[Any] = msgspec.Raw
    volumes_in_contracts: ClassVar[bool] = False
    """Whether `volumes` gives numbers of contracts, not amounts of quote currency."""

    def __init__(self) -> None:
        super().__init__()
        self._decode = msgspec.json.Decoder(self.answer, strict=False).decode
        self._decode_volumes = msgspec.json.Decoder(self.volume_answer, strict=False).decode

    @abstractmethod
    def rows(self, answer: Any) -> Iterable[Row]:
        """The instruments in an answer."""

    def volumes(self, answer: Any) -> Iterable[tuple[str, float]]:  # noqa: ARG002  a hook: not all venues have them
        """By name: what was traded in the last 24 hours, in quote currency."""
        return ()

    def more(self, target: str, body: bytes) -> str | None:  # noqa: ARG002  a hook: most venues answer in one page
        """The target of the page after that `body`, the answer to `target`; None if it was the last."""
        return None

    def read(self, bodies: Sequence[bytes], volumes: Sequence[bytes] = (), *, ts_recv: int) -> list[ListedInstrument]:
        """The instruments in the answers, by symbol. One whose name the provider cannot map is left out: its feed
        could not be read. Raises FrameError or msgspec.MsgspecError for answers of another form."""
        try:
            rows = [row for body in bodies for row in self.rows(self._decode(body))]
            traded = {name: volume for body in volumes for name, volume in self.volumes(self._decode_volumes(body))}
        except UNREADABLE as error:
            raise FrameError(f"not JSON that can be read: {error}") from None
        found: dict[str, ListedInstrument] = {}
        for row in rows:
            symbol = self._symbol(row.symbol)
            if symbol and symbol not in found:
                found[symbol] = self._listed(symbol, row, traded.get(row.key or row.symbol), ts_recv)
        return [found[symbol] for symbol in sorted(found)]

    def _symbol(self, venue_symbol: str) -> str:
        try:
            return self._provider.canonical(venue_symbol)
        except SymbolError:
            return ""

    def _listed(self, symbol: str, row: Row, volume: float | None, ts_recv: int) -> ListedInstrument:
        size = exact(row.contract_size) or "1"
        if volume is not None and self.volumes_in_contracts:
            volume *= float(size)
        return ListedInstrument(
            symbol,
            self.name,
            row.symbol,
            kind_of(symbol, row.quote).value,
            row.base,
            row.quote,
            exact(row.tick_size),
            exact(row.lot_size),
            size,
            row.contract_currency or row.base,
            "trading" if row.trading else "not_trading",
            ts_recv,
            volume,
        )


def kind_of(symbol: str, quote: str) -> Kind:
    """The kind of a pair or of a contract on it, by its canonical symbol."""
    _, dash, contract = symbol.rpartition("-")
    if not dash:
        return Kind.SPOT
    if contract not in ("PERP", "SWAP"):
        return Kind.FUTURE
    return Kind.INVERSE_PERPETUAL if quote == "USD" else Kind.PERPETUAL


def matches(instrument: ListedInstrument, pattern: str) -> bool:
    """Whether its symbol, or the venue's name for it, has the form of a pattern like BTC*-PERP, in any case."""
    return any(fnmatchcase(name.upper(), pattern.upper()) for name in (instrument.symbol, instrument.venue_symbol))


def exact(text: str) -> str | None:
    """A decimal number without needless zeros and without an exponent; None for zero or nothing."""
    number = Decimal(text or 0)
    return f"{number.normalize():f}" if number else None
