"""The HTTP client of a venue with a key: it goes to the venue, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from mdstream.rest.client import Client, new_session
from mdstream.venues.rest import Answer

KEY = {"X-Api-Key": "secret"}


class Venue:
    """A server that remembers the keys that it was shown, and sends /away to another one and quotes them at /denied."""

    def __init__(self, away: str = "") -> None:
        self.keys: list[str | None] = []
        self._away = away

    async def _answer(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("X-Api-Key"))
        if request.path == "/denied":
            return web.json_response({"error": f"Unknown key {self.keys[-1]}"}, status=401)
        if request.path == "/away":
            raise web.HTTPFound(self._away)
        return web.json_response([])

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        async with TestServer(application) as server:
            yield str(server.make_url("")).rstrip("/")


@pytest.mark.parametrize(("headers", "followed"), [(KEY, False), ({}, True)])
async def test_a_key_is_not_carried_to_another_address(headers: dict[str, str], followed: bool) -> None:
    """A redirect is an answer to judge; without a key it is followed."""
    other = Venue()
    async with other.serve() as elsewhere, Venue(f"{elsewhere}/x").serve() as address, new_session() as session:
        answer = await Client(session, address, variable="X", headers=headers).get("/away")
        assert isinstance(answer, Answer)
        assert answer.status == (200 if followed else 302)
    assert other.keys == ([None] if followed else [])


async def test_every_request_has_the_key() -> None:
    """As the settings have it."""
    venue = Venue()
    async with venue.serve() as address, new_session() as session:
        client = Client(session, address, variable="X", headers=KEY)
        for _ in range(2):
            assert isinstance(await client.get("/x"), Answer)
    assert venue.keys == ["secret"] * 2


@pytest.mark.parametrize("key", ["0123-secret", "Bearer 0123-secret"])
async def test_a_key_that_the_venue_quotes_in_an_error_is_not_in_the_answer(key: str) -> None:
    """Its text is logged, and shown."""
    async with Venue().serve() as address, new_session() as session:
        answer = await Client(session, address, variable="X", headers={"X-Api-Key": key}).get("/denied")
    assert isinstance(answer, Answer)
    assert b"Unknown key" in answer.body
    assert b"0123-secret" not in answer.body
