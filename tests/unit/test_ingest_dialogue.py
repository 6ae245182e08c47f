"""A dialogue on a link in memory: what is read, counted and logged, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from mdstream.errors import LinkError
from mdstream.ingest.backlog import Backlog
from mdstream.ingest.dialogue import Dialogue
from mdstream.ingest.freshness import Freshness
from mdstream.ingest.intake import Intake
from mdstream.ingest.links.link import MAX_SIZE_BYTES
from mdstream.ingest.links.queue import QueueLink
from mdstream.trading_hours import TradingHours, TradingSession
from mdstream.venues.feed import Provider
from mdstream.venues.okx.feed import Okx
from mdstream.venues.providers import provider
from mdstream.venues.session import Close, Fatal, Session

TRADE = (
    b'{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"tradeId":"1","px":"1","sz":"1","side":"buy","ts":"1"}]}'
)
ERROR = b'{"event":"error","code":"60018","msg":"Wrong URL or channel:trades,instId:BTC-USDT doesn\'t exist."}'
NOTICE = b'{"event":"notice","code":"1","msg":"maintenance on Sunday"}'
SHUTDOWN = b'{"event":"notice","code":"64008","msg":"closing soon"}'


class Harness:
    """OKX at the other end of a queue."""

    def __init__(self, venue: Provider | None = None) -> None:
        venue = venue or provider("okx")
        self.backlog = Backlog(1)
        self.link = QueueLink()
        self.session = Session(venue, ["BTCUSDT"], {})
        self.changes: list[bool] = []
        self.venue, self.intake = venue, Intake(venue, self.backlog, {"crypto": range(1)})
        self.counters = self.intake.counters
        self.dialogue = self.dialogue_on(self.link, Freshness(["BTCUSDT"], 0))

    def dialogue_on(self, link: QueueLink, freshness: Freshness) -> Dialogue:
        return Dialogue(link, self.session, self.venue, self.intake, freshness, lambda: self.changes.append(True))

    async def run(self, *frames: bytes, end: LinkError | None = None) -> Close | Fatal:
        """The whole dialogue over `frames`; with `end` the link ends behind them, else somebody else has to end it."""
        for frame in frames:
            self.link.put(frame)
        if end is not None:
            self.link.end(end)
        return await asyncio.wait_for(self.dialogue.run(), 30)


async def test_every_frame_is_taken_before_the_link_ends() -> None:
    """Data and answers alike, as they came; the reason is the link's."""
    harness = Harness()
    frames = [TRADE, b"pong", b"<html>", TRADE]
    assert await harness.run(*frames, end=LinkError("gone")) == Close("gone")
    assert [value for _, value, _, _ in harness.backlog.take(0, 1 << 20)[0]] == frames
    assert harness.dialogue.data_frames == 2


async def test_records_of_one_connection_say_so() -> None:
    """By when it was opened: a frame of another connection has another header `c`."""
    seen = []
    for _ in range(2):
        harness = Harness()
        before_ns = time.time_ns()
        await harness.run(TRADE, b"pong", end=LinkError("gone"))
        connections = {dict(headers)["c"] for *_, headers in harness.backlog.take(0, 1 << 20)[0]}
        assert before_ns <= int.from_bytes(next(iter(connections)), "big") <= time.time_ns()
        seen.append(connections)
    assert len(seen[0]) == len(seen[1]) == 1
    assert seen[0] != seen[1]


class Halving(Okx):
    """A venue that sends two of OKX's frames in one."""

    name = "halving"
    shares_frames = True

    def split(self, frame: bytes) -> Sequence[bytes]:
        return frame.split(b"\n")


async def test_each_part_of_a_shared_frame_is_a_record() -> None:
    """With the frame's number in its connection, under the part's own key; answers reach the session, too."""
    harness = Harness(Halving())
    other = TRADE.replace(b"BTC-USDT", b"ETH-USDT")
    await harness.run(TRADE + b"\n" + other, ERROR + b"\n" + TRADE, end=LinkError("gone"))
    records = harness.backlog.take(0, 1 << 20)[0]
    assert [(key, value) for key, value, *_ in records] == [
        (b"BTCUSDT", TRADE),
        (b"ETHUSDT", other),
        (b"halving", ERROR),
        (b"BTCUSDT", TRADE),
    ]
    assert [int.from_bytes(dict(headers)["f"], "big") for *_, headers in records] == [0, 0, 1, 1]
    assert harness.dialogue.data_frames == 3
    assert harness.counters.venue_errors == 1


@pytest.mark.parametrize(
    ("frame", "counted", "logged"),
    [
        (ERROR, {"venue_errors", "rejected_subscriptions"}, "okx answered with an error: code 60018: Wrong URL"),
        (NOTICE, {"venue_notices"}, "okx announced: notice 1 maintenance on Sunday"),
        (b"<html>", {"not_understood"}, "okx sent a frame that is not understood"),
        (b'{"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"}}', set(), None),
        (b"pong", set(), None),
    ],
)
async def test_what_the_venue_says_is_counted_and_logged(
    frame: bytes, counted: set[str], logged: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A rejected subscription is logged at once; acks and pongs are not."""
    harness = Harness()
    await harness.run(frame, end=LinkError("gone"))
    names = ("venue_errors", "venue_notices", "not_understood", "rejected_subscriptions", "missing_subscriptions")
    assert {name for name in names if getattr(harness.counters, name)} == counted
    assert (logged or "") in caplog.text
    assert bool(caplog.text) == bool(logged)


async def test_a_venue_that_repeats_itself_does_not_fill_the_disk(caplog: pytest.LogCaptureFixture) -> None:
    """Fifty lines of a connection, and one that says so; every error is counted all the same."""
    harness = Harness()
    await harness.run(*[ERROR] * 1_000, end=LinkError("gone"))
    assert harness.counters.venue_errors == 1_000
    assert len(caplog.records) == 51
    assert "further lines of this connection are left out" in caplog.records[-1].message


async def test_an_announced_shutdown_asks_for_another_link() -> None:
    """This one goes on meanwhile, and every frame of it is taken."""
    harness = Harness()
    running = asyncio.create_task(harness.run(TRADE, SHUTDOWN, TRADE, SHUTDOWN))
    await asyncio.wait_for(harness.dialogue.replacing.wait(), 30)
    harness.link.put(TRADE)
    harness.link.end(LinkError("gone"))
    assert await running == Close("gone")
    assert harness.dialogue.data_frames == 3
    assert harness.changes == [True], "all requests had been sent"


class Silent(Okx):
    """With little patience."""

    silence_s = 0.1


async def test_the_session_ends_the_link() -> None:
    """A link without a frame is closed for that reason."""
    harness = Harness(Silent())
    assert await harness.run(TRADE) == Close("no frame for 0.1 s", "silence")
    assert harness.counters.silences == 1
    assert harness.dialogue.data_frames == 1


class Closed(TradingHours):
    """Those of a market that never opens."""

    def at(self, ts_ns: int) -> TradingSession:
        return TradingSession("closed", 0, ts_ns + 1)


class Pinged(QueueLink):
    """A link whose other end answers two pings, and then no more."""

    pings = 0

    async def answers(self) -> bool:
        self.pings += 1
        return self.pings <= 2


async def test_a_silent_link_stays_at_night_while_the_other_end_answers() -> None:
    """A connection that does not answer is dead, whatever the hour."""
    harness = Harness(Silent())
    link = harness.link = Pinged()
    freshness = Freshness(["BTCUSDT"], 0, lambda _: Closed())
    freshness.step(1.0, {}, 0)
    harness.dialogue = harness.dialogue_on(link, freshness)
    assert await harness.run(TRADE) == Close("no frame for 0.1 s", "silence")
    assert (link.pings, harness.counters.silences) == (3, 1)


async def test_a_frame_above_the_limit_is_counted() -> None:
    """It ends the connection; the next one has a chance."""
    harness = Harness()
    await harness.run(b"x" * (MAX_SIZE_BYTES + 1))
    assert harness.counters.oversized == 1
