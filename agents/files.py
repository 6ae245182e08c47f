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
from mdstream.roles.sink import SinkRole
from mdstream.sinks.files import sinks_of


def attach(app: App, settings: Settings) -> None:
    """Declare the agent of the topics that are to be stored."""
    role = SinkRole("files", settings, sinks_of(settings))
    names = role.attach(app, settings.files_events)

    @app.agent(app.batched(*names), name="files")
    async def files(batches: Any) -> None:
        async for batch in batches:
            await role.process(batch)
