"""The webhook over HTTP: each request is admitted, read, written to Kafka, and answered when Kafka has it.

No answer to a request without a right secret says more than that; nothing of a request is logged.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from mdstream.api.access import Access, Networks, client
from mdstream.api.outbox import Outbox
from mdstream.api.webhook import (
    BUSY,
    MAX_BODY_BYTES,
    PENDING,
    TOO_LARGE,
    TOO_SLOW,
    TRUNCATED,
    UNAUTHORIZED,
    Rates,
    Reader,
    Refusal,
    Remembered,
)

HOOK = "/webhooks/tradingview"
BODY_LIMIT_S = 10.0
ANSWER_LIMIT_S = 2.5
"""TradingView waits for three seconds."""

EXAMPLE = {
    "symbol": "BINANCE:BTCUSDT",
    "price": 93741.2,
    "size": 0.5,
    "side": "buy",
    "timenow": "2026-01-05T15:00:00Z",
    "id": "my-alert-1",
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {"description": "Kafka has it on all replicas."},
    400: {"description": "No alert: the error says why."},
    401: {"description": "No right secret, or not from an address that may use it."},
    403: {"description": "Its time is too far from ours."},
    408: {"description": "The body did not arrive in time."},
    409: {"description": "This alert was accepted before."},
    413: {"description": "The body is too large."},
    429: {"description": "Too many requests from this address."},
    503: {"description": "Kafka has not acknowledged it yet: send it again; it is never counted twice."},
}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"example": EXAMPLE, "schema": {"type": "object"}}},
    }
}
SIGNATURE: dict[str, Any] = {
    "parameters": [
        {
            "name": "X-Signature",
            "in": "header",
            "required": True,
            "schema": {"type": "string"},
            "description": "HMAC-SHA256 of the body's bytes, in hex",
        }
    ]
}


@dataclass
class Webhook:
    """The rules, and where accepted alerts go."""

    access: Access
    rates: Rates
    reader: Reader
    remembered: Remembered
    outbox: Outbox
    proxies: Networks
    proxy_header: str
    answers: Counter[int] = field(default_factory=Counter)
    """How many requests were answered with each status."""

    async def receive(self, request: Request, secret: str | None) -> JSONResponse:
        """The answer to a request; `secret`: that of its path, None if the body is to be signed."""
        answer = await self._answer(request, secret)
        self.answers[answer.status_code] += 1
        return answer

    async def _answer(self, request: Request, secret: str | None) -> JSONResponse:
        source = self._source(request)
        refusal = self.rates.admit(source, time.monotonic())
        if refusal is None and secret is not None and not self.access.knows(secret, source):
            refusal = UNAUTHORIZED
        body = refusal or await _body(request)
        if isinstance(body, Refusal):
            return refused(body)
        if secret is None and not self.access.signed(body, request.headers.get("X-Signature", "")):
            return refused(UNAUTHORIZED)
        return await self._accept(body, time.time_ns())

    def _source(self, request: Request) -> str:
        peer = request.client.host if request.client else ""
        return client(peer, ",".join(request.headers.getlist(self.proxy_header)), self.proxies)

    async def _accept(self, body: bytes, now_ns: int) -> JSONResponse:
        alert = self.reader.read(body, now_ns)
        if isinstance(alert, Refusal):
            return refused(alert)
        refusal = BUSY if self.outbox.full else self.remembered.begin(alert.identity, now_ns)
        if refusal is not None:
            return refused(refusal)
        written = self.outbox.add(alert.symbol, body, now_ns, lambda: self.remembered.accept(alert.identity))
        done, _ = await asyncio.wait({written}, timeout=ANSWER_LIMIT_S)
        if not done:
            return refused(PENDING)
        return JSONResponse({"symbol": alert.symbol, "id": alert.trade_id}, 202)


async def _body(request: Request) -> bytes | Refusal:
    """The body as sent, or why there is none; no more of it is kept than is allowed."""
    announced = request.headers.get("Content-Length", "0")
    if not announced.isdecimal() or int(announced[:20]) > MAX_BODY_BYTES:
        return TOO_LARGE
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    return TOO_LARGE
    except TimeoutError:
        return TOO_SLOW
    except ClientDisconnect:
        return TRUNCATED
    return bytes(body)


def refused(refusal: Refusal) -> JSONResponse:
    """The answer that is a refusal."""
    headers = {"Retry-After": str(refusal.retry_s)} if refusal.retry_s else {}
    return JSONResponse({"error": refusal.error}, refusal.status, headers)


class Direct:
    """Answers the webhook's requests, and gives all others to the application.

    That has the same paths, for its documentation: on the way through FastAPI an alert takes two thirds more processor
    time.
    """

    def __init__(self, webhook: Webhook, application: ASGIApp) -> None:
        self._webhook, self._application = webhook, application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            hook, slash, secret = scope["path"].partition(f"{HOOK}/")
            if scope["path"] == HOOK or (slash and not hook and secret and "/" not in secret):
                answer = await self._webhook.receive(Request(scope, receive), secret if slash else None)
                await answer(scope, receive, send)
                return
        await self._application(scope, receive, send)


def router_of(webhook: Webhook) -> APIRouter:
    """The paths of the webhook."""
    router = APIRouter(tags=["webhook"])

    @router.post(
        HOOK,
        summary="A signed alert",
        responses=ANSWERS,
        status_code=202,
        openapi_extra=BODY | SIGNATURE,
    )
    async def signed(request: Request) -> JSONResponse:
        """An alert, signed by a relay or a program of your own."""
        return await webhook.receive(request, None)

    @router.post(
        HOOK + "/{secret}",
        summary="An alert from TradingView itself",
        responses=ANSWERS,
        status_code=202,
        openapi_extra=BODY,
    )
    async def from_tradingview(request: Request, secret: str) -> JSONResponse:
        """An alert by a secret path, from TradingView's addresses."""
        return await webhook.receive(request, secret)

    return router
