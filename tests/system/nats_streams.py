"""For the tests of the nats role: what a stream holds, a proxy whose connections can be cut, and the server's API."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import msgspec
import nats
from nats.js.api import AckPolicy, ConsumerConfig
from processes import free_port

API_LIMIT_S = 10.0
FETCHED = 1_000


class Message(NamedTuple):
    """A message of a stream: `at` is its number there."""

    at: int
    subject: str
    headers: dict[str, str]
    value: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.value)
        return found


async def api(url: str, what: str, body: object = None) -> dict[str, Any]:
    """A server's answer to a JetStream request."""
    async with await nats.connect(url) as client:
        answer = await client.request(f"$JS.API.{what}", msgspec.json.encode(body or {}), timeout=API_LIMIT_S)
    found: dict[str, Any] = msgspec.json.decode(answer.data)
    return found


async def held(url: str, stream: str = "MDSTREAM") -> list[Message]:
    """Every message of a stream, in its order; none where there is no stream."""
    async with await nats.connect(url) as client:
        js = client.jetstream()
        try:
            info = await js.stream_info(stream)
        except nats.js.errors.NotFoundError:
            return []
        found: list[Message] = []
        # Kept while a loaded machine leaves it without a request: for 5 s otherwise.
        silent = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=60.0)
        subscription = await js.pull_subscribe("", stream=stream, config=silent)
        while len(found) < info.state.messages:
            some = await subscription.fetch(min(FETCHED, info.state.messages - len(found)), timeout=API_LIMIT_S)
            found += [Message(m.metadata.sequence.stream, m.subject, dict(m.headers or {}), m.data) for m in some]
        return found


async def count(url: str, stream: str = "MDSTREAM") -> int:
    """How many messages a stream holds; 0 where there is none, or no server."""
    with suppress(OSError, nats.errors.Error, TimeoutError):
        state = (await api(url, f"STREAM.INFO.{stream}")).get("state", {})
        return int(state.get("messages", 0))
    return 0


class Proxy:
    """A TCP proxy to a server; `cut` ends every connection through it."""

    def __init__(self, target: int) -> None:
        self.port, self._target = free_port(), target
        self.cuts = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End all connections at once, whatever is in flight."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    async def _cut(self) -> None:
        self.cuts += len(self._writers) // 2
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, behind[1]}
        self._writers |= pair
        with suppress(OSError):
            await asyncio.wait(
                [asyncio.create_task(_pump(reader, behind[1])), asyncio.create_task(_pump(behind[0], writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        for each in pair:
            each.transport.abort()
        self._writers -= pair

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        await self._cut()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """A proxy that runs in a thread of its own."""
    proxy = Proxy(port)
    thread = threading.Thread(target=proxy.run, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join()
