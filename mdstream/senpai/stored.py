"""The last events of the stream of the nats role, for a consumer that has no place in it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from mdstream.config import Settings
from mdstream.senpai.pulled import Consumer
from mdstream.senpai.share import Share
from mdstream.sinks.nats_stream import RefusedError, S, api_request
from mdstream.sinks.nats_wire import Wire


def time_text(ns: int) -> str:
    """A time as JetStream's requests take it."""
    return datetime.fromtimestamp(ns / S, UTC).isoformat()


def time_ns(text: str) -> int:
    """A time as the server writes it, to the microsecond."""
    return int(datetime.fromisoformat(f"{text.rstrip('Z')[:26]}+00:00").timestamp() * S)


async def recent(settings: Settings, wire: Wire, share: Share, since_ns: int) -> tuple[list[bytes], bool]:
    """The events stored since a time, and whether older ones are stored, so that nothing is missing.

    Raises one of nats_wire.Failure, RefusedError.
    """
    nats = settings.nats
    info = (await api_request(wire, f"STREAM.INFO.{nats.stream}"))["state"]
    whole = info["messages"] > 0 and time_ns(info["first_ts"]) < since_ns
    consumer = Consumer(wire, nats.stream, f"{share.name}-start")
    deliver = {"deliver_policy": "by_start_time", "opt_start_time": time_text(since_ns)}
    found: list[bytes] = []
    await consumer.open(deliver, Share().subjects(nats.subject_prefix))
    try:
        left = 1
        while left:
            some = await consumer.some()
            left = some[-1].pending if some else 0
            found += [each.value for each in some if share.has(*_tokens(each.subject))]
    finally:
        with suppress(RefusedError):
            await consumer.close()
    return found, whole


def _tokens(subject: bytes) -> tuple[str, str]:
    kind, token = subject.decode().split(".")[-2:]
    return kind, token
