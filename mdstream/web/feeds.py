"""The page /feeds: which source each instrument follows, and why. A browser gets a page, everybody else JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faust.web import Request, Response, View

from mdstream.app import App
from mdstream.web.pages import page
from mdstream.web.peers import ask_peers


def attach(app: App, feeds: Callable[[], dict[str, Any]]) -> None:
    """Declare the page; `feeds` gives the instruments that this worker owns."""

    @app.page("/feeds", name="feeds")
    async def feeds_page(self: View, request: Request) -> Response:
        if "text/html" in request.headers.get("Accept", "") and not request.query:
            return self.html(page("feeds"))
        found, missing = feeds(), list[str]()
        if "local" not in request.query:
            others, missing = await ask_peers(app, "/feeds?local=1", "feeds")
            found |= others
        symbol = request.query.get("symbol", "").strip().upper()
        if not symbol:
            return self.json({"feeds": dict(sorted(found.items())), "unreachable": missing})
        if symbol not in found:
            return self.json({"error": f"nothing is known of {symbol}", "unreachable": missing}, status=404)
        return self.json(found[symbol])
