"""What contracts are worth, for venues whose sizes count them: from contracts to units of base, exactly. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Context, Decimal
from math import isfinite

from mdstream.errors import FrameError
from mdstream.events import ListedInstrument
from mdstream.instruments import is_linear
from mdstream.ticks import BookTick, BookUpdate, QuoteTick, TradeTick

_CONTRACT_SIZE = re.compile(rb"[0-9]{1,20}(\.[0-9]{1,20})?")
_multiply = Context(prec=60).multiply
"""Enough for all digits of a float64 and of a contract size: the product is exact, and rounded once, to a float64."""


def contract_sizes_of(listed: Iterable[ListedInstrument]) -> dict[str, str]:
    """By canonical symbol: what one contract is worth, of the linear contracts in a venue's list."""
    return {i.symbol: i.contract_size for i in listed if is_linear(i.symbol) and i.contract_currency == i.base}


def read_contract_size(text: bytes) -> Decimal:
    """What a contract is worth, from a raw record. Raises FrameError for anything but a plain number above zero."""
    contract_size = Decimal(text.decode()) if _CONTRACT_SIZE.fullmatch(text) else None
    if not contract_size:
        raise FrameError(f"header v is no number of units of base that a contract is worth: {text!r:.60}")
    return contract_size


def to_base(tick: TradeTick | QuoteTick | BookTick | BookUpdate, contract_size: Decimal) -> None:
    """Turn the sizes of a tick from contracts into units of base. Raises FrameError for one beyond all numbers."""
    if isinstance(tick, TradeTick):
        tick.size = in_base(tick.size, contract_size)
    elif isinstance(tick, QuoteTick):
        tick.bid_size = None if tick.bid_size is None else in_base(tick.bid_size, contract_size)
        tick.ask_size = None if tick.ask_size is None else in_base(tick.ask_size, contract_size)
    else:
        tick.bids = [(price, in_base(size, contract_size)) for price, size in tick.bids]
        tick.asks = [(price, in_base(size, contract_size)) for price, size in tick.asks]


def in_base(contracts: float, contract_size: Decimal) -> float:
    """So many contracts in units of base, as one writes it: 35 of 0.01 are 0.35, and not 0.35000000000000003.

    The shortest form of a float64 is the text that it was read from, up to 15 digits.
    """
    size = float(_multiply(Decimal(repr(contracts)), contract_size))
    if not isfinite(size):
        raise FrameError(f"{contracts:g} contracts, each worth {contract_size:f}: too many")
    return size
