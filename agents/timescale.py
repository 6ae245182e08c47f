"""Canonical events to the database.

    md.trades ─┐                                                ┌─> market_data_ticks
    md.quotes ─┤                                                ├─> market_data_quotes       idempotent by key
    md.bars   ─┼─> groups of waiting records ─ one transaction ─┼─> market_data_ohlcv        the highest revision stays
    md.status ─┘   (MDSTREAM_TIMESCALE_EVENTS)     │            └─> market_data_feed_events
                                                   └─> md.dead   what is no event or row, and why

A group is acknowledged when it is committed. After a crash, what was not acknowledged is written again, and the repeats
change nothing. While the database is unreachable, full or locked, the group is retried until it is stored: the offsets
stay where they are, and no other role is affected.
"""

from __future__ import annotations

from typing import Any

from mdstream.app import App
from mdstream.config import Settings
from mdstream.roles.sink import SinkRole
from mdstream.sinks.timescale import sink_of


def attach(app: App, settings: Settings) -> None:
    """Declare the agent of the topics to store."""
    role = SinkRole("timescale", settings, [sink_of(settings)])
    names = role.attach(app, settings.timescale.events)

    @app.agent(app.batched(*names), name="timescale")
    async def timescale(batches: Any) -> None:
        async for batch in batches:
            await role.process(batch)
