"""Live events over websockets, at the paths of streams.py: each message is an event's JSON as on the topic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection

from fastapi import APIRouter
from fastapi.security.utils import get_authorization_scheme_param
from starlette.websockets import WebSocket, WebSocketDisconnect

from mdstream.api.history import QueryError
from mdstream.api.keys import Keys
from mdstream.api.live import Asked, Item, asked_of, text
from mdstream.api.routes import refused
from mdstream.api.streams import Live, RefusedError
from mdstream.api.webhook import Refusal
from mdstream.client.kinds import KINDS
from mdstream.errors import SettingsError

FOREIGN = Refusal(403, "a page of another site: name it in MDSTREAM_API_ORIGINS")
RESTART, FAILED = 1012, 1011
"""Why we close: the process ends; the stream cannot go on."""


class Sockets:
    """Serves one client after the other. `origins`: sites whose pages may read besides our own."""

    def __init__(self, live: Live, keys: Keys, origins: Collection[str]) -> None:
        self._live, self._keys, self._origins = live, keys, origins

    async def serve(self, socket: WebSocket, kind: str) -> None:
        """From the request to the end of its stream."""
        try:
            async with self._live.items(self._admit(socket, kind)) as items:
                await socket.accept()
                await _either(_send(socket, items), _gone(socket))
        except RefusedError as error:
            await socket.send_denial_response(refused(error.refusal))
        except WebSocketDisconnect:
            pass

    def _admit(self, socket: WebSocket, kind: str) -> Asked:
        """Raises RefusedError. Browsers let the pages of any site connect, and only say which one it is."""
        headers = socket.headers
        origin = headers.get("Origin")
        if origin is not None and not self._is_ours(origin, headers.get("Host", "")):
            raise RefusedError(FOREIGN)
        scheme, key = get_authorization_scheme_param(headers.get("Authorization"))
        refusal = self._keys.admit(key if scheme.lower() == "bearer" else "", time.monotonic())
        if refusal is not None:
            raise RefusedError(refusal)
        try:
            return asked_of(kind, socket.query_params.multi_items(), headers.get("Last-Event-ID", ""))
        except (QueryError, SettingsError) as error:
            raise RefusedError(Refusal(400, str(error))) from None

    def _is_ours(self, origin: str, host: str) -> bool:
        return origin.partition("://")[2] == host or origin in self._origins or "*" in self._origins


async def _send(socket: WebSocket, chunks: AsyncIterator[list[Item]]) -> None:
    """Everything that has data, then why it ends."""
    last = Item()
    async for items in chunks:
        for last in items:
            if last.data:
                await socket.send_text(text(last).decode("utf-8", "replace"))
    await socket.close(FAILED if last.name == "failure" else RESTART)


async def _gone(socket: WebSocket) -> None:
    """Return when the client is gone; what it says is not read."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _either(*ways: Awaitable[None]) -> None:
    """Wait for the first of them, and end the others. Raises what one of them raised."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def router_of(sockets: Sockets) -> APIRouter:
    """The paths of the websockets."""
    router = APIRouter(prefix="/v1/stream")
    for kind in KINDS:
        router.add_api_websocket_route(f"/{kind}", _endpoint(sockets, kind), name=f"socket_{kind}")
    return router


def _endpoint(sockets: Sockets, kind: str) -> Callable[[WebSocket], Awaitable[None]]:
    async def answer(websocket: WebSocket) -> None:
        await sockets.serve(websocket, kind)

    return answer
