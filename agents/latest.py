"""Canonical events to the latest price of each instrument.

    md.trades ─┐                       ┌─> table latest_trades ─┐
               ├─> newest per key ─────┤   every half second    ├─> /latest?symbol=S  /latest/  /
    md.quotes ─┘                       └─> table latest_quotes ─┘

Partition p of each table's changelog belongs to the worker that has partition p of the topics, so any worker knows
which one to ask. The tables are caches: nothing else depends on them.
"""

from __future__ import annotations

from typing import Any

from mdstream.app import App
from mdstream.config import Settings
from mdstream.roles.latest import LatestRole
from mdstream.web import latest as pages


def attach(app: App, settings: Settings) -> None:
    """Declare the agent, its two tables and their pages."""
    topics = app.topic_map
    trades, quotes = app.cache_table("latest_trades"), app.cache_table("latest_quotes")
    role = LatestRole(settings, {topics.trades.name: trades, topics.quotes.name: quotes})
    names = (topics.trades.name, topics.quotes.name)
    app.keep(names, restore=role.restore, release=role.release)
    pages.attach(app, trades, quotes)
    app.registry.register(role)

    @app.agent(app.batched(*names), name="latest")
    async def latest(batches: Any) -> None:
        async for batch in batches:
            role.process(batch)

    app.run_beside(role.run)
