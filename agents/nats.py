"""Canonical events to NATS.

    md.trades  md.quotes  md.books ─┐
                                    ├─> groups of waiting records ─┬─> md.events.{type}.{symbol}     (NATS_URL)
    md.bars    md.status            ┘   (NATS_EVENTS)              └─> md.dead     what NATS can never accept, and why

Payload: the canonical record's bytes. Order: that of the topic, within a subject. With USE_JETSTREAM=true a group is
acknowledged when the stream has it; the stream holds every event once (see mdstream/sinks/nats.py), and while it is
unreachable the offsets stay where they are. Without JetStream, NATS is a live view: a group is acknowledged when it was
sent, or when there was no connection.
"""

from __future__ import annotations

from typing import Any

from mdstream.app import App
from mdstream.config import Settings
from mdstream.roles.sink import SinkRole
from mdstream.sinks.nats import sink_of
from mdstream.sinks.subjects import named


def attach(app: App, settings: Settings) -> None:
    """Declare the agent of the topics to publish."""
    role = SinkRole("nats", settings, [sink_of(settings)], event_of=named)
    names = role.attach(app, settings.nats.events)

    @app.agent(app.batched(*names), name="nats")
    async def nats(batches: Any) -> None:
        async for batch in batches:
            await role.process(batch)
