"""What system tests of backfills share: a venue with a past, one that is slow, and what was taken of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from aiohttp import ClientSession, web
from processes import LIMIT_S, Processes, free_port, wait_until
from servers import read_topic
from venues import Venues
from websockets.asyncio.client import connect

from mdstream.events import Trade, decode
from mdstream.ticks import TradeTick
from mdstream.venues import ws_setting
from mdstream.venues.providers import provider

SECOND_NS = 1_000_000_000
ANSWER_S = 0.2


def ago(seconds: float) -> str:
    """A time as the command takes it."""
    return datetime.fromtimestamp(time.time() - seconds, UTC).isoformat(timespec="seconds")


async def trade(venues: Venues, name: str, symbol: str, most: int) -> None:
    """Let a venue make so many trades; nobody keeps what it sends."""
    of, seen = provider(name), 0
    async with connect(venues.urls[ws_setting(name)], compression=None, max_queue=None) as socket:
        for request in of.subscribe([symbol]):
            await socket.send(request.frame)
        while seen < most:
            seen += sum(isinstance(tick, TradeTick) for tick in of.decode(await socket.recv(decode=False)))


def published(env: Mapping[str, str]) -> list[Trade]:
    """The events of md.trades in the order of their numbers, repeats left out."""
    records = asyncio.run(read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}.trades"))
    found: dict[int, Trade] = {}
    for record in records:
        trade = decode(record.value)
        assert isinstance(trade, Trade)
        assert found.setdefault(trade.seq, trade) == trade
    return [found[seq] for seq in sorted(found)]


def kill_after_a_page(processes: Processes, env: Mapping[str, str], command: Sequence[str]) -> None:
    """Start a backfill of trades, and kill it when it has brought anything."""

    def taken() -> int:
        return sum(trade.backfilled for trade in published(env))

    before, process = taken(), processes.mdstream(*command, env=env)
    wait_until(lambda: taken() > before or not process.running, what="a page", every_s=0.02)
    process.kill()


class Slow:
    """A venue's REST interface that takes its time: there is something to kill."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.answered = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(ANSWER_S)
        async with ClientSession() as session, session.get(f"{self._address}{request.rel_url}") as answer:
            body, own = await answer.read(), ("retry-after", "x-mbx-used-weight-1m", "content-type")
            headers = {name: answer.headers[name] for name in own if name in answer.headers}
            self.answered += 1
            return web.Response(status=answer.status, body=body, headers=headers)


@contextmanager
def front(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Iterator[str]:
    """The address of a server that answers every GET so."""
    port, loop, is_up = free_port(), asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        application = web.Application()
        application.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        is_up.set()
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    task = loop.create_task(serve())
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([task])))
    thread.start()
    assert is_up.wait(LIMIT_S)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()
