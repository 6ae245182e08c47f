"""The page /feeds: which source each instrument follows, and why. Browsers get HTML, other clients JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from faust.web import Request, Response, View

from mdstream.app import App
from mdstream.web.pages import page
from mdstream.web.paging import Window
from mdstream.web.peers import ask_peers


def attach(app: App, feeds: Callable[[], dict[str, Any]]) -> None:
    """Declare the page; `feeds` returns the instruments that this worker owns."""

    async def one(view: View, symbol: str, *, local: bool) -> Response:
        found, missing = {name: feed for name, feed in feeds().items() if name == symbol}, list[str]()
        if local:
            return view.json({"feeds": found})
        if not found:
            found, missing = await ask_peers(app, f"/feeds?{urlencode({'local': 1, 'symbol': symbol})}", "feeds")
        if symbol in found:
            return view.json(found[symbol])
        return view.json({"error": f"nothing is known of {symbol}", "unreachable": missing}, status=404)

    @app.page("/feeds", name="feeds")
    async def feeds_page(self: View, request: Request) -> Response:
        if "text/html" in request.headers.get("Accept", "") and not request.query:
            html = page("feeds")
            return self.html(html.text, headers=html.headers)
        local = "local" in request.query
        if symbol := request.query.get("symbol", "").strip().upper():
            return await one(self, symbol, local=local)
        try:
            window = Window.of(request.query)
        except ValueError as error:
            return self.json({"error": str(error)}, status=400)
        found, missing = feeds(), list[str]()
        if not local:
            others, missing = await ask_peers(app, f"/feeds?{window.of_one_worker()}", "feeds")
            found |= others
        shown, following = window.cut(found)
        return self.json({"feeds": shown, "next": following, "unreachable": missing})
