"""The last minute of events for a start without a position: from the stream of the nats role, else from Kafka."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from mdstream.config import Settings
from mdstream.errors import MdstreamError
from mdstream.senpai.canonical import read
from mdstream.senpai.course import REPLAYED_NS
from mdstream.senpai.share import Share
from mdstream.senpai.stored import recent
from mdstream.sinks.nats_stream import RefusedError
from mdstream.sinks.nats_wire import Failure, Wire, reason_of

log = logging.getLogger(__name__)

LIMIT_S = 20.0
"""Events wait meanwhile, in a queue that is bounded."""


class Minute(NamedTuple):
    """Events, as on NATS, and since when they are whole; None: not known."""

    values: Sequence[bytes]
    since_ns: int | None


NOTHING = Minute((), None)


async def last_minute(settings: Settings, wire: Wire, share: Share) -> Minute:
    """What can be read; nothing if that is nowhere."""
    since_ns = time.time_ns() - REPLAYED_NS
    try:
        async with asyncio.timeout(LIMIT_S):
            values, whole = await recent(settings, wire, share, since_ns)
            log.info("read %s events of the last minute from the stream %s", f"{len(values):,}", settings.nats.stream)
            return Minute(values, since_ns if whole else None)
    except (*Failure, RefusedError) as error:
        log.info("the last minute is in no stream: %s; Kafka is asked", reason_of(error))
    try:
        async with asyncio.timeout(LIMIT_S):
            values = [value async for value in read(settings, since_ns, None, share)]
            log.info("read %s events of the last minute from Kafka", f"{len(values):,}")
            return Minute(values, since_ns)
    except (MdstreamError, TimeoutError) as error:
        log.warning("the last minute cannot be read, so features are incomplete for a minute: %s", error)
        return NOTHING
