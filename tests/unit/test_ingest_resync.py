"""Which events make an ingestor subscribe again, and how often."""

from __future__ import annotations

from typing import cast

import pytest

from mdstream import events
from mdstream.events import FeedStatus
from mdstream.ingest.feed import Feed
from mdstream.ingest.resync import RESYNC_S, Resync
from mdstream.venues.providers import provider

LOST = FeedStatus("BTCUSD", "coinbase", "book_lost", "a frame of it could not be understood", 1)


class Feeds:
    """A feed of Coinbase that notes what it is asked for."""

    provider = provider("coinbase")
    symbols = ("BTCUSD",)

    def __init__(self) -> None:
        self.changes: list[tuple[list[str], list[str]]] = []
        self.desk = Resync([cast("Feed", self)])

    async def change(self, *, add: list[str], remove: list[str]) -> None:
        self.changes.append((add, remove))


async def test_lost_book_is_subscribed_to_again_once_in_a_while() -> None:
    """A loss within the interval is not forgotten: the snapshot itself may have been lost."""
    feeds = Feeds()
    for at_s in (0.0, 1.0, RESYNC_S - 0.1, RESYNC_S, 100.0):
        if at_s < RESYNC_S:
            feeds.desk.take(events.encode(LOST))
        await feeds.desk.subscribe_again(at_s)
        expected = 1 if at_s < RESYNC_S else 2
        assert feeds.changes == [(["BTCUSD"], ["BTCUSD"])] * expected


@pytest.mark.parametrize(
    "value",
    [
        events.encode(FeedStatus("BTCUSD", "okx", "book_lost", None, 1)),
        events.encode(FeedStatus("ETHUSD", "coinbase", "book_lost", None, 1)),
        events.encode(FeedStatus("BTCUSD", "coinbase", "seq_reset", None, 1)),
        b"not json",
        b"7",
    ],
)
async def test_other_events_are_passed_over(value: bytes) -> None:
    """Of other providers, of instruments that are not read, of other kinds; and what is no event."""
    feeds = Feeds()
    feeds.desk.take(value)
    await feeds.desk.subscribe_again(0.0)
    assert feeds.changes == []
