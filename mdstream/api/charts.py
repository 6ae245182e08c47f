"""/udf over HTTP: TradingView's charting library, and other clients of its protocol, open our bars (udf.py)."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from mdstream.api import udf
from mdstream.api.history import LOOK_BACK_US, QueryError, moment
from mdstream.api.store import Store
from mdstream.api.symbols import SymbolList
from mdstream.api.udf import Resolutions
from mdstream.db.schema import OWN_BARS
from mdstream.errors import DatabaseError

NO_DATABASE = "the database is busy or does not answer"


class Charts:
    """Answers the questions of charts."""

    def __init__(self, store: Store, symbols: SymbolList, resolutions: Resolutions) -> None:
        self._store, self.symbols, self.resolutions = store, symbols, resolutions

    async def bars(self, request: Request) -> dict[str, Any]:
        """The answer of /history. Raises QueryError, DatabaseError."""
        asked = udf.bars_of(dict(request.query_params), self.resolutions)
        found = await self._store.ask(udf.BARS, asked.values)
        return udf.answer_of(found, () if found else await self._store.ask(udf.BEFORE, asked.before))

    async def symbol(self, name: str) -> dict[str, Any]:
        """The answer of /symbols. Raises QueryError, DatabaseError."""
        symbol = udf.symbol_of_name(name)
        if symbol not in await self.symbols.read():
            raise QueryError("unknown_symbol")
        now_us = time.time_ns() // 1000
        values = {
            "exchange": OWN_BARS,
            "symbol": symbol,
            "from": moment(now_us - LOOK_BACK_US),
            "to": moment(now_us),
        }
        interval = next(iter(self.resolutions.intervals.values()), "")
        closes = await self._store.ask(udf.CLOSES, values | {"interval": interval})
        return udf.symbol_of(symbol, closes, self.resolutions)


def router_of(charts: Charts) -> APIRouter:
    """The paths of UDF."""
    router = APIRouter(prefix="/udf", tags=["charts"])

    @router.get("/config", summary="What this server offers")
    async def config() -> JSONResponse:
        return JSONResponse(charts.resolutions.config())

    @router.get("/time", summary="Our time, in seconds since 1970")
    async def now() -> PlainTextResponse:
        return PlainTextResponse(str(int(time.time())))

    @router.get("/symbols", summary="What is known of a symbol")
    async def symbols(symbol: str = "") -> JSONResponse:
        try:
            return JSONResponse(await charts.symbol(symbol))
        except QueryError as error:
            return JSONResponse(udf.error_of(error))
        except DatabaseError:
            return JSONResponse(udf.error_of(NO_DATABASE))

    @router.get("/search", summary="Symbols that contain a text")
    async def search(query: str = "", limit: int = 30) -> JSONResponse:
        try:
            return JSONResponse(udf.search_of(await charts.symbols.read(), query, max(0, min(limit, udf.MAX_FOUND))))
        except DatabaseError:
            return JSONResponse(udf.error_of(NO_DATABASE))

    @router.get("/history", summary="Bars: symbol, resolution, from, to, countback")
    async def history(request: Request) -> Response:
        try:
            return Response(msgspec.json.encode(await charts.bars(request)), media_type="application/json")
        except QueryError as error:
            return JSONResponse(udf.error_of(error))
        except DatabaseError:
            return JSONResponse(udf.error_of(NO_DATABASE))

    return router
