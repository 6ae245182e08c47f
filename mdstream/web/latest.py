"""The core worker's pages: any worker returns the latest prices of every instrument."""

from __future__ import annotations

from typing import Any

import msgspec
from faust.web import Request, Response, View

from mdstream.app import App
from mdstream.kafka.publisher import Partitioner
from mdstream.web.pages import page
from mdstream.web.paging import Window
from mdstream.web.peers import ask_owner, ask_peers

Table = Any


def attach(app: App, trades: Table, quotes: Table) -> None:
    """Pages `/`, `/latest?symbol=S` and `/latest/`."""
    partition_of = Partitioner(app.settings.partitions)

    def of(symbol: str) -> dict[str, Any]:
        trade, quote = trades.get(symbol.encode()), quotes.get(symbol.encode())
        return {
            "symbol": symbol,
            "trade": trade and msgspec.json.decode(trade),
            "quote": quote and msgspec.json.decode(quote),
        }

    @app.page("/", name="index")
    async def index(self: View, request: Request) -> Response:  # noqa: ARG001  the signature is Faust's
        html = page("latest")
        return self.html(html.text, headers=html.headers)

    @app.page("/latest", name="latest")
    async def latest(self: View, request: Request) -> Response:
        symbol = request.query.get("symbol", "").strip().upper()
        if not symbol:
            return self.json({"error": "which instrument? ask /latest?symbol=BTCUSDT, or /latest/ for all"}, status=400)
        if "local" not in request.query:
            partition = partition_of(symbol.encode("utf-8", "replace"))
            if (answer := await ask_owner(app, "/latest", symbol, partition)) is not None:
                return self.json(answer.value, status=answer.status)
        found = of(symbol)
        known = found["trade"] or found["quote"]
        return self.json(found if known else {"error": f"nothing is known of {symbol}"}, status=200 if known else 404)

    @app.page("/latest/", name="latest_all")
    async def latest_all(self: View, request: Request) -> Response:
        try:
            window = Window.of(request.query)
        except ValueError as error:
            return self.json({"error": str(error)}, status=400)
        mine, more = window.cut({key.decode(): key for key in {*trades, *quotes}})
        symbols, missing = {symbol: of(symbol) for symbol in mine}, list[str]()
        if "local" not in request.query:
            others, missing = await ask_peers(app, f"/latest/?{window.of_one_worker()}", "symbols")
            symbols |= others
        shown, following = window.cut(symbols)
        return self.json({"symbols": shown, "next": following or more, "unreachable": missing})
