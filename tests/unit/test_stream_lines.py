"""The buffer of a standby: what it holds, and where a restart has to begin to read."""

from __future__ import annotations

from mdstream.stream.lines import MAX_BUFFERED, Line, Source
from mdstream.stream.state import NOT_BUFFERED, Feed, Instrument, SourceState
from mdstream.ticks import QuoteTick
from mdstream.venues.providers import provider

QUOTE = QuoteTick("BTCUSDT", 1.0, 1.0, 2.0, 1.0, None)


def test_full_buffer_drops_its_oldest_record_whole() -> None:
    """A restart reads records, not ticks: those of one stay or go together."""
    feed = Feed()
    line = Line(Source(provider("okx"), SourceState()), "BTCUSDT", Instrument(), feed)
    for offset in range(MAX_BUFFERED // 2 + 1):
        for _ in range(2):
            line.stand_by(offset, offset, QUOTE)
    assert (len(line.buffer), line.buffer[0][0], feed.buffered_from) == (MAX_BUFFERED, 1, 1)
    assert line.forget_before(MAX_BUFFERED)
    assert (len(line.buffer), feed.buffered_from) == (0, NOT_BUFFERED)
