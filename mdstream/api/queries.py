"""The stored events over HTTP: /v1/trades, /v1/quotes, /v1/bars, /v1/gaps, a page at a time, as JSON, CSV or Arrow.

A page is built in pieces: a large one takes a tenth of a second, and others have their turn in between.
"""

from __future__ import annotations

import asyncio
import csv
import io
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from mdstream.api import arrow
from mdstream.api.history import DEFAULT_ROWS, KINDS, MAX_ROWS, Kind, Page, QueryError, once, page_of, query_of
from mdstream.api.store import PIECE, Store
from mdstream.api.symbols import SymbolList
from mdstream.client.extras import needed
from mdstream.errors import DatabaseError, SettingsError, TooSlowError

JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "`rows`, and in `next` the cursor for those behind them; else it is in the header X-Next."},
    400: {"description": "The error says what to change: a symbol, a shorter stretch of time."},
    406: {"description": "Neither JSON, CSV nor Arrow will do, or the server has no pyarrow."},
    503: {"description": "The database does not answer."},
}

_QUALITY = re.compile(r";\s*q=([01](?:\.[0-9]{0,3})?)\s*(?:;|$)", re.IGNORECASE)

PARAMETERS = {
    "symbol": "the canonical symbol, like BTCUSDT",
    "interval": "length of the bars, like 1m, the default",
    "from": "the first time: RFC 3339 in UTC, or ns since 1970; by default a day before `to`",
    "to": "the first time behind the rows; by default now",
    "limit": f"rows of a page, 1 to {MAX_ROWS}; by default {DEFAULT_ROWS}",
    "cursor": "`next` of the page before",
}


async def page(store: Store, name: str, request: Request) -> Response:
    """A page of the events of a kind, in the form that the request accepts."""
    form = accepted(",".join(request.headers.getlist("Accept")))
    if form is None:
        return JSONResponse({"error": f"expected Accept: {JSON}, {CSV} or {ARROW}"}, 406)
    try:
        if form == ARROW:
            await asyncio.to_thread(needed, "pyarrow", "arrow")  # the first time takes half a second
        query = query_of(name, once(request.query_params.multi_items()), time.time_ns() // 1000)
        found = page_of(query, await store.ask(query.statement, query.values))
    except QueryError as error:
        return JSONResponse({"error": str(error)}, 400)
    except SettingsError as error:
        return JSONResponse({"error": f"{ARROW}: {error}"}, 406)
    except TooSlowError as error:
        if error.retriable:
            return _unavailable("the database is busy")
        return JSONResponse({"error": "the query took too long: narrow from and to, or lower the limit"}, 400)
    except DatabaseError:  # where it is, and what it said, is for /health
        return _unavailable("the database does not answer")
    headers = {"X-Next": found.cursor} if found.cursor else {}
    return Response(await joined(FORMS[form](found)), media_type=form, headers=headers)


def accepted(header: str) -> str | None:
    """The one of our forms that an Accept header likes best; None if it takes none (RFC 9110, section 12.5.1).

    Of those that it likes as much, the one it names more closely, then earlier.
    """
    ranges: dict[str, tuple[float, int]] = {}
    for place, part in enumerate((header.strip() or "*/*").split(",")):
        wanted, _, parameters = part.partition(";")
        quality = _QUALITY.search(f";{parameters}")
        ranges[wanted.strip().lower()] = float(quality[1]) if quality else 1.0, -place

    def liking(form: str) -> tuple[float, int, int]:
        for closeness, each in enumerate((form, f"{form.partition('/')[0]}/*", "*/*")):
            if each in ranges:
                quality, place = ranges[each]
                return quality, -closeness, place
        return 0.0, 0, 0

    best = max(FORMS, key=liking)
    return best if liking(best)[0] else None


async def joined(parts: Iterator[bytes]) -> bytes:
    """The whole; others have their turn after each part."""
    made = bytearray()
    for part in parts:
        made += part
        await asyncio.sleep(0)
    return bytes(made)


def _json(page: Page) -> Iterator[bytes]:
    yield b'{"rows":['
    between = b""
    for rows in page.pieces(PIECE):
        yield between + msgspec.json.encode(rows)[1:-1]
        between = b","
    yield b'],"next":' + msgspec.json.encode(page.cursor) + b"}"


def _csv(page: Page) -> Iterator[bytes]:
    yield _lines([page.kind.columns])
    for rows in page.pieces(PIECE):
        yield _lines([_field(row[name]) for name in page.kind.columns] for row in rows)


def _lines(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _field(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else value


FORMS: dict[str, Callable[[Page], Iterator[bytes]]] = {
    JSON: _json,
    CSV: _csv,
    ARROW: lambda page: arrow.stream(page.kind, page.pieces(PIECE)),
}


def _unavailable(error: str) -> JSONResponse:
    return JSONResponse({"error": error}, 503, {"Retry-After": "1"})


def router_of(store: Store, symbols: SymbolList) -> APIRouter:
    """The paths of the history."""
    router = APIRouter(prefix="/v1", tags=["history"])

    @router.get("/symbols", summary="The symbols that have bars")
    async def listed() -> Response:
        try:
            return JSONResponse({"symbols": await symbols.read()})
        except DatabaseError:
            return _unavailable("the database does not answer")

    for name, kind in KINDS.items():
        router.add_api_route(
            f"/{name}",
            _endpoint(store, name),
            name=name,
            summary=f"{name.capitalize()} of a symbol, in the order of their times",
            responses=ANSWERS,
            openapi_extra={"parameters": list(_described(kind))},
        )
    return router


def _endpoint(store: Store, name: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await page(store, name, request)

    return answer


def _described(kind: Kind) -> Iterator[dict[str, Any]]:
    """The parameters as OpenAPI has them; history.py reads them, and says more of what is wrong."""
    for name, what in PARAMETERS.items():
        if name in kind.allowed:
            required = name == "symbol"
            yield {"name": name, "in": "query", "required": required, "description": what, "schema": {"type": "string"}}
