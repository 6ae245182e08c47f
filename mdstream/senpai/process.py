"""The process: HTTP first, then events until it is cancelled."""

from __future__ import annotations

import logging

from mdstream.config import Settings
from mdstream.http.endpoint import serve
from mdstream.senpai.durable import Durable
from mdstream.senpai.http import SenpaiEndpoint
from mdstream.senpai.live import Live
from mdstream.senpai.share import Share
from mdstream.senpai.state import State
from mdstream.transport import collector

log = logging.getLogger(__name__)

DEFAULT_PORT = 8892


async def senpai(settings: Settings, share: Share, *, port: int) -> None:
    """Consume until cancelled. Raises MdstreamError when it cannot start, or trying again would not help."""
    state = State(share.name, "jetstream" if settings.nats.jetstream else "live")
    consumer = (Durable if settings.nats.jetstream else Live)(settings, share, state)
    async with serve(SenpaiEndpoint(state).application(), host=settings.http.host, port=port):
        collector.tune()
        log.info("http://%s:%d/ shows features and signals", settings.http.host, port)
        await consumer.run()
