"""Canonical trades to bars.

    md.trades ─> sums per symbol and interval ─> md.state (checkpoint, with the bars to publish) ─> md.bars
                                                                                     MDSTREAM_BARS: 1s,1m,5m,1h

Keys and partitions stay the same. A bar's contents depend on its trades alone: a late or recovered trade publishes the
bar again, with the next revision and the contents it would have had anyway. A worker that crashes loses no trade and
counts none twice; it may publish the last bars again, byte for byte.
"""

from __future__ import annotations

from typing import Any

from mdstream.app import App
from mdstream.config import Settings
from mdstream.roles.bars import BarsRole


def attach(app: App, settings: Settings) -> None:
    """Declare the agent, unless MDSTREAM_BARS is empty."""
    if not settings.bars.intervals:
        return
    role = BarsRole(settings, app.state_log, overtaken=app.overtaken)
    trades = app.topic_map.trades.name
    app.registry.register(role.metrics)
    app.around(before=role.start, after=role.stop)
    app.keep([trades], restore=role.restore, release=role.release)

    @app.agent(app.batched(trades), name="bars")
    async def bars(batches: Any) -> None:
        async for batch in batches:
            await role.process(batch)

    app.run_beside(role.run)
