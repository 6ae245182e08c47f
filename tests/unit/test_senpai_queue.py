"""The queue between NATS and SenpAI's engine: what is dropped first."""

from __future__ import annotations

from mdstream.ingest.overflow import Limits
from mdstream.records import HEARTBEAT
from mdstream.senpai.queue import message, queue
from mdstream.venues.feed import OTHER, QUOTE, TRADE


def test_heartbeats_go_from_80_percent_and_quotes_from_90() -> None:
    """In order of arrival what is left comes out."""
    waiting = queue(Limits(records=10))
    for n, kind in enumerate(["quote"] * 8 + ["heartbeat", "quote", "quote"]):
        waiting.add(message("md.events", f"md.events.{kind}.BTCUSDT", str(n).encode()))
    assert dict(waiting.dropped) == {HEARTBEAT: 1, QUOTE: 1}
    taken = waiting.first(3)
    waiting.remove(taken)
    assert [each.value for each in taken] == [b"0", b"1", b"2"]
    assert len(waiting) == 6


def test_at_100_percent_the_oldest_go_and_trades_last() -> None:
    waiting = queue(Limits(records=10))
    for kind in ["trade", "bar"] + ["trade"] * 8:
        waiting.add(message("md.events", f"md.events.{kind}.BTCUSDT", b"x"))
    assert dict(waiting.dropped) == {OTHER: 1}
    waiting.add(message("md.events", "md.events.status.BTCUSDT", b"x"))
    assert dict(waiting.dropped) == {OTHER: 1, TRADE: 1}
