"""The simulator's one port: below /VENUE are the venue's websocket and REST endpoints, the rest is control."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from mdstream.errors import SettingsError
from mdstream.http import listening
from mdstream.simulator.control import Control, error
from mdstream.simulator.exchange import Exchange
from mdstream.simulator.injection import Injection
from mdstream.simulator.rest import Answer, Rest
from mdstream.simulator.websocket import CLOSE_TIMEOUT_S, MAX_MESSAGE_BYTES, Client, Host

IDLE_TIMEOUT_S = 30.0
"""A connection without a request in this time is closed."""
MAX_BODY_BYTES = 64 * 1024
GOING_AWAY = 1001


class Endpoint:
    """Answers requests, and hands the clients of websockets to `host`, who keeps them in `clients`."""

    def __init__(
        self,
        host: Host,
        clients: Mapping[Client, None],
        exchanges: Mapping[str, Exchange],
        rests: Mapping[str, Rest],
        injection: Injection,
        control: Control,
    ) -> None:
        self._host, self._clients, self._exchanges, self._rests = host, clients, exchanges, rests
        self._injection, self._control = injection, control
        self._stopping = asyncio.Event()
        self._runner = self._make_runner()

    async def start(self, host: str, port: int) -> int:
        """Listen. Returns the port. Raises SettingsError if the address is not available."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as failure:
            reason = f"cannot listen on {host}:{port} ({failure.strerror or failure})"
            raise SettingsError(f"{reason}: choose another --port, or 0 for a free one") from None
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close every connection with 1001, after what was written to it."""
        await self._runner.cleanup()

    def _make_runner(self) -> web.AppRunner:
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_route("*", "/{path:.*}", self._handle)
        application.on_shutdown.append(self._close_clients)
        return web.AppRunner(
            application,
            access_log=None,
            logger=listening.log,
            keepalive_timeout=IDLE_TIMEOUT_S,
            handler_cancellation=True,  # a client that leaves ends its handler, which may be waiting
            shutdown_timeout=CLOSE_TIMEOUT_S + 1.0,
        )

    async def _close_clients(self, _application: web.Application) -> None:
        self._stopping.set()
        for client in list(self._clients):
            client.close(GOING_AWAY, "The simulator stops")

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        venue, slash, rest = request.path.removeprefix("/").partition("/")
        if "websocket" in request.headers.get("Upgrade", "").lower():
            return await self._websocket(request, venue, slash + rest)
        if venue in self._rests:
            return self._rest(request, venue, slash + rest)
        return _response(self._control.answer(request.method, request.path, await request.read()))

    def _rest(self, request: web.Request, venue: str, path: str) -> web.Response:
        if request.method != "GET":
            return _response(error(HTTPStatus.METHOD_NOT_ALLOWED, f"only GET is served below /{venue}"))
        refusal = self._injection.gate(venue, rest=True).refusal
        if refusal is not None:
            return _refuse(request, refusal)
        headers = {name.lower(): value for name, value in request.headers.items()}
        return _response(self._rests[venue].get(path, request.rel_url.raw_query_string, self._host.now_ns(), headers))

    async def _websocket(self, request: web.Request, venue: str, path: str) -> web.StreamResponse:
        gate, exchange, transport = self._injection.gate(venue), self._exchanges.get(venue), request.transport
        if gate.wait_s and await self._stops_within(gate.wait_s):
            return _refuse(request, 0)
        if gate.refusal is not None:
            return _refuse(request, gate.refusal)
        query = request.rel_url.raw_query_string
        has_websocket = exchange is not None and exchange.framer is None
        session = exchange.session(path, query, self._host.now_ns()) if exchange and has_websocket else None
        if session is None or transport is None:
            return _response(error(HTTPStatus.NOT_FOUND, f"no venue has a websocket at {request.path}"))
        # Client answers pings and close frames: sessions count pings, and aiohttp would not wait for what it has sent.
        socket = web.WebSocketResponse(
            autoping=False, autoclose=False, compress=False, decode_text=False, max_msg_size=MAX_MESSAGE_BYTES
        )
        await socket.prepare(request)
        await Client(self._host, venue, session, transport).serve(socket)
        return socket

    async def _stops_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._stopping.wait(), seconds)
        return False


def _refuse(request: web.Request, status: int) -> web.Response:
    """An answer with this status; 0: cut the connection instead."""
    if status:
        return _response(error(HTTPStatus(status), "refused"))
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _response(answer: Answer) -> web.Response:
    return web.Response(
        status=answer.status, body=answer.body, headers=answer.headers, content_type=answer.content_type
    )
