"""The simulator's shell: one port, a path per venue, a turn every few milliseconds, and an HTTP door for control.

ws://HOST:PORT/VENUE/...   the venues
GET /status                counts, as JSON
POST /pause, /resume       stop and go on making market data; connections, pings and heartbeats stay
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from mdstream.errors import SettingsError
from mdstream.simulator.journal import Journal
from mdstream.simulator.market import Market, Order, Trade
from mdstream.simulator.production import Production
from mdstream.simulator.venues import EXCHANGES
from mdstream.simulator.venues.base import Exchange, Session, Topic
from mdstream.simulator.websocket import CLOSE_TIMEOUT_S, Client, text_frame

TURN_S = 0.005
SESSION_TICK_S = 0.25
JOURNAL_FLUSH_S = 0.5
GOING_AWAY = 1001
MIB = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a simulation is asked to be. `first_id` None: made from the time, so that no restart uses an id again."""

    host: str = "127.0.0.1"
    port: int = 9440
    venues: tuple[str, ...] = tuple(EXCHANGES)
    rate: float = 1000.0
    seed: int = 1
    symbols: tuple[str, ...] | None = None
    most_trades: int | None = None
    journal: Path | None = None
    first_id: int | None = None
    send_queue_bytes: int = 8 * MIB


class Simulator:
    """Serves until `stop`. `on_finished` is called once, when the trades asked for were made."""

    def __init__(self, options: Options, on_finished: Callable[[], None] = lambda: None) -> None:
        self._options, self._on_finished = options, on_finished
        # Wall time at the start, monotonic from there: the market's time never runs back.
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        now_ns = self.now_ns()
        # In microseconds: no rate that is allowed uses ids up faster than time makes new ones.
        market = Market(options.seed, now_ns // 1000 if options.first_id is None else options.first_id)
        self._exchanges: dict[str, Exchange] = {n: EXCHANGES[n](market, options.symbols) for n in options.venues}
        self._production = Production(options.rate, seed=options.seed, now_ns=now_ns, most_trades=options.most_trades)
        self._journal = Journal(options.journal) if options.journal else None
        self._connections: dict[Client, None] = {}
        self._clients: dict[Client, None] = {}
        self._all_lost = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._started_ns = now_ns
        self._was_finished = False
        self._cut_off = 0

    async def start(self) -> int:
        """Listen, and give the port. Raises SettingsError where that address cannot be had."""
        host, port = self._options.host, self._options.port
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._connect, host, port)
        except OSError as error:
            reason = f"cannot listen on {host}:{port} ({error.strerror or error})"
            raise SettingsError(f"{reason}: choose another --port, or 0 for a free one") from None
        self._tasks = [
            asyncio.create_task(self._every(TURN_S, self._turn)),
            asyncio.create_task(self._every(SESSION_TICK_S, self._tick_sessions)),
        ]
        if self._journal is not None:
            self._tasks.append(asyncio.create_task(self._every(JOURNAL_FLUSH_S, self._journal.flush)))
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def run(self, until: asyncio.Event) -> None:
        """Serve until the event is set. Raises what went wrong within, such as a journal on a full disk."""
        stopping = asyncio.create_task(until.wait())
        done, _ = await asyncio.wait({stopping, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Close every connection with 1001, after what was written to it, and complete the journal."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for client in list(self._connections):
            client.close(GOING_AWAY, "The simulator stops")
        if self._connections:
            # Each connection ends itself CLOSE_TIMEOUT_S later at the latest; the journal waits for none beyond that.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_lost.wait(), CLOSE_TIMEOUT_S + 1.0)
        if self._journal is not None:
            self._journal.close()

    def status(self) -> dict[str, object]:
        """Counts since the start, as /status gives them."""
        production = self._production
        return {
            "uptime_s": round((self.now_ns() - self._started_ns) / 1e9, 3),
            "rate": self._options.rate,
            "frames": production.frames,
            "frames_given_up": production.given_up,
            "trades": {name: production.trades.get(name, 0) for name in self._exchanges},
            "clients": {name: sum(c.venue == name for c in self._clients) for name in self._exchanges},
            "clients_cut_off": self._cut_off,
            "listings": {name: len(exchange.listings) for name, exchange in self._exchanges.items()},
            "paused": production.paused,
            "finished": production.finished,
        }

    # what the clients' sockets ask for

    def now_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.monotonic_ns() + self._offset_ns

    def http(self, request: Request) -> Response | None:
        match request.method, urlsplit(request.path).path:
            case "GET", "/status":
                return self._status_response()
            case "POST", "/pause":
                self._production.paused = True
                return self._status_response()
            case "POST", "/resume":
                self._production.paused = False
                return self._status_response()
            case _, "/status" | "/pause" | "/resume":
                return _response(HTTPStatus.METHOD_NOT_ALLOWED, {"error": "GET /status, POST /pause, POST /resume"})
        return None

    def session(self, target: str) -> tuple[str, Session] | None:
        url = urlsplit(target)
        _, name, *rest = url.path.split("/", 2)
        exchange = self._exchanges.get(name)
        session = exchange.session("/" + rest[0] if rest else "", url.query, self.now_ns()) if exchange else None
        return (name, session) if session else None

    def joined(self, client: Client) -> None:
        self._clients[client] = None

    def left(self, client: Client) -> None:
        self._clients.pop(client, None)
        for topic in client.topics:
            self._production.unsubscribe(topic, client)
        client.topics.clear()

    def lost(self, client: Client) -> None:
        self._connections.pop(client, None)
        if not self._connections:
            self._all_lost.set()

    def subscribe(self, topic: Topic, client: Client) -> None:
        self._production.subscribe(topic, client)

    def unsubscribe(self, topic: Topic, client: Client) -> None:
        self._production.unsubscribe(topic, client)

    def told(self, topic: Topic) -> None:
        self._report(topic, topic.listing.instrument.last_order, self._production.tell(topic))

    # what happens by the clock

    def _connect(self) -> Client:
        client = Client(self)
        self._connections[client] = None
        self._all_lost.clear()
        return client

    async def _every(self, seconds: float, what: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            what()

    def _turn(self) -> None:
        """Make what is due and write it: one write a client."""
        now_ns = self.now_ns()
        self._cut_off_the_slow()
        for topic, texts, order, trades in self._production.produce(now_ns):
            frames = [text_frame(text) for text in texts]
            for client in topic.subscribers:
                client.out += frames
            if order is not None:
                self._report(topic, order, trades)
        for client in self._clients:
            client.flush(now_ns)
        if self._production.finished and not self._was_finished:
            self._was_finished = True
            self._on_finished()

    def _report(self, topic: Topic, order: Order, trades: Sequence[Trade]) -> None:
        if self._journal is not None and trades:
            self._journal.add(topic, order, trades)

    def _cut_off_the_slow(self) -> None:
        limit = self._options.send_queue_bytes
        for client in [c for c in self._clients if c.waiting_bytes > limit]:
            self._cut_off += 1
            log.warning("cutting off a client of %s: it leaves %d bytes unread", client.venue, client.waiting_bytes)
            client.cut_off()

    def _tick_sessions(self) -> None:
        now_ns = self.now_ns()
        for client in list(self._clients):
            client.tick(now_ns)

    def _status_response(self) -> Response:
        return _response(HTTPStatus.OK, self.status())


def _response(status: HTTPStatus, content: dict[str, object]) -> Response:
    body = (json.dumps(content) + "\n").encode()
    headers = Headers(
        [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
    )
    return Response(status.value, status.phrase, headers, body)
