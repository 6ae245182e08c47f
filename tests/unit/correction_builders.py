"""Builders of the tests on corrections: trades of a stock, and what corrects and cancels them."""

from __future__ import annotations

import msgspec
import pytest
from bar_builders import trade
from hypothesis import strategies as st

from mdstream.bars import memory
from mdstream.events import Trade


def stock(
    seq: int, at_ms: float, price: float = 100.0, size: float = 1.0, *, received_ms: float | None = None
) -> Trade:
    return trade(seq, at_ms, price, size, symbol="AAPL", provider="alpaca", received_ms=received_ms)


def corrected(seq: int, of: Trade | str, price: float, size: float, *, symbol: str = "AAPL") -> Trade:
    """A correction that came at once, one hour after everything: its own time counts for nothing."""
    corrects = of if isinstance(of, str) else of.trade_id
    made = trade(seq, 3_600_000, price, size, symbol=symbol, provider="alpaca")
    return msgspec.structs.replace(made, correction="correct", corrects=corrects)


def cancelled(seq: int, of: Trade | str, *, symbol: str = "AAPL") -> Trade:
    return msgspec.structs.replace(corrected(seq, of, 1.0, 0.0, symbol=symbol), correction="cancel")


PRICES = st.integers(1, 500).map(lambda cents: cents / 100)
SIZES = st.integers(1, 10**6).map(lambda units: units / 1e5)
TIMES_MS = st.integers(0, 150_000) | st.sampled_from([0, 999, 1000, 59_999, 60_000, 60_001])

HOURS_MS = st.integers(0, 30_000).map(lambda at_s: at_s * 1000)


@st.composite
def corrected_histories(draw: st.DrawFn, times_ms: st.SearchStrategy[int] = TIMES_MS) -> list[Trade]:
    """Trades of two symbols and corrections of any of them, or of each other, in any order."""
    made: list[Trade] = []
    ids: dict[str, list[str]] = {"A": [], "B": []}
    for number in range(draw(st.integers(0, 40))):
        symbol, kind = draw(st.sampled_from("AB")), draw(st.sampled_from(["trade"] * 3 + ["correct", "cancel"]))
        price, size = draw(PRICES), draw(SIZES)
        ids[symbol].append(str(number))
        if kind == "trade":
            one = trade(0, draw(times_ms), price, size, symbol=symbol, provider="alpaca", count=number % 3 + 1)
        else:
            of = draw(st.sampled_from(ids[symbol][:-1] or ["unknown"]) | st.sampled_from(ids[symbol][-4:]))
            one = corrected(0, of, price, size, symbol=symbol)
            one = one if kind == "correct" else msgspec.structs.replace(one, size=0.0, correction="cancel")
        if one.corrects != str(number):
            made.append(msgspec.structs.replace(one, trade_id=str(number)))
    if draw(st.booleans()):
        made = draw(st.permutations(made))
    seqs = {"A": 10, "B": 900}
    numbered = []
    for one in made:
        seqs[one.symbol] += 1
        numbered.append(msgspec.structs.replace(one, seq=seqs[one.symbol]))
    return numbered


LIMITS = st.sampled_from([(memory.BLOCK, memory.SPAN), (1, 1), (2, 2), (4, 1), (3, 3)])
"""Numbers a block, and blocks a span: the real ones, and memories that forget soon."""


def limit(patch: pytest.MonkeyPatch, limits: tuple[int, int]) -> None:
    """Memories with these limits."""
    patch.setattr(memory, "BLOCK", limits[0])
    patch.setattr(memory, "SPAN", limits[1])
