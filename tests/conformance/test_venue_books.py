"""Kept books are the venue's: at every frame, on a line that drops, repeats and reorders them (book_market.py)."""

from __future__ import annotations

import os
from random import Random

import pytest
from book_market import BookMarket
from hypothesis import given, settings
from hypothesis import strategies as st
from test_venue_simulated import SIMULATED

from mdstream.stream.book import Book, UpdateResult
from mdstream.ticks import BookUpdate
from mdstream.venues.feed import BOOK
from mdstream.venues.providers import PROVIDERS

SECONDS = int(os.environ.get("MDSTREAM_BOOK_SECONDS", "60"))
UNNUMBERED = {"coinapi"}
"""Their whole books have no number: one that is sent again late is one like the others."""
BOOKS = [
    name
    for name in SIMULATED
    if BOOK in {channel.kind for channel in PROVIDERS[name].channels} and name not in UNNUMBERED
]
KEPT = ["alpaca_crypto", "bybit", "bybit_linear", "coinbase", "coinbase_advanced", "kraken", "okx"]
"""By changes; the others send whole books."""
SHOW_LOSSES = ["kraken", "okx"]


def test_books_of_every_sort_are_among_them() -> None:
    """Venues that number changes, that give a checksum, that do neither, that send whole books."""
    sorts = {name: BookMarket(name, Random(0)).sort for name in BOOKS}
    assert set(sorts.values()) == {"numbered", "checked", "ordered", "whole"}
    assert sorted(name for name, sort in sorts.items() if sort != "whole") == KEPT
    assert sorted(name for name, sort in sorts.items() if sort in ("numbered", "checked")) == SHOW_LOSSES


@pytest.mark.parametrize("venue", BOOKS)
def test_published_books_are_the_venue_s_at_every_frame(venue: str) -> None:
    """A minute; MDSTREAM_BOOK_SECONDS=600 makes it ten. Each fault has occurred, and most books were published."""
    market = BookMarket(venue, Random(1))
    market.run(SECONDS)
    counts = market.counts
    print(f"{venue} ({market.sort}): {dict(sorted(counts.items()))}")
    faults = ["repeat", "resync", "disconnect"] + (["drop", "reorder"] if market.sort != "ordered" else [])
    assert SECONDS < 600 or not [fault for fault in faults if not counts[fault]]
    assert counts["repeat"] > 0
    assert counts["book"] > 0.4 * len(market.truth)  # after a break there is none for five seconds, or twice as long
    assert (counts["quote"] > 0) == PROVIDERS[venue].quotes_from_books or market.sort == "whole"
    assert (counts["broken"] > 0) == (counts["reported"] > 0) == (venue in SHOW_LOSSES)


@pytest.mark.parametrize("venue", BOOKS)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_so_they_are_whatever_goes_wrong(venue: str, seed: int) -> None:
    """Other markets, other faults."""
    BookMarket(venue, Random(seed)).run(15)


def test_wrong_book_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a change applied whose predecessor is missing, the comparison would fail."""

    def applied(book: Book, update: BookUpdate) -> UpdateResult:
        book.update_id, book.ts = update.update_id, update.ts_exchange
        return book._settle(book._change(update), book.recv_ns, again=True)

    monkeypatch.setattr(Book, "_skip", applied)
    with pytest.raises(AssertionError):
        BookMarket("okx", Random(1)).run(60)
