"""A venue's book, of a snapshot and the changes to it: its states, and that it is what a plain reading gives."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_books import PlainBook, l2update, snapshot

from mdstream.errors import FrameError
from mdstream.stream import book as module
from mdstream.stream.book import LONGEST_CROSSED_NS, MAX_LAG_NS, Book, State, UpdateResult
from mdstream.ticks import PRICE_UNIT, BookCheck, BookUpdate, PriceLevel, price_units
from mdstream.venues.providers import provider

U = PRICE_UNIT
SECOND_NS = 1_000_000_000


def levels(*prices: int, size: float = 1.0) -> list[PriceLevel]:
    return [(price * U, size) for price in prices]


def whole(bids: list[PriceLevel], asks: list[PriceLevel], ts: int | None = 0) -> BookUpdate:
    return BookUpdate("X", bids, asks, ts, whole=True)


def change(*, bids: list[PriceLevel] | None = None, asks: list[PriceLevel] | None = None, ts: int = 1) -> BookUpdate:
    return BookUpdate("X", bids or [], asks or [], ts)


def synced(bids: tuple[int, ...] = (9, 8), asks: tuple[int, ...] = (11, 12)) -> Book:
    book = Book()
    assert book.apply(whole(levels(*bids), levels(*asks)), 0) is UpdateResult.TOP
    return book


def best(book: Book) -> tuple[list[float], list[float]]:
    """The prices of the best levels."""
    picture = book.picture("X")
    return [price for price, _ in picture.bids], [price for price, _ in picture.asks]


def test_changes_without_a_snapshot_are_skipped() -> None:
    """Nobody knows what they change."""
    book = Book()
    assert book.apply(change(bids=levels(9)), 0) is UpdateResult.PASSED
    assert book.state is State.EMPTY


@pytest.mark.parametrize(
    ("update", "message", "bids", "asks"),
    [
        (change(bids=levels(10)), UpdateResult.TOP, [10, 9, 8], [11, 12]),
        (change(bids=levels(9, size=5)), UpdateResult.TOP, [9, 8], [11, 12]),
        (change(bids=levels(9, size=0)), UpdateResult.TOP, [8], [11, 12]),
        (change(asks=levels(11, size=0)), UpdateResult.TOP, [9, 8], [12]),
        (change(asks=levels(13)), UpdateResult.LEVELS, [9, 8], [11, 12, 13]),
        (change(bids=levels(8, size=0)), UpdateResult.LEVELS, [9], [11, 12]),
        (change(bids=levels(9)), UpdateResult.NOTHING, [9, 8], [11, 12]),
        (change(asks=levels(11, 12)), UpdateResult.NOTHING, [9, 8], [11, 12]),
        (change(bids=levels(7, size=0)), UpdateResult.NOTHING, [9, 8], [11, 12]),
        (change(bids=levels(9, 8, size=0)), UpdateResult.TOP, [], [11, 12]),
        (change(bids=[(10 * U, 1.0), (10 * U, 0.0)]), UpdateResult.LEVELS, [9, 8], [11, 12]),
    ],
    ids=["better bid", "new size of the best", "best bid gone", "best ask gone", "worse ask", "worse bid gone",
         "the same again", "the same asks again", "gone what was not there", "no bids left", "there and gone"],
)  # fmt: skip
def test_change_sets_the_size_of_a_level(
    update: BookUpdate, message: UpdateResult, bids: list[int], asks: list[int]
) -> None:
    """Bids 9 8, asks 11 12: a size replaces, 0 removes, and the result is published once."""
    book = synced()
    assert book.apply(update, 1) is message
    assert best(book) == (bids, asks)


def test_change_beyond_the_best_twenty_is_not_published() -> None:
    book = synced(bids=tuple(range(30, 60)), asks=(70,))
    assert book.apply(change(bids=levels(40, size=3)), 1) is UpdateResult.LEVELS  # the twentieth
    assert book.apply(change(bids=levels(39, size=3)), 2) is UpdateResult.NOTHING
    assert book.apply(change(bids=levels(39, size=0)), 3) is UpdateResult.NOTHING
    assert book.apply(change(bids=levels(45, size=0)), 4) is UpdateResult.LEVELS
    assert best(book)[0][-1] == 38  # the next one moved up


def test_snapshot_replaces_everything_and_is_published() -> None:
    """Also where the top is what it was: the venue says that it still holds."""
    book = synced()
    assert book.apply(whole(levels(9, 7), levels(11)), 1) is UpdateResult.TOP
    assert best(book) == ([9, 7], [11])


def test_quote_is_the_top_with_the_venues_time() -> None:
    book = synced()
    book.apply(change(bids=[(95 * U // 10, 0.25)], ts=77), 1)
    quote = book.quote("X")
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size, quote.ts_exchange) == (9.5, 0.25, 11.0, 1.0, 77)
    book.apply(change(asks=levels(11, 12, size=0)), 2)
    assert (book.quote("X").ask, book.quote("X").ask_size) == (None, None)


# -- what cannot be


@pytest.mark.parametrize("bid", [11, 12])
def test_crossed_book_is_not_published_until_it_is_no_longer_crossed(bid: int) -> None:
    """bid 11 (half of a change) ... ask 11 gone: a top that nobody could trade on is never given out."""
    book = synced()
    assert book.apply(change(bids=levels(bid)), 1) is UpdateResult.CROSSED
    assert book.apply(change(bids=levels(8, size=2)), 2) is UpdateResult.CROSSED
    assert book.apply(change(asks=levels(11, 12, size=0)), 3) is UpdateResult.TOP
    assert best(book) == ([bid, 9, 8], [])


def test_book_that_stays_crossed_is_lost_until_the_next_snapshot() -> None:
    """An update was lost: what is known cannot be right."""
    book = synced()
    assert book.apply(change(bids=levels(11)), SECOND_NS) is UpdateResult.CROSSED
    assert book.apply(change(bids=levels(8)), SECOND_NS + LONGEST_CROSSED_NS - 1) is UpdateResult.CROSSED
    assert book.apply(change(bids=levels(7)), SECOND_NS + LONGEST_CROSSED_NS) is UpdateResult.LOST
    assert book.apply(change(bids=levels(7)), 2 * SECOND_NS + LONGEST_CROSSED_NS) is UpdateResult.PASSED
    assert book.apply(whole(levels(9), levels(11)), 9 * SECOND_NS) is UpdateResult.TOP


def test_update_that_comes_again_behind_newer_ones_changes_nothing() -> None:
    """times 1 2 3, then 2 from another line of the feed: it would bring back what is gone."""
    book = synced()
    for ts, size in ((1, 1.0), (2, 5.0), (3, 0.0)):
        book.apply(change(bids=levels(10, size=size), ts=ts), ts)
    assert book.apply(change(bids=levels(10, size=5), ts=2), 4) is UpdateResult.PASSED
    assert book.apply(change(bids=levels(10, size=0), ts=3), 5) is UpdateResult.NOTHING
    assert best(book)[0] == [9, 8]


def test_venue_whose_clock_was_set_back_goes_on() -> None:
    """An older time alone is no copy: nothing that changed may be left out."""
    book = synced()
    book.apply(change(bids=levels(10), ts=1_000), 1)
    assert book.apply(change(bids=levels(10, size=0), ts=400), 2) is UpdateResult.TOP
    assert best(book)[0] == [9, 8]


def test_snapshot_of_another_line_takes_what_it_had_not() -> None:
    """A snapshot may be older than what was applied: what the line sends behind it counts again."""
    book = synced()
    book.apply(change(bids=levels(10), ts=5), 1)
    book.apply(whole(levels(9), levels(11), ts=4), 2)
    assert book.apply(change(bids=levels(10), ts=5), 3) is UpdateResult.TOP


# -- a venue that gives a checksum

KNOWN = BookCheck(25, 1653876063, price_decimals=1, size_decimals=8)
"""Of 9374205000000093743512000000093741925000000937400200000000, worked out from the venue's rule by hand."""


def units(*levels: tuple[str, float]) -> list[PriceLevel]:
    return [(price_units(price), size) for price, size in levels]


def checked(check: BookCheck = KNOWN) -> BookUpdate:
    bids, asks = units(("93741.9", 0.25), ("93740.0", 2.0)), units(("93742.0", 0.5), ("93743.5", 1.2))
    return BookUpdate("X", bids, asks, 0, True, check)


def test_book_with_its_checksum_is_published() -> None:
    """Asks then bids, best first; digits of price and size without point and leading zeros."""
    assert Book().apply(checked(), 0) is UpdateResult.TOP


def test_book_is_not_published_while_its_checksum_differs() -> None:
    """It is again when a later update says what a missing one had changed."""
    book = Book()
    book.apply(checked(), 0)
    differs = KNOWN._replace(crc32=1)
    assert book.apply(BookUpdate("X", units(("93739.0", 3.0)), [], 1, False, differs), 1) is UpdateResult.CROSSED
    assert book.apply(BookUpdate("X", units(("93739.0", 0.0)), [], 2, False, KNOWN), 2) is UpdateResult.TOP


def test_book_whose_checksum_goes_on_to_differ_is_lost() -> None:
    """As one that stays crossed, a snapshot too."""
    book = Book()
    assert book.apply(checked(KNOWN._replace(crc32=1)), SECOND_NS) is UpdateResult.CROSSED
    update = BookUpdate("X", [], units(("93744.0", 1.0)), 1, False, KNOWN._replace(crc32=2))
    assert book.apply(update, SECOND_NS + LONGEST_CROSSED_NS) is UpdateResult.LOST


def test_levels_beyond_the_venues_depth_are_dropped_until_they_are_sent_again() -> None:
    """depth 2: the venue says nothing when 93740.0 falls out, and sends it when it is the second best again."""
    book, depth = Book(), KNOWN._replace(depth=2)
    book.apply(checked(depth), 0)
    better = units(("93741.95", 1.0))
    book.apply(BookUpdate("X", better, [], 1, False, depth._replace(price_decimals=2)), 1)
    assert best(book)[0] == [93741.95, 93741.9]
    again = units(("93741.95", 0.0), ("93740.0", 2.0))
    assert book.apply(BookUpdate("X", again, [], 2, False, depth), 2) is UpdateResult.TOP
    assert best(book)[0] == [93741.9, 93740.0]


def test_size_with_too_many_digits_for_a_float_is_not_checked() -> None:
    """Its last digits are not known here: nothing follows from another checksum."""
    book = Book()
    book.apply(checked(), 0)
    check = KNOWN._replace(crc32=1)
    assert book.apply(BookUpdate("X", units(("93740.0", 3e7)), [], 1, False, check), 1) is UpdateResult.LEVELS


# -- bounds


def test_side_drops_its_worst_levels_and_knows_nothing_below_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """bids 1..9, five kept: 9..5. 4 is neither kept nor published any more; the known levels have no hole."""
    monkeypatch.setattr(module, "MAX_LEVELS", 5)
    book = synced(bids=tuple(range(1, 10)), asks=(20,))
    assert best(book)[0] == [9, 8, 7, 6, 5]
    assert book.apply(change(bids=levels(4)), 1) is UpdateResult.NOTHING
    book.apply(change(bids=levels(10)), 2)
    assert best(book)[0] == [10, 9, 8, 7, 6]
    book.apply(change(bids=levels(7, 8, size=0)), 3)
    assert book.apply(change(bids=levels(5)), 4) is UpdateResult.NOTHING
    assert best(book)[0] == [10, 9, 6]


def test_book_that_runs_out_of_known_levels_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are bids below, and nobody knows which: no top is better than a wrong one."""
    monkeypatch.setattr(module, "MAX_LEVELS", 2)
    book = synced(bids=(7, 8, 9), asks=(20,))
    assert book.apply(change(bids=levels(9, size=0)), 1) is UpdateResult.TOP
    assert book.apply(change(bids=levels(8, size=0)), 2) is UpdateResult.LOST


def test_times_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TIMES", 2)
    book = synced()
    for ts in (1, 2, 3, 4):
        book.apply(change(bids=levels(10, size=ts), ts=ts), ts)
    assert book.apply(change(bids=levels(10, size=9), ts=3), 5) is UpdateResult.PASSED
    assert book.apply(change(bids=levels(10, size=9), ts=2), 6) is UpdateResult.TOP


# -- against a plain reading

PRICES = st.integers(90, 110).map(lambda ticks: f"{ticks / 100:.2f}")
SIZES = st.sampled_from(["0", "0.00000000", "1.5", "0.25000000", "3"])
SNAPSHOTS = st.tuples(
    st.lists(st.tuples(st.integers(90, 99).map(lambda t: f"{t / 100:.2f}"), SIZES), max_size=30),
    st.lists(st.tuples(st.integers(101, 110).map(lambda t: f"{t / 100:.2f}"), SIZES), max_size=30),
).map(lambda sides: snapshot(*sides, product="X-USD"))
CHANGES = st.lists(st.tuples(st.sampled_from(["buy", "sell"]), PRICES, SIZES), min_size=1, max_size=4).map(
    lambda changes: l2update(changes, product="X-USD")
)


@given(SNAPSHOTS, st.lists(SNAPSHOTS | CHANGES | CHANGES | CHANGES, max_size=20))
def test_book_is_what_a_plain_reading_gives(first: bytes, frames: list[bytes]) -> None:
    """After every frame: crossed or not, the top and the best levels; and a change of the top is always published."""
    venue, book, plain, reported = provider("coinbase"), Book(), PlainBook(), None
    for at, frame in enumerate([first, *frames]):
        (update,) = venue.decode(frame)
        assert isinstance(update, BookUpdate)
        before, message = plain.best(), book.apply(update, at)
        plain.take(json.loads(frame))
        assert (message is UpdateResult.CROSSED) == plain.crossed
        if plain.crossed:
            continue
        quote, picture = book.quote("X"), book.picture("X")
        assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == plain.top()
        assert (picture.bids, picture.asks) == plain.best()
        if message is UpdateResult.TOP:
            reported = plain.top()
        assert reported == plain.top()
        assert message is not UpdateResult.NOTHING or plain.best() == before


@given(SNAPSHOTS, st.lists(CHANGES, max_size=10), st.lists(SNAPSHOTS | CHANGES, max_size=10))
def test_book_of_an_image_goes_on_as_the_book_itself(first: bytes, before: list[bytes], after: list[bytes]) -> None:
    """Whatever is applied to either, crossed or not, both say the same."""
    venue, book = provider("coinbase"), Book()
    for at, frame in enumerate([first, *before]):
        book.apply(venue.decode(frame)[0], at)  # type: ignore[arg-type]
    other = Book.of_image(book.image())
    for at, frame in enumerate(after, 100):
        (update,) = venue.decode(frame)
        assert isinstance(update, BookUpdate)
        assert other.apply(update, at * SECOND_NS) is book.apply(update, at * SECOND_NS)
        assert (other.state, other.ts, other.recv_ns) == (book.state, book.ts, book.recv_ns)
        if book.state is State.SYNCED:
            assert (other.quote("X"), other.picture("X")) == (book.quote("X"), book.picture("X"))


# -- prices


@given(st.decimals(0, 10**20 - 1, places=10))
def test_price_units_are_exact(price: object) -> None:
    """Ten decimals of any price, and the float made of them is the nearest one to what the venue wrote."""
    text = f"{price:f}"
    assert price_units(text) == int(text.replace(".", ""))
    assert price_units(text) / U == float(text)


@pytest.mark.parametrize(
    ("text", "units"),
    [("93741.10", 937411 * 10**9), ("5", 5 * U), ("0.0000000001", 1), ("888888004.0000", 888888004 * U)],
)
def test_price_units_of_what_venues_write(text: str, units: int) -> None:
    assert price_units(text) == units


@pytest.mark.parametrize(
    "text", ["", ".", "1.", ".5", "-1", "+1", "1e5", "nan", " 1", "1_0", "٣", "0.00000000001", "9" * 21]
)
def test_price_units_refuse_what_is_no_plain_price(text: str) -> None:
    """It would identify a wrong level, or none."""
    with pytest.raises(FrameError, match="not a price"):
        price_units(text)


# ----------------------------------------------------------------------------------------------- several connections

MS = 1_000_000
FIRST, SECOND = b"1", b"2"


def test_what_another_connection_gives_again_is_passed() -> None:
    """Also a level that has been removed since, and a whole book that is not newer."""
    book = Book()
    book.apply(whole(levels(9), levels(11), ts=MS), 1, FIRST)
    book.apply(change(bids=levels(10), ts=2 * MS), 2, FIRST)
    book.apply(change(bids=levels(10, size=0), ts=3 * MS), 3, FIRST)
    assert book.apply(whole(levels(10, 9), levels(11), ts=2 * MS), 4, SECOND) is UpdateResult.PASSED
    assert book.apply(change(bids=levels(10, size=0), ts=3 * MS), 5, SECOND) is UpdateResult.PASSED
    assert book.apply(change(bids=levels(8), ts=4 * MS), 6, SECOND) is UpdateResult.LEVELS
    assert book.apply(change(bids=levels(8), ts=4 * MS), 7, FIRST) is UpdateResult.PASSED
    assert best(book) == ([9, 8], [11])


def test_another_connection_with_older_times_is_followed_if_the_clock_was_set_back() -> None:
    """A connection is never that far behind."""
    book = Book()
    book.apply(whole(levels(9), levels(11), ts=MAX_LAG_NS + MS), 1, FIRST)
    assert book.apply(whole(levels(7), levels(8), ts=MS), 2, SECOND) is UpdateResult.TOP
    assert best(book) == ([7], [8])


def test_book_that_is_crossed_takes_any_snapshot() -> None:
    """It may have missed an update."""
    book = synced()
    book.apply(change(bids=levels(12), ts=2 * MS), 1, FIRST)
    assert book.apply(whole(levels(7), levels(8), ts=MS), 2, SECOND) is UpdateResult.TOP


class Lines:
    """A venue whose book changes each millisecond, and connections that give its state when they join and then each
    change, each as far behind as it likes."""

    def __init__(self) -> None:
        self.states: list[dict[int, float]] = [{9: 1.0}]
        self.updates: list[BookUpdate] = []
        self.queues: dict[bytes, list[tuple[int, BookUpdate]]] = {}
        self.book = Book()
        self.newest, self.joined = -1, 0

    def trade(self, price: int, size: float) -> None:
        state = {**self.states[-1], price: size}
        self.states.append({price: size for price, size in state.items() if size})
        self.updates.append(change(bids=levels(price, size=size), ts=len(self.updates) * MS + MS))
        for queue in self.queues.values():
            queue.append((len(self.updates), self.updates[-1]))

    def join(self) -> None:
        bids = [(price * U, size) for price, size in self.states[-1].items()]
        at = len(self.updates)
        self.joined += 1
        self.queues[b"%d" % self.joined] = [(at, whole(bids, levels(100), ts=at * MS))]

    def deliver(self, connection: bytes) -> None:
        at, update = self.queues[connection].pop(0)
        self.book.apply(update, at, connection)
        self.newest = max(self.newest, at)

    def check(self) -> None:
        state = self.states[self.newest]
        assert [price for price, _ in self.book.picture("X").bids] == sorted(state, reverse=True)
        assert dict(self.book.picture("X").bids) == state


@given(st.data())
def test_book_of_several_connections_is_that_of_the_one_that_is_ahead(data: st.DataObject) -> None:
    """Whichever is ahead at each moment, however they join, lag and end."""
    interleave(Lines(), data)


def interleave(lines: Lines, data: st.DataObject) -> None:
    """The book is checked after each update."""
    lines.join()
    for _ in range(data.draw(st.integers(1, 60))):
        ready = [connection for connection, queue in lines.queues.items() if queue]
        match data.draw(st.sampled_from(["trade", "deliver", "deliver", "join", "end"])):
            case "trade":
                lines.trade(data.draw(st.integers(1, 12)), data.draw(st.sampled_from([0.0, 1.0, 2.0])))
            case "deliver" if ready:
                lines.deliver(data.draw(st.sampled_from(ready)))
                lines.check()
            case "join" if len(lines.queues) < 4:
                lines.join()
            case "end" if len(lines.queues) > 1:
                del lines.queues[data.draw(st.sampled_from(sorted(lines.queues)))]


# ---------------------------------------------------------------------------------------------------- numbered updates


def numbered(update_id: int, previous_id: int, *prices: int, ts: int = 0, size: float = 1.0) -> BookUpdate:
    return BookUpdate("X", levels(*prices, size=size), [], ts, False, None, update_id, previous_id)


def first(update_id: int, *bids: int, ts: int = 0) -> BookUpdate:
    return BookUpdate("X", levels(*bids), levels(100), ts, True, None, update_id, -1)


def test_update_that_follows_is_applied_and_a_copy_is_passed() -> None:
    """By its number alone, whatever its time; one without a change keeps the number."""
    book = Book()
    book.apply(first(7, 9), 1, FIRST)
    assert book.apply(numbered(9, 7, 10), 2, FIRST) is UpdateResult.TOP
    assert book.apply(numbered(9, 7, 10), 3, SECOND) is UpdateResult.PASSED
    assert book.apply(numbered(7, 5, 10, size=0), 4, SECOND) is UpdateResult.PASSED
    assert book.apply(BookUpdate("X", [], [], 0, False, None, 9, 9), 5, FIRST) is UpdateResult.NOTHING
    assert book.apply(numbered(12, 9, 11), 6, SECOND) is UpdateResult.TOP
    assert best(book)[0] == [11, 10, 9]


def test_number_that_did_not_come_loses_the_book() -> None:
    """Until the next snapshot, whatever its number."""
    book = Book()
    book.apply(first(7, 9), 1)
    assert book.apply(numbered(11, 9, 10), 2) is UpdateResult.LOST
    assert book.apply(numbered(12, 11, 10), 3) is UpdateResult.PASSED
    assert book.apply(first(5, 8), 4) is UpdateResult.TOP


def test_numbers_that_begin_again_are_followed_or_lose_the_book() -> None:
    """The update in which they do names the last one; if it was missed, their times are later than their numbers."""
    book = Book()
    book.apply(first(700, 9), 1)
    assert book.apply(numbered(3, 700, 10, ts=MS), 2) is UpdateResult.TOP
    assert book.apply(numbered(5, 3, 11, ts=2 * MS), 3) is UpdateResult.TOP
    missed = Book()
    missed.apply(first(700, 9), 1)
    assert missed.apply(numbered(5, 3, 11, ts=2 * MS), 2) is UpdateResult.LOST


def test_image_keeps_the_number() -> None:
    """The next update follows after a restart as it would have before."""
    book = Book()
    book.apply(first(7, 9), 1, FIRST)
    book.apply(numbered(9, 7, 10), 2, FIRST)
    other = Book.of_image(book.image())
    assert (other.update_id, other.connection) == (9, FIRST)
    assert other.apply(numbered(12, 9, 11), 3, FIRST) is UpdateResult.TOP


class Numbered(Lines):
    """As Lines, at a venue that numbers its updates, several in a millisecond."""

    def trade(self, price: int, size: float) -> None:
        super().trade(price, size)
        at = len(self.updates)
        update = numbered(at, at - 1, price, ts=at // 3 * MS, size=size)
        for queue in self.queues.values():
            queue[-1] = (at, update)

    def join(self) -> None:
        super().join()
        at, update = self.queues[b"%d" % self.joined][-1]
        update.update_id, update.previous_id, update.ts_exchange = at, -1, at // 3 * MS


@given(st.data())
def test_numbered_book_of_several_connections_is_that_of_the_one_that_is_ahead(data: st.DataObject) -> None:
    """It is that of the connection that is ahead, however they join, lag and end."""
    interleave(Numbered(), data)
