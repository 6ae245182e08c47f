"""The books of a partition: when they are published, and how they are restored after a restart.

    BookUpdate ─> Book (book.py) ─ TOP ─────────> a quote, at once
                                 └ TOP, LEVELS ─> due ─ at most every BOOK_INTERVAL_NS ─> a book of the best levels

A book is a function of its raw records from `kept_from` on, so no checkpoint holds it: a worker that takes over reads
them again (Canonical.read_from) and publishes nothing. They begin with a snapshot, or later with an image of all
levels, made every KEEP_NS, for one book per evaluation, and written under its own key:

    raw       ... S u u . u . . u | u . u u . | u . .        S: snapshot, u: update, | : image
    kept_from     ^ ─────────────> ^ ────────> ^             never further back than KEEP_NS and one round of all books

What is published when depends only on the log, also after a restart: the checkpoint holds whether a book is due and
when the last one was published. A standby's quotes from its book are not buffered like other quotes: that would tie
each buffer to an image older than itself. After a switch, the new source publishes its current top and its book.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

from mdstream.records import Record, connection_of
from mdstream.stream.book import Book, State, UpdateResult
from mdstream.stream.lines import Line
from mdstream.stream.state import NOT_KEPT, Instrument
from mdstream.ticks import BookUpdate

BOOK_INTERVAL_NS = 100_000_000
"""Least time between two published books of one feed."""
KEEP_NS = 30_000_000_000
"""How much of the raw log a book may need to be read again."""


class Books:
    """The kept books of one partition's lines; their images are in its `instruments`."""

    def __init__(self, instruments: dict[str, Instrument]) -> None:
        self._instruments = instruments
        self._lines: list[Line] = []  # by symbol and source: the order must not depend on which came first

    def of(self, line: Line) -> Book:
        """A line's book, an empty one if it had none."""
        return line.book or self._add(line, Book())

    def _add(self, line: Line, book: Book) -> Book:
        line.book = book
        insort(self._lines, line, key=_order)
        return book

    def restore(self, line: Line) -> None:
        """Restore what the checkpoint has of a line's book; the records from `kept_from` on complete it."""
        kept = line.feed.kept
        if kept.kept_from == NOT_KEPT:
            return
        image = self._instruments.get(image_key(line), Instrument()).image
        if not line.allowed or (kept.has_image and not image):
            kept.kept_from = NOT_KEPT
            return
        self._add(line, Book.of_image(image) if kept.has_image else Book())

    def begins(self) -> Iterator[int]:
        """The offset at which each kept book begins."""
        return (line.feed.kept.kept_from for line in self._lines if _is_kept(line))

    def apply(self, line: Line, update: BookUpdate, record: Record, recv_ns: int, now_ns: int) -> UpdateResult:
        """Apply an update of a raw record; its result. `now_ns`: log time."""
        kept, result = line.feed.kept, self.of(line).apply(update, recv_ns, connection_of(record))
        if update.whole and result is not UpdateResult.PASSED:
            kept.kept_from, kept.has_image, kept.kept_ns = record.offset, False, now_ns
        if result is UpdateResult.TOP or result is UpdateResult.LEVELS:
            kept.due = True
        elif result is UpdateResult.LOST:
            self.lose(line)
        return result

    def refill(self, line: Line, update: BookUpdate, record: Record, recv_ns: int) -> None:
        """Apply again an update that was applied before the restart."""
        if line.book is not None and 0 <= line.feed.kept.kept_from <= record.offset:
            line.book.apply(update, recv_ns, connection_of(record))

    def lose(self, line: Line) -> bool:
        """Discard a line's book until its next snapshot; whether there was one."""
        if line.book is None or not _is_kept(line):
            return False
        line.book.clear()
        line.feed.kept.kept_from, line.feed.kept.due = NOT_KEPT, False
        return True

    def lose_before(self, offset: int) -> Iterator[Line]:
        """Lose the books that depend on records before an offset, which are gone; their lines."""
        return (line for line in self._lines if line.feed.kept.kept_from < offset and self.lose(line))

    def due(self, now_ns: int) -> Iterator[tuple[Line, Book]]:
        """The books to publish now."""
        return ((line, line.book) for line in self._lines if line.book and line.live and is_due(line, now_ns))

    def keep(self, position: int, now_ns: int) -> tuple[str, ...]:
        """Make the oldest book that is due for it begin at `position`, the next record to apply; the keys to write for
        that."""
        old = [line for line in self._lines if _is_kept(line) and now_ns - line.feed.kept.kept_ns >= KEEP_NS]
        if not old:
            return ()
        line = min(old, key=lambda line: line.feed.kept.kept_ns)
        kept, book, key = line.feed.kept, self.of(line), image_key(line)
        if book.state is State.EMPTY:  # its snapshot could not be read again after a restart
            self.lose(line)
            return (line.symbol,)
        has_changed = book.moved or not kept.has_image
        if has_changed:
            self._instruments.setdefault(key, Instrument()).image = book.image()
        kept.kept_from, kept.has_image, kept.kept_ns = position, True, now_ns
        return (line.symbol, key) if has_changed else (line.symbol,)


def is_publishable(line: Line) -> bool:
    """Whether a line's book can be published as it is now.

    A connection made or lost since the book's last update may have been its own. Its next frame then decides, because a
    new connection begins with a snapshot.
    """
    synced = line.book is not None and line.book.state is State.SYNCED
    return synced and line.feed.book.seen_ns > line.source.state.linked_ns


def is_due(line: Line, now_ns: int) -> bool:
    """Whether a book's best levels changed and it may be published again; never while crossed."""
    kept = line.feed.kept
    return (
        kept.due
        and now_ns - kept.published_ns >= BOOK_INTERVAL_NS
        and line.book is not None
        and line.book.state is State.SYNCED
    )


def image_key(line: Line) -> str:
    """The key of a book's image, beside its instrument's key; no symbol has spaces."""
    return f"{line.symbol} book {line.source.name}"


def _is_kept(line: Line) -> bool:
    return line.feed.kept.kept_from != NOT_KEPT


def _order(line: Line) -> tuple[str, str]:
    return line.symbol, line.source.name
