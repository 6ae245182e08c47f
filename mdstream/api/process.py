"""The API process: start in order, run until told to stop, stop in reverse order.

raw topic there? ──> producer up? ──> HTTP port free? ──> requests are answered; the database is opened when it is asked
SIGTERM, SIGINT ──> streams end, requests under way are answered ──> producer down, database closed
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp

from mdstream import kafka
from mdstream.api import charts, health, page, queries, routes, sockets, streams
from mdstream.api.access import Access, networks
from mdstream.api.charts import Charts
from mdstream.api.guard import guard_of
from mdstream.api.health import ApiMetrics, Check, Health
from mdstream.api.keys import Keys
from mdstream.api.outbox import Outbox
from mdstream.api.routes import Direct, Webhook
from mdstream.api.server import serve
from mdstream.api.sockets import Sockets
from mdstream.api.store import Store
from mdstream.api.streams import Live
from mdstream.api.symbols import SymbolList
from mdstream.api.udf import Resolutions
from mdstream.api.webhook import SECOND_NS, Rates, Reader, Remembered
from mdstream.config import Settings
from mdstream.config.groups import secrets_in
from mdstream.db import connection as db
from mdstream.venues.past import Limits
from mdstream.venues.tradingview.feed import TradingView
from topics import Topic, Topics

log = logging.getLogger(__name__)

NO_WEBHOOK = (
    f"the webhook is off: its alerts are of the market {TradingView.market}, which MDSTREAM_MARKETS does not name"
)
NO_DATABASE = "there is no history: set MARKET_DATA_DATABASE_URL"


async def api(settings: Settings, *, port: int) -> None:
    """Serve until cancelled. Raises MdstreamError when it cannot start."""
    live, slow = Live(settings), Counter[str]()
    async with _reading(settings) as store, _receiving(settings) as webhook:
        app = application(settings, webhook, store, live, slow)
        async with serve(app, host=settings.http.host, port=port, slow=slow):
            log.info("http://%s:%d/docs shows what there is", settings.http.host, port)
            try:
                await (webhook.outbox.failed() if webhook else asyncio.Event().wait())
            finally:
                live.stop()


@asynccontextmanager
async def _reading(settings: Settings) -> AsyncIterator[Store | None]:
    """The database for the block; None if none is set."""
    store = Store(db.url_of(settings)) if settings.database.url else None
    if store is None:
        log.warning("%s", NO_DATABASE)
    try:
        yield store
    finally:
        if store is not None:
            await store.close()


@asynccontextmanager
async def _receiving(settings: Settings) -> AsyncIterator[Webhook | None]:
    """The webhook for the block, requests under way included; None where the market of its instruments is not.

    Another market's topic would not do: with both in the settings one day, a symbol would be numbered twice.
    """
    topic = Topics(settings).raw.get(TradingView.market)
    if topic is None:
        log.warning("%s", NO_WEBHOOK)
        yield None
        return
    webhook = webhook_of(settings, topic)
    if not (webhook.access.signing or webhook.access.paths):
        log.warning("no webhook is accepted: set TRADINGVIEW_HMAC_SECRET or TRADINGVIEW_PATH_SECRET")
    await kafka.create_topics(settings.bootstrap_servers, [topic], replication=settings.replication)
    await webhook.outbox.start()
    try:
        yield webhook
    finally:
        await webhook.outbox.stop()


def webhook_of(settings: Settings, topic: Topic) -> Webhook:
    """The webhook by the settings, whose alerts go to a raw topic."""
    own = settings.api
    window_ns = int(own.window_s * SECOND_NS)
    signing, paths = ([s.encode() for s in secrets_in(each)] for each in (own.signing_secrets, own.path_secrets))
    return Webhook(
        Access(tuple(signing), tuple(paths), networks(own.path_addresses)),
        _rates(own.requests_per_s),
        Reader(window_ns),
        Remembered(2 * window_ns),
        Outbox(settings, topic.name),
        networks(own.proxies),
        own.proxy_header,
    )


def keys_of(settings: Settings) -> Keys:
    """The keys of those who may read, by the settings."""
    return Keys(secrets_in(settings.api.keys), _rates(settings.api.key_requests_per_s))


def _rates(per_s: float) -> Rates:
    return Rates(Limits(per_s=per_s, burst=max(1.0, 2 * per_s)))


def application(
    settings: Settings, webhook: Webhook | None, store: Store | None, live: Live, slow: Mapping[str, int]
) -> ASGIApp:
    """Everything that answers, with its documentation at /docs. `slow`: that of `serve`."""
    answers = partial(kafka.partition_counts, settings.bootstrap_servers)
    checks: dict[str, Check] = {"kafka": webhook.outbox.check if webhook else answers}
    app = FastAPI(title="mdstream", version=version("mdstream"), redoc_url=None)
    if settings.api.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.api.origins),
            allow_methods=["GET"],
            allow_headers=["Authorization", "Last-Event-ID"],
            expose_headers=["X-Next", "Retry-After"],
        )
    if webhook is None:  # for good: a sender that tries again would hear the same
        app.add_api_route("/webhooks/{path:path}", _no_webhook, methods=["POST"], include_in_schema=False)
    else:
        app.include_router(routes.router_of(webhook))
    keys = keys_of(settings)
    needed = [Depends(guard_of(app, keys))] if keys.needed else []
    app.include_router(streams.router_of(live), dependencies=needed)
    app.include_router(sockets.router_of(Sockets(live, keys, settings.api.origins)))
    if store is None:
        for prefix in ("/v1", "/udf"):
            app.add_api_route(prefix + "/{path:path}", _no_database, include_in_schema=False)
    else:
        checks["database"] = store.check
        symbols = SymbolList(store)
        app.include_router(queries.router_of(store, symbols), dependencies=needed)
        shown = Charts(store, symbols, Resolutions(settings.bars.intervals))
        app.include_router(charts.router_of(shown), dependencies=needed)
    app.include_router(page.router_of())
    off = {} if webhook else {"webhook": NO_WEBHOOK}
    app.include_router(health.router_of(Health(checks), ApiMetrics(webhook, live, slow), live, off))
    return app if webhook is None else Direct(webhook, app)


async def _no_database() -> JSONResponse:
    return JSONResponse({"error": NO_DATABASE}, 503)


async def _no_webhook() -> JSONResponse:
    return JSONResponse({"error": NO_WEBHOOK}, 404)
