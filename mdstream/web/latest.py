"""The core worker's pages: latest prices of every instrument, whichever worker is asked."""

from __future__ import annotations

import asyncio
from importlib import resources
from typing import Any

import aiohttp
import msgspec
from faust.exceptions import SameNode
from faust.web import Request, Response, View
from faust.web.exceptions import ServiceUnavailable

from mdstream.app import App

PEER_LIMIT_S = 3.0

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
        return self.html(resources.files("mdstream.web").joinpath("latest.html").read_text())

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
        symbols = {key.decode(): of(key) for key in {*trades, *quotes}}
        missing: list[str] = []
        if "local" not in request.query:
            peers = [url for url in app.router.tables_metadata() if _address(url) != _address(app.conf.canonical_url)]
            for url, answer in zip(peers, await asyncio.gather(*(_ask(app, url) for url in peers)), strict=True):
                if answer is None:
                    missing.append(str(url))
                else:
                    symbols |= answer
        return self.json({"symbols": dict(sorted(symbols.items())), "unreachable": missing})


async def _ask(app: App, url: Any) -> dict[str, Any] | None:
    """The latest prices that another worker owns; None where it does not answer."""
    try:
        async with (
            asyncio.timeout(PEER_LIMIT_S),
            app.http_client.get(f"{str(url).rstrip('/')}/latest/?local=1") as response,
        ):
            said: dict[str, Any] = (await response.json())["symbols"]
            return said
    except (aiohttp.ClientError, TimeoutError, KeyError, ValueError):
        return None


def _address(url: Any) -> str:
    return str(url).rstrip("/").rpartition("//")[2]
