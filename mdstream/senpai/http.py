"""The HTTP endpoint of `mdstream senpai`."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from aiohttp import web

from mdstream.http.endpoint import Endpoint, reply
from mdstream.senpai.engine import Symbol
from mdstream.senpai.metrics import SenpaiMetrics
from mdstream.senpai.state import State
from mdstream.watchdog.rule import Verdict
from mdstream.web.pages import page

OK = Verdict("ok", live=True, ready=True)
SILENCE_S = 30.0
"""Heartbeats come every few seconds: without any event for this long nothing can be told."""


class SenpaiEndpoint(Endpoint):
    """Answers from the current state of the engine."""

    def __init__(self, state: State) -> None:
        super().__init__(lambda: OK, SenpaiMetrics(state))
        self._state = state

    def problems(self) -> list[str]:
        if self._state.problem is not None:
            return [self._state.problem]
        if (silent_s := self._state.silent_s()) > SILENCE_S:
            return [f"no event, and no heartbeat, for {silent_s:.0f} s: does the nats role run?"]
        return []

    def details(self) -> dict[str, Any]:
        state = self._state
        behind_s = (time.time_ns() - state.engine.latest_ns) / 1e9 if state.engine.latest_ns else None
        return {
            "consumer": state.name,
            "mode": state.mode,
            "symbols": len(state.engine.symbols),
            "pending": state.pending,
            "behind_s": None if behind_s is None else round(behind_s, 3),
            "rows_per_s": round(state.rows_per_s(), 1),
            "signals_made": state.signals.total(),
            "open_alerts": len(state.engine.alerts),
        }

    def application(self) -> web.Application:
        app = super().application()
        app.router.add_get("/", self._page)
        app.router.add_get("/state/latest", self._latest_state)
        app.router.add_get("/features/latest", self._latest_features)
        app.router.add_get("/stats", self._stats)
        return app

    async def _page(self, _request: web.Request) -> web.Response:
        found = page("senpai")
        return web.Response(text=found.text, content_type="text/html", headers=found.headers)

    async def _latest_state(self, request: web.Request) -> web.Response:
        return self._answer(request, _state_of)

    async def _latest_features(self, request: web.Request) -> web.Response:
        return self._answer(request, lambda symbol: symbol.row)

    def _answer(self, request: web.Request, of: Any) -> web.Response:
        """Of the symbol that is asked for, or of all in `symbols`."""
        symbols, name = self._state.engine.symbols, request.query.get("symbol")
        if name is None:
            return reply({"symbols": {each: of(symbol) for each, symbol in sorted(symbols.items())}})
        symbol = symbols.get(name.upper())
        found = None if symbol is None else of(symbol)
        if found is None:
            body = msgspec.json.encode({"error": f"nothing is known of {name[:64]}"})
            return web.Response(body=body, status=404, content_type="application/json")
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    async def _stats(self, _request: web.Request) -> web.Response:
        state = self._state
        return reply(
            {
                **self.details(),
                "events": dict(state.counts),
                "latest_ns": state.engine.latest_ns,
                "unstored": state.unstored,
                "received": state.received,
                "replayed": state.replayed,
                "features": state.features,
                "signals": dict(state.signals),
                "alerts": dict(state.alerts),
                "open": [_alert(each) for each in state.engine.alerts.memory()],
                "dropped": dict(state.dropped),
                "queue_fill": state.fill,
                "refused": state.refused,
                "slow_consumers": state.slow_consumers,
                "reconnects": max(0, state.reconnects),
            }
        )


def _state_of(symbol: Symbol) -> dict[str, Any]:
    return {
        "symbol": symbol.name,
        "trade": symbol.trade,
        "quote": symbol.quote,
        "heard_ns": symbol.heard_ns,
        "stale": symbol.stale,
    }


def _alert(each: Any) -> dict[str, Any]:
    return {
        name: getattr(each, name) for name in ("kind", "symbol", "subject", "first_ns", "last_ns", "count", "reason")
    }
