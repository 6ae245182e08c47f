"""mdstream/ingest/feed.py and mdstream/rest/client.py: how they report an address that holds secrets."""

from __future__ import annotations

import asyncio
import json

import pytest
from processes import free_port

from mdstream.errors import FeedError, SettingsError
from mdstream.ingest.backlog import Backlog
from mdstream.ingest.feed import Feed, feed_url
from mdstream.ingest.intake import Intake
from mdstream.rest.client import Client, new_session
from mdstream.venues.providers import provider
from mdstream.venues.rest import RetryableError


@pytest.mark.parametrize(
    "address",
    [
        "ws://user:secret-1@127.0.0.1:{port}/ws?apikey=secret-2",  # no server listens there
        "ws://user:secret-1@/ws?apikey=secret-2",  # the library quotes it: isn't a valid URI
        "ws://user:secret-1@127.0.0.1:{port}/ws?apikey=secret-2#fragment",
    ],
)
async def test_a_feed_that_cannot_connect_keeps_its_secrets(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its reason is logged, shown on /health, and written to md.status, which every sink stores."""
    backlog = Backlog(1)
    intake = Intake(provider("okx"), backlog, {"crypto": range(1)})
    feed = Feed(provider("okx"), ["BTCUSDT"], intake, {"OKX_WS_URL": address.format(port=free_port())}, max_attempts=1)
    with caplog.at_level("INFO"), pytest.raises(FeedError) as given_up:
        await asyncio.wait_for(feed.run(), 20)
    records = backlog.take(0, 1 << 20)[0]
    reported = [json.loads(value or b"")["reason"] for _, value, _, _ in records]
    message = "\n".join([str(given_up.value), str(feed.reason), *reported, *caplog.messages])
    assert "secret" not in message
    assert reported
    assert all("/ws?apikey=***" in reason for reason in reported), "which address it was still has to be clear"


@pytest.mark.parametrize("address", ["http://user:secret@x/?k=secret", "ws://x/?k=secret secret", "ws://x/?k=\nsecret"])
def test_an_address_that_is_no_websocket_is_refused_without_its_secrets(address: str) -> None:
    """The message ends on a terminal, and in logs."""
    with pytest.raises(SettingsError, match="OKX_WS_URL=") as caught:
        feed_url(provider("okx"), {"OKX_WS_URL": address})
    assert "secret" not in str(caught.value)


async def test_a_rest_interface_that_cannot_be_reached_keeps_its_secrets() -> None:
    """Its trouble is logged, and shown on /health of the repair."""
    async with new_session() as session:
        client = Client(session, f"http://user:secret@127.0.0.1:{free_port()}/api", variable="OKX_API_BASE_URL")
        found = await client.get("/trades?key=secret")
        with pytest.raises(SettingsError, match="OKX_API_BASE_URL=") as caught:
            Client(session, "ftp://user:secret@host?key=secret", variable="OKX_API_BASE_URL")
    assert isinstance(found, RetryableError)
    assert "/api cannot be reached" in found.reason
    assert "secret" not in found.reason + str(caught.value)
