"""What the venues' parsers have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mdstream.ticks import PriceLevel, TradeTick, number, price_units


def side_of_book(price: str, size: str) -> tuple[float | None, float | None]:
    """Price and size of the best order as the venue writes them; (None, None) for "" or "0": no orders on that side.

    Raises FrameError if either is not a finite number.
    """
    value = number(price)
    return (value, number(size)) if value else (None, None)


def priced(price: float, size: float) -> tuple[float | None, float | None]:
    """Price and size of the best order; (None, None) for the price 0: no orders on that side."""
    return (price, size) if price else (None, None)


def price_levels(levels: Sequence[tuple[str, float]]) -> list[PriceLevel]:
    """The levels of a BookUpdate from prices as the venue writes them."""
    return [(price_units(price), size) for price, size in levels]


def recovered(trades: Iterable[TradeTick]) -> list[TradeTick]:
    """The same trades, marked as a REST answer's."""
    marked = list(trades)
    for trade in marked:
        trade.recovered = True
    return marked
