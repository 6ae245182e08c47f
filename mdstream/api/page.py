"""/chart: a page with a chart of a symbol's bars, which moves with the live streams (mdstream/web/chart/)."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from mdstream.web.pages import assets, page

CHART = "chart"
TYPES = {"js": "text/javascript; charset=utf-8", "LICENSE": "text/plain; charset=utf-8"}
"""By the end of the file's name."""


def router_of() -> APIRouter:
    """The page and what it loads. They need no key: the page asks for one where the streams do."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"/{CHART}")
    async def chart() -> Response:
        found = page(CHART)
        return HTMLResponse(found.text, headers=found.headers)

    @router.get(f"/{CHART}/{{name}}")
    async def asset(name: str) -> Response:
        content = assets(CHART).get(name)
        if content is None:
            return Response(status_code=404)
        return Response(content, media_type=TYPES[name.rpartition(".")[2]])

    return router
