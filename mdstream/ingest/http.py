"""The ingestor's HTTP endpoint: /health /live /ready /metrics /bus-stats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from mdstream.http.endpoint import Endpoint, reply
from mdstream.ingest.bus import Bus
from mdstream.ingest.feed import Feed
from mdstream.ingest.health import problems_of
from mdstream.ingest.metrics import IngestMetrics
from mdstream.ingest.overflow import DROPPABLE
from mdstream.ingest.plan import TOP, contract_sizes_of, wanted_of
from mdstream.ingest.selection import listings
from mdstream.venues.feed import Route
from mdstream.watchdog.guard import Watchdog


class SymbolChange(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /symbols; `provider` may be left out if there is only one."""

    provider: str | None = None
    add: list[str] = []
    remove: list[str] = []


_decode_change = msgspec.json.Decoder(SymbolChange).decode


class IngestEndpoint(Endpoint):
    """Answers from the current state of the feeds and the bus."""

    def __init__(self, feeds: Sequence[Feed], bus: Bus, watchdog: Watchdog, addresses: Mapping[str, str]) -> None:
        """`addresses`: those of the venues."""
        super().__init__(lambda: watchdog.verdict, IngestMetrics(feeds, bus))
        self._addresses = addresses
        self._feeds, self._bus, self._ready_s = feeds, bus, watchdog.rule.limits.ready_s

    def application(self) -> web.Application:
        """The routes."""
        app = super().application()
        app.router.add_get("/bus-stats", self._bus_stats)
        app.router.add_get("/symbols", self._symbols)
        app.router.add_post("/symbols", self._change_symbols)
        return app

    def problems(self) -> list[str]:
        """Of the feeds, and of sending to Kafka."""
        # A dry feed is a problem if there is no other: with all providers, those without a key are left dry.
        flowing = [feed for feed in self._feeds if feed.dry is None]
        feeds = {feed.provider.name: feed.problem for feed in flowing or self._feeds}
        sender, spooler = self._bus.sender, self._bus.spooler
        return problems_of(
            feeds=feeds,
            started=sender.started,
            stalled_s=sender.stalled_s,
            ready_s=self._ready_s,
            spool_error=spooler.error,
        )

    def readiness(self) -> dict[str, Any]:
        """The channels without data."""
        return {"stale": {feed.provider.name: _by_symbol(feed.stale_channels()) for feed in self._feeds}}

    def details(self) -> dict[str, Any]:
        """The state of each feed."""
        return {"feeds": {feed.provider.name: _describe(feed) for feed in self._feeds}}

    async def _symbols(self, _request: web.Request) -> web.Response:
        return reply({feed.provider.name: list(feed.symbols) for feed in self._feeds})

    async def _change_symbols(self, request: web.Request) -> web.Response:
        # A web page can post to this address, but not with this type unless we allow its origin.
        if request.content_type != "application/json":
            raise _bad_request("expected the content type application/json, as `curl --json` sends it")
        try:
            change = _decode_change(await request.read())
        except msgspec.MsgspecError as error:
            raise _bad_request(f'expected {{"provider":NAME,"add":[..],"remove":[..]}}: {error}') from None
        feed = self._feed_of(change.provider)
        contracts, listing = feed.intake.contracts, None
        if change.add:
            ranked = any(name.startswith(TOP) for name in change.add)
            found = await listings([feed.provider.name], self._addresses, volumes=ranked)
            listing = found[feed.provider.name]
            contracts.learn_new(contract_sizes_of(found).get(feed.provider.name, {}))
        add = wanted_of(feed.provider, change.add, listing, contracts.contract_size)
        remove = wanted_of(feed.provider, change.remove, contract_size=contracts.contract_size)
        impossible = [s for s in add.symbols if not feed.intake.takes(s)]
        refused = [*add.refused, *remove.refused, *(f"{s}: no topic of its market is open here" for s in impossible)]
        if refused:
            raise _bad_request("; ".join(refused))
        await feed.change(add=add.symbols, remove=remove.symbols)
        return reply({"provider": feed.provider.name, "symbols": list(feed.symbols)})

    def _feed_of(self, name: str | None) -> Feed:
        feeds = {feed.provider.name: feed for feed in self._feeds}
        if name is None and len(feeds) == 1:
            return self._feeds[0]
        if name not in feeds:
            raise _bad_request(f"provider {name!r}: expected one of {', '.join(feeds)}")
        return feeds[name]

    async def _bus_stats(self, _request: web.Request) -> web.Response:
        backlog, sender, spooler = self._bus.backlog, self._bus.sender, self._bus.spooler
        overflow = backlog.overflow
        return reply(
            {
                "topics": {topic.name: topic.partitions for topic in self._bus.raw.values()},
                "queued": {
                    "records": backlog.records,
                    "bytes": backlog.bytes,
                    "fill": round(backlog.limits.fill(backlog.records, backlog.bytes), 4),
                },
                "diverted": backlog.diverted,
                "times_diverted": backlog.times_diverted,
                "overflow": {"records": len(overflow), "bytes": overflow.bytes, "fill": round(overflow.fill, 4)},
                "spool": {
                    "bytes": spooler.spool_bytes,
                    "limit_bytes": spooler.spool_limit_bytes,
                    "written": spooler.records,
                    "error": spooler.error,
                },
                "dropped": {kind.decode(): overflow.dropped[kind] for kind in DROPPABLE},
                "limits": {"records": backlog.limits.records, "bytes": backlog.limits.bytes},
                "stalled_s": round(sender.stalled_s, 3),
                "sent": msgspec.to_builtins(_fields(sender.counters)),
            }
        )


def _bad_request(text: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=msgspec.json.encode({"error": text}).decode(), content_type="application/json")


def _describe(feed: Feed) -> dict[str, Any]:
    counters = _fields(feed.intake.counters)
    del counters["routes"]
    counters["frames"] = {kind.decode(): count for kind, count in feed.intake.counters.frames.items()}
    return {
        "connected": feed.connected,
        "state": "closed" if feed.closed else feed.state,
        "reason": feed.reason,
        "dry": feed.dry,
        "symbols": len(feed.symbols),
        **counters,
        "data": [
            {"silent_s": round(silent_s, 1), "stale_after_s": limit_s and round(limit_s, 1)}
            for silent_s, limit_s in feed.data()
        ],
        "stale": _by_symbol(feed.stale_channels()),
        "mute": feed.mute(),
        "refused": list(feed.refused),
        "rejected": feed.rejected(),
        "missing": feed.missing(),
        "silent_s": _by_symbol(feed.silent_s()),
    }


def _by_symbol(channels: Mapping[Route, float | None]) -> dict[str, dict[str, float | None]]:
    """{"BTCUSDT": {"trade": 0.4, "quote": 0.1}}: seconds of silence; null if a channel never had data."""
    found: dict[str, dict[str, float | None]] = {}
    for (key, kind), silent_s in channels.items():
        found.setdefault(key.decode(), {})[kind.decode()] = silent_s and round(silent_s, 1)
    return found


def _fields(counters: Any) -> dict[str, Any]:
    return {name: getattr(counters, name) for name in counters.__slots__}
