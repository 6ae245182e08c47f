"""Raw frames to canonical events.

    md.raw.MARKET ─> decode ─> follow one source, dedupe, number ─> md.trades  md.quotes  md.books
                          │          └ md.state (checkpoint)   └ md.status  md.gaps (what is missing)  /feeds
                          └ md.dead (not understood, and why)

Keys, partitions and the order of each instrument's records stay the same. A worker that crashes loses nothing; it
repeats what followed its last checkpoint, byte for byte with the same `seq`.
"""

from __future__ import annotations

from typing import Any

from mdstream.app import App
from mdstream.config import Settings
from mdstream.roles.canonical import CanonicalRole
from mdstream.web import feeds as pages


def attach(app: App, settings: Settings) -> None:
    """Declare the agent of every market's raw topic."""
    role = CanonicalRole(settings, app.state_log, overtaken=app.overtaken)
    raw = [topic.name for topic in app.topic_map.raw.values()]
    app.registry.register(role.metrics)
    app.around(before=role.start, after=role.stop)
    app.keep(raw, restore=role.restore, release=role.release)

    @app.agent(app.batched(*raw), name="canonical")
    async def canonical(batches: Any) -> None:
        async for batch in batches:
            await role.process(batch)

    app.run_beside(role.run)
    pages.attach(app, role.feeds)
