"""Limits of all our HTTP endpoints: connections, time for a request, and security headers.

A client that opens connections and sends nothing must not take the descriptors that sinks and Kafka need: it is
disconnected after REQUEST_LIMIT_S, and beyond MAX_CONNECTIONS the next one gets a 503. There is no authentication: an
endpoint on another address than 127.0.0.1 needs a proxy that does it (docs/operations.md).
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 128
REQUEST_LIMIT_S = 10.0
"""From the connection, or from the last answer, to the end of the next request's headers."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Defaults for every answer: it must not be cached, embedded, or mistaken for a page."""
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\nRetry-After: 1\r\n\r\n"


class Runner(web.AppRunner):
    """aiohttp's server of an application, within these limits."""

    def __init__(self, application: web.Application) -> None:
        application.on_response_prepare.append(_protect)
        super().__init__(application, access_log=None, logger=log, keepalive_timeout=REQUEST_LIMIT_S)

    @property
    def server(self) -> Any:
        """The protocol factory of new connections: aiohttp's server, while there is room."""
        server = super().server
        return server and partial(_admit, server)


def _admit(server: web.Server) -> asyncio.Protocol:
    return server() if len(server.connections) < MAX_CONNECTIONS else Refusal()


class Refusal(asyncio.Protocol):
    """Answers with 503, whatever is asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(REFUSAL)  # uvloop's is no subclass
        transport.close()


async def _protect(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def _concerns_us(record: logging.LogRecord) -> bool:
    """A request that is not HTTP is answered with 400; a logged traceback would only help to fill a disk."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


log.addFilter(_concerns_us)
