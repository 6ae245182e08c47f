"""Canonical events to files.

    md.trades  md.quotes ─┐                              ┌─> DATA_DIR/market_data.db   idempotent by key
                          ├─> groups of what is waiting ─┤
    md.bars    md.status ─┘   (MDSTREAM_FILES_EVENTS)    ├─> DATA_DIR/events.jsonl     exact by recorded offsets
                                                         └─> md.dead                   what is no event, and why

A group is acknowledged when both files have it on the disk. A crash repeats what was not acknowledged, and the repeats
change nothing. A disk that is full, a database that is locked: the group is tried again until it is stored, the offsets
stay where they are, and no other role notices.
"""

from __future__ import annotations

from typing import Any

from mdstream.app import App
from mdstream.config import Settings
from mdstream.sinks.files import FilesRole


def attach(app: App, settings: Settings) -> None:
    """Declare the agent of the topics that are to be stored."""
    role = FilesRole(settings)
    names = [getattr(app.topic_map, events).name for events in settings.files_events]
    app.around(before=role.start, after=role.stop)
    app.registry.register(role.metrics)
    app.keep(names, restore=role.restore, release=role.release)
    app.holds(role.holding)

    @app.agent(app.batched(*names), name="files")
    async def files(batches: Any) -> None:
        async for batch in batches:
            await role.process(batch)

    app.run_beside(role.run)
