"""A feed of US stocks while their market is closed, over a real websocket: connected, silent, and left alone."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from mdstream.errors import FeedError
from mdstream.ingest.backlog import Backlog
from mdstream.ingest.feed import Feed
from mdstream.ingest.intake import Intake
from mdstream.records import HEARTBEAT, LAST_NS
from mdstream.trading_hours import US_STOCKS, TradingSession
from mdstream.venues.alpaca.feed import Alpaca

pytestmark = pytest.mark.system

SETTINGS = {"ALPACA_KEY": "key", "ALPACA_SECRET": "secret"}


class Alpaca20(Alpaca):
    """Alpaca, whose limit of ten minutes without a frame is a fifth of a second."""

    silence_s = 0.2


async def answer(client: ServerConnection) -> None:
    """The login and the subscription are answered, as at any hour; then nothing comes."""
    await client.send('[{"T":"success","msg":"connected"}]')
    await client.recv()
    await client.send('[{"T":"success","msg":"authenticated"}]')
    await client.recv()
    await client.send('[{"T":"subscription","trades":["AAPL"],"quotes":["AAPL"]}]')
    await client.wait_closed()


def heartbeats(backlog: Backlog) -> list[dict[str, Any]]:
    records = backlog.take(0, 1 << 20)[0]
    return [json.loads(value or b"") for _, value, _, headers in records if dict(headers)["k"] == HEARTBEAT]


@pytest.mark.parametrize(("name", "stays"), [("closed", True), ("pre", True), ("regular", False)])
async def test_a_silent_feed_is_left_alone_unless_its_market_is_in_its_regular_session(
    name: Any, stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fifth of a second the venue is pinged at night; in the regular session the connection is given up."""
    monkeypatch.setattr(US_STOCKS, "_last", TradingSession(name, 0, LAST_NS))
    backlog = Backlog(1)
    intake = Intake(Alpaca20(), backlog, {"equities": range(1)})
    async with serve(answer, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        monkeypatch.setattr(Alpaca20, "default_url", url)
        feed = Feed(Alpaca20(), ["AAPL"], intake, SETTINGS, max_attempts=1)
        (connection,) = feed._connections
        connection.freshness.step(0.0, {}, 0, 1)  # else it is asked for the first time after a second
        running = asyncio.ensure_future(feed.run())
        if stays:
            async with asyncio.timeout(60):
                while feed.state != "connected":  # noqa: ASYNC110  the state is a plain field
                    await asyncio.sleep(0.01)
            await asyncio.sleep(2.0)
            feed.add_heartbeat()
            assert (feed.state, feed.problem, feed.closed) == ("connected", None, name == "closed")
            assert heartbeats(backlog)[-1].get("closed") == (True if name == "closed" else None)
            assert (intake.counters.silences, intake.counters.connections) == (0, 1)
            await feed.close()
            await running
        else:
            with suppress(FeedError):
                await asyncio.wait_for(running, 60)
            assert feed.reason == "no frame for 0.2 s"
            assert intake.counters.silences == 1
