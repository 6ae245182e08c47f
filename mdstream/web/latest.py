"""The core worker's pages: latest prices of every instrument, whichever worker is asked."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec
from faust.exceptions import SameNode
from faust.web import Request, Response, View
from faust.web.exceptions import ServiceUnavailable

from mdstream.app import App
from mdstream.web.pages import page
from mdstream.web.peers import ask_peers

Table = Any


def attach(app: App, trades: Table, quotes: Table) -> None:
    """Pages `/`, `/latest?symbol=S` and `/latest/`."""

    def of(key: bytes) -> dict[str, Any]:
        trade, quote = trades.get(key), quotes.get(key)
        return {
            "symbol": key.decode(),
            "trade": trade and msgspec.json.decode(trade),
            "quote": quote and msgspec.json.decode(quote),
        }

    @app.page("/", name="index")
    async def index(self: View, request: Request) -> Response:  # noqa: ARG001  the signature is Faust's
        return self.html(page("latest"))

    @app.page("/latest", name="latest")
    async def latest(self: View, request: Request) -> Response:
        symbol = request.query.get("symbol", "").strip().upper()
        if not symbol:
            return self.json({"error": "which instrument? ask /latest?symbol=BTCUSDT, or /latest/ for all"}, status=400)
        try:
            return await app.router.route_req(trades.name, symbol.encode(), self.web, request)
        except SameNode:
            found = of(symbol.encode())
            known = found["trade"] or found["quote"]
            return self.json(
                found if known else {"error": f"nothing is known of {symbol}"}, status=200 if known else 404
            )
        except (ServiceUnavailable, aiohttp.ClientError, TimeoutError) as error:
            return self.json({"error": f"the worker that owns {symbol} cannot be asked now: {error!r}"}, status=503)

    @app.page("/latest/", name="latest_all")
    async def latest_all(self: View, request: Request) -> Response:
        symbols, missing = {key.decode(): of(key) for key in {*trades, *quotes}}, list[str]()
        if "local" not in request.query:
            others, missing = await ask_peers(app, "/latest/?local=1", "symbols")
            symbols |= others
        return self.json({"symbols": dict(sorted(symbols.items())), "unreachable": missing})
