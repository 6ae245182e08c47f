"""What a raw partition's stream remembers: all but buffers (lines.py) and books (books.py) is in the checkpoint.

It is bounded per instrument and source.

    LogState    the log's clock, and of each source: is it connected, how late, how faulty
    Instrument  the next sequence numbers, the source in use, and of each source a Feed: what was seen of it

Log time is the highest receive time read so far, ns (clock.py); it stands still where the log does.
"""

from __future__ import annotations

import msgspec

from mdstream.stream.dedupe import QuoteDedupe, TradeDedupe, UpdateIds

NOT_BUFFERED = NOT_KEPT = -1


class SourceState(msgspec.Struct, array_like=True):
    """One provider as the whole partition sees it. Times are log time in ns, 0 for never."""

    offset_ns: int = 0
    """What turns its receive times into log time, where its clock is wrong or the log stood still."""
    beat_ns: int = 0
    """Its ingestor's last heartbeat."""
    down_ns: int = 0
    """When its connection was lost, 0 while there is one."""
    down_reason: str = ""
    latency_ns: int | None = None
    """Of its newest live trade, from the venue's time to ours; None where none came since the last look."""
    least_ns: int | None = None
    """The least recent latency of the window under way, and of the one before: what separates the venue's clock from
    ours."""
    least_before_ns: int | None = None
    window_ns: int = 0
    """When the window began."""
    late_since_ns: int = 0
    faults: float = 0.0
    """Frames that could not be understood, of the last minute or so."""
    silence_told_ns: int = 0
    recent_ns: list[int] = []
    """Latencies at the last looks that found a new trade, oldest first."""
    late_to_ns: int = 0
    """The last look at which it was late."""
    linked_ns: int = 0
    """When its ingestor said last that a connection was made or lost."""

    @property
    def recent_latency_ns(self) -> int | None:
        """The median of its last latencies, which a trade or two with an odd time do not move; None for none."""
        return sorted(self.recent_ns)[len(self.recent_ns) // 2] if self.recent_ns else self.latency_ns

    @property
    def newest_latency_ns(self) -> int | None:
        """Of its newest live trade."""
        return self.recent_ns[-1] if self.latency_ns is None and self.recent_ns else self.latency_ns

    @property
    def usual_latency_ns(self) -> int:
        """The least that was measured of late; it holds what the venue's clock differs from ours."""
        known = [latency for latency in (self.least_ns, self.least_before_ns) if latency is not None]
        return min(known) if known else self.recent_latency_ns or 0


class LogState(msgspec.Struct, array_like=True):
    """The partition's clock and its sources by name."""

    now_ns: int = 0
    due_ns: int = 0
    sources: dict[str, SourceState] = {}


class Channel(msgspec.Struct, gc=False, array_like=True):
    """How one kind of data comes from one feed: when last, and how long it usually is silent. Log time in ns."""

    seen_ns: int = 0
    marked_ns: int = 0
    habit_ns: int = 0
    """Mean time between looks at which it had spoken."""
    looks: int = 0


class OpenGap(msgspec.Struct, gc=False, array_like=True):
    """A gap that was reported and is neither closed nor lost. `opened_ns`: log time."""

    first: int
    last: int
    opened_ns: int


class KeptBook(msgspec.Struct, gc=False, array_like=True):
    """What a restart needs to know of a book that is kept (books.py), apart from its levels. Log time in ns."""

    kept_from: int = NOT_KEPT
    """The offset of the first raw record of which the book is made: of a snapshot, or the first that its image has
    not."""
    has_image: bool = False
    kept_ns: int = 0
    """When that was."""
    told_ns: int = 0
    """When a book was published last."""
    due: bool = False
    """Whether its best levels have changed since."""


class Feed(msgspec.Struct, array_like=True):
    """What one provider said of one instrument. Times are log time in ns."""

    trades: TradeDedupe = msgspec.field(default_factory=TradeDedupe)
    quotes: QuoteDedupe = msgspec.field(default_factory=QuoteDedupe)
    books: UpdateIds = msgspec.field(default_factory=UpdateIds)
    trade: Channel = msgspec.field(default_factory=Channel)
    quote: Channel = msgspec.field(default_factory=Channel)
    book: Channel = msgspec.field(default_factory=Channel)
    gaps: list[OpenGap] = []
    gap_rate: float = 0.0
    """Gaps of the last minute or so."""
    healthy_since_ns: int = 0
    failures: int = 0
    """How often it was left because it failed, until it has been healthy for long."""
    buffered_from: int = NOT_BUFFERED
    """While it stands by: the offset of the first raw record in its buffer (canonical.py)."""
    kept: KeptBook = msgspec.field(default_factory=KeptBook)

    @property
    def seen_ns(self) -> int:
        """When it said anything last."""
        return max(self.trade.seen_ns, self.quote.seen_ns, self.book.seen_ns)


class Instrument(msgspec.Struct, array_like=True):
    """The next number of each type of event (0: none yet), the source in use, and the feeds by provider.

    `since_ns`: receive time of the record at which that source was taken; `reason`: why.
    """

    trade_seq: int = 0
    quote_seq: int = 0
    book_seq: int = 0
    active: str = ""
    since_ns: int = 0
    reason: str = ""
    silence_told_ns: int = 0
    begun_ns: int = 0
    """Log time at which the first of its sources spoke."""
    feeds: dict[str, Feed] = {}
    image: bytes = b""
    """A kept book with its levels, under a key of its own (books.py): written when it is made, and not again."""
