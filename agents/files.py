"""Canonical events to files.

    md.trades  md.quotes ─┐                              ┌─> DATA_DIR/market_data.db   idempotent by key
                          ├─> groups of waiting records ─┤
    md.bars    md.status ─┘   (MDSTREAM_FILES_EVENTS)    ├─> DATA_DIR/events.jsonl     exact by recorded offsets
                                                         └─> md.dead                   what is not an event, and why

A group is acknowledged when both files have it on disk. After a crash, what was not acknowledged is written again, and
the repeats change nothing. While the disk is full or the database locked, the group is retried until it is stored: the
offsets stay where they are, and no other role is affected.
"""

from __future__ import annotations

from typing import Any

from mdstream.app import App
from mdstream.config import Settings
from mdstream.roles.sink import SinkRole
from mdstream.sinks.files import sinks_of


def attach(app: App, settings: Settings) -> None:
    """Declare the agent of the topics to store."""
    role = SinkRole("files", settings, sinks_of(settings))
    names = role.attach(app, settings.files.events)

    @app.agent(app.batched(*names), name="files")
    async def files(batches: Any) -> None:
        async for batch in batches:
            await role.process(batch)
