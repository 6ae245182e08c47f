"""Live events over HTTP, /v1/stream/KIND, as server-sent events; sockets.py has them as websockets.

md.KIND ─ a reader for each client ─> chunks of records ─> items with ids (live.py) ─> text/event-stream

A client pulls: a reader fetches no more until what it has read is sent. What a client does not read waits in Kafka.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from mdstream.api.history import QueryError
from mdstream.api.live import HEARTBEAT, MAX_SYMBOLS, Asked, Item, asked_of, failure_of, hole_of, place, sse
from mdstream.api.routes import refused
from mdstream.api.webhook import Refusal
from mdstream.client.kinds import KINDS
from mdstream.client.numbers import Hole
from mdstream.client.stream import Stream
from mdstream.config import Settings
from mdstream.errors import MdstreamError, SettingsError

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
START_LIMIT_S = 20.0
"""To connect to Kafka and find the start."""

NO_ROOM = Refusal(503, "as many streams as are allowed are open", 5)
NO_KAFKA = Refusal(503, "Kafka does not answer", 1)

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events, until either side ends it.", "content": {"text/event-stream": {}}},
    400: {"description": "The error says what to change."},
    503: {"description": "Kafka does not answer, or too many streams are open."},
}
PARAMETERS = {
    "symbol": f"one or several, with commas or repeated, at most {MAX_SYMBOLS}",
    "start": "latest, the default; earliest; a time or an age like 15m; of one symbol a seq, not of bars",
    "interval": "of bars, like 1m; by default all",
}


class RefusedError(Exception):
    """A stream that does not begin."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


class Live:
    """The streams of one process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = False
        self._starts: set[asyncio.Timeout] = set()
        self.open = 0

    def stop(self) -> None:
        """End them all, soon; those that have not begun, too."""
        self._stopping = True
        for limit in self._starts:
            if not limit.expired():
                limit.reschedule(0)

    @asynccontextmanager
    async def items(self, asked: Asked) -> AsyncIterator[AsyncIterator[list[Item]]]:
        """The items of a stream, in chunks; an empty one several times a second while there are none.

        Raises RefusedError.
        """
        if self.open >= self._settings.api.streams:
            raise RefusedError(NO_ROOM)
        self.open += 1
        try:
            async with aclosing(self._read(asked)) as items:
                yield _chain(await self._first(items), items)
        finally:
            self.open -= 1

    async def _first(self, items: AsyncIterator[list[Item]]) -> list[Item]:
        try:
            async with asyncio.timeout(START_LIMIT_S) as limit:
                self._starts.add(limit)
                try:
                    return await anext(items)
                finally:
                    self._starts.remove(limit)
        except SettingsError as error:
            raise RefusedError(Refusal(400, str(error))) from None
        except (MdstreamError, TimeoutError) as error:  # where Kafka is, and what it said, is for /health
            log.warning("a stream could not begin: %s", error)
            raise RefusedError(NO_KAFKA) from None

    async def _read(self, asked: Asked) -> AsyncGenerator[list[Item], None]:
        holes: list[Hole] = []
        places: dict[int, int] = {}
        stream: Stream[Any] = Stream(
            asked.kind,
            asked.symbols,
            start=asked.start,
            follow=True,
            on_hole=holes.append,
            interval=asked.interval,
            settings=self._settings,
        )
        items: list[Item] = []
        began = False
        try:
            async with aclosing(stream.records(places)) as chunks:
                async for records in chunks:
                    if self._stopping:
                        return
                    if not began:
                        began = True
                        items.append(Item(place(places)))
                    for record, event in records:
                        items += map(hole_of, holes)
                        holes.clear()
                        places[record.partition] = record.offset + 1
                        items.append(Item(str(event.seq) if asked.numbered else place(places), record.value or b""))
                    yield items
                    items = []
        except MdstreamError as error:
            if not began:
                raise
            log.warning("a stream ends: %s", error)
            yield [*items, failure_of(error)]


async def _chain(first: list[Item], rest: AsyncIterator[list[Item]]) -> AsyncIterator[list[Item]]:
    yield first
    async for items in rest:
        yield items


class _Events(Response):
    """An answer that goes on."""

    media_type = "text/event-stream"

    def __init__(self, live: Live, asked: Asked) -> None:
        super().__init__()
        self._live, self._asked = live, asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._live.items(self._asked) as items:
                # A proxy such as nginx would collect it.
                headers = {"X-Accel-Buffering": "no"}
                answer = StreamingResponse(_lines(items), media_type=self.media_type, headers=headers)
                await answer(scope, receive, send)
        except RefusedError as error:
            await refused(error.refusal)(scope, receive, send)


async def _lines(chunks: AsyncIterator[list[Item]]) -> AsyncIterator[bytes]:
    sent_s = time.monotonic()
    async for items in chunks:
        if items:
            yield b"".join(map(sse, items))
        elif time.monotonic() - sent_s >= HEARTBEAT_S:
            yield HEARTBEAT
        else:
            continue
        sent_s = time.monotonic()


def router_of(live: Live) -> APIRouter:
    """The paths of the streams."""
    router = APIRouter(prefix="/v1/stream", tags=["live"])
    for kind in KINDS:
        router.add_api_route(
            f"/{kind}",
            _endpoint(live, kind),
            name=f"stream_{kind}",
            summary=f"Live {kind}, as server-sent events",
            responses=ANSWERS,
            response_class=StreamingResponse,
            openapi_extra={"parameters": list(_described(kind))},
        )
    return router


def _endpoint(live: Live, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            last_id = request.headers.get("Last-Event-ID", "")
            return _Events(live, asked_of(kind, request.query_params.multi_items(), last_id))
        except (QueryError, SettingsError) as error:
            return JSONResponse({"error": str(error)}, 400)

    return answer


def _described(kind: str) -> Iterator[dict[str, Any]]:
    """The parameters as OpenAPI has them; live.py reads them."""
    for name, what in PARAMETERS.items():
        if name != "interval" or kind == "bars":
            required = name == "symbol"
            yield {"name": name, "in": "query", "required": required, "description": what, "schema": {"type": "string"}}
    yield {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "the id of the last event that came: go on behind it",
        "schema": {"type": "string"},
    }
