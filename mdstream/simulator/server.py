"""The simulator's shell: one port, a path per venue, a turn every few milliseconds, and HTTP control.

ws://HOST:PORT/VENUE/...    the venues' websockets
tcp://HOST:PORT+1 ...       the venues without a websocket, a port each (tcp.py)
http://HOST:PORT/VENUE/...  their REST endpoints
http://HOST:PORT/...        control (control.py)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mdstream.simulator.control import Control
from mdstream.simulator.exchange import Exchange
from mdstream.simulator.faults.kinds import Spec
from mdstream.simulator.faults.schedule import Fault
from mdstream.simulator.history import MAX_FILLS, History
from mdstream.simulator.http import Endpoint
from mdstream.simulator.injection import Injection
from mdstream.simulator.journal import Journal
from mdstream.simulator.listing import Topic
from mdstream.simulator.market import Market, Order, Trade
from mdstream.simulator.production import Production
from mdstream.simulator.rest import Budget, Rest
from mdstream.simulator.tcp import TcpEndpoint
from mdstream.simulator.venues import EXCHANGES, RESTS
from mdstream.simulator.websocket import TEXT, Client, encode

TURN_S = 0.005
SESSION_TICK_S = 0.25
JOURNAL_FLUSH_S = 0.5
MIB = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a simulation. `first_id` None: made from the time, so that no restart reuses an id."""

    host: str = "127.0.0.1"
    port: int = 9440
    venues: tuple[str, ...] = tuple(EXCHANGES)
    rate: float = 1000.0
    seed: int = 1
    symbols: tuple[str, ...] | None = None
    max_trades: int | None = None
    journal: Path | None = None
    first_id: int | None = None
    send_queue_bytes: int = 8 * MIB
    history: int = MAX_FILLS
    """Fills that REST endpoints remember, for all instruments together."""
    rest_budgets: Mapping[str, Budget] = field(default_factory=dict)
    """By venue, instead of the venue's own."""
    linger_s: float = 0.0
    """How long a market goes on after its last subscriber left."""
    faults: tuple[Spec, ...] = ()


class Simulator:
    """Serves until `stop`. `say` gets messages: the requested trades were made, a fault began or ended.

    Raises SettingsError if an option cannot be used.
    """

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self._options, self._say = options, say
        # Wall time at the start, monotonic from there: the market's time never runs back.
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        now_ns = self.now_ns()
        # In microseconds: no allowed rate uses up ids faster than time provides new ones.
        first_id = now_ns // 1000 if options.first_id is None else options.first_id
        self._history = History(options.history)
        market = Market(options.seed, first_id, self._history)
        self._exchanges: dict[str, Exchange] = {n: EXCHANGES[n](market, options.symbols) for n in options.venues}
        self._rests: dict[str, Rest] = {
            name: RESTS[name](self._exchanges[name], options.rest_budgets.get(name))
            for name in options.venues
            if name in RESTS
        }
        self._production = Production(
            options.rate, seed=options.seed, now_ns=now_ns, max_trades=options.max_trades, linger_s=options.linger_s
        )
        self._journal = Journal(options.journal) if options.journal else None
        self._clients: dict[Client, None] = {}
        self._injection = Injection(
            options.seed, self._exchanges, self._production, self._clients, on_change=self._say_change
        )
        for spec in options.faults:
            self._injection.add(spec, now_ns)
        control = Control(self._injection, self._production, self.status, self.now_ns)
        self._endpoint = Endpoint(self, self._clients, self._exchanges, self._rests, self._injection, control)
        self._streams = {
            name: TcpEndpoint(self, exchange, self._injection)
            for name, exchange in self._exchanges.items()
            if exchange.framer is not None
        }
        self.addresses: dict[str, str] = {}
        """Where an ingestor reaches each venue, once it is served."""
        self._tasks: list[asyncio.Task[None]] = []
        self._started_ns = now_ns
        self._was_finished = False
        self._cut_off = 0

    async def start(self) -> int:
        """Listen. Returns the port. Raises SettingsError if the address is not available."""
        self._injection.turn(self.now_ns())  # an initial fault applies to the first client
        host = self._options.host
        port = await self._endpoint.start(host, self._options.port)
        at = f"[{host}]" if ":" in host else host
        self.addresses = {name: f"ws://{at}:{port}/{name}{each.path}" for name, each in self._exchanges.items()}
        for number, (name, stream) in enumerate(self._streams.items(), 1):
            own_port = await stream.start(host, self._options.port and self._options.port + number)
            self.addresses[name] = f"{self._exchanges[name].scheme}://{at}:{own_port}"
        self._tasks = [
            asyncio.create_task(self._every(TURN_S, self._turn)),
            asyncio.create_task(self._every(SESSION_TICK_S, self._tick_sessions)),
        ]
        if self._journal is not None:
            self._tasks.append(asyncio.create_task(self._every(JOURNAL_FLUSH_S, self._journal.flush)))
        return port

    async def run(self, until: asyncio.Event) -> None:
        """Serve until the event is set. Raises a background task's error, such as a full disk for the journal."""
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
        for stream in self._streams.values():
            stream.stop()
        await self._endpoint.stop()
        if self._journal is not None:
            self._journal.close()

    def status(self) -> dict[str, object]:
        """Counts since the start, as /status shows them."""
        production = self._production
        return {
            "uptime_s": round((self.now_ns() - self._started_ns) / 1e9, 3),
            "rate": self._options.rate,
            "frames": production.frames,
            "frames_given_up": production.given_up,
            "trades": {name: production.trades.get(name, 0) for name in self._exchanges},
            "clients": {name: sum(c.venue == name for c in self._clients) for name in self._exchanges},
            "clients_cut_off": self._cut_off,
            "rest": {
                name: {"requests": rest.requests, "refused": rest.refused, "budget": rest.budget}
                for name, rest in self._rests.items()
            },
            "own": {name: counts for name, exchange in self._exchanges.items() if (counts := exchange.counts())},
            "history": len(self._history),
            "listings": {name: len(exchange.listings) for name, exchange in self._exchanges.items()},
            "faults": [
                {"id": fault.fault_id, "venue": fault.spec.venue, "kind": fault.spec.kind}
                for fault in self._injection.faults.all()
                if fault.state == "active"
            ],
            "paused": production.paused,
            "finished": production.finished,
        }

    # called by the clients' sockets

    def now_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.monotonic_ns() + self._offset_ns

    def joined(self, client: Client) -> None:
        self._clients[client] = None

    def left(self, client: Client) -> None:
        self._clients.pop(client, None)
        for topic in client.topics:
            self._production.unsubscribe(topic, client)
        client.topics.clear()

    def subscribe(self, topic: Topic, client: Client) -> None:
        self._production.subscribe(topic, client)

    def unsubscribe(self, topic: Topic, client: Client) -> None:
        self._production.unsubscribe(topic, client)

    def send_current(self, topic: Topic, text: str, client: Client) -> bool:
        self._report(topic, topic.listing.instrument.last_order, self._production.report_last(topic))
        return self._injection.send_current(topic, text, client, self.now_ns())

    # the clock

    async def _every(self, seconds: float, what: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            what()

    def _turn(self) -> None:
        """Produce what is due and write it: one write per client."""
        now_ns = self.now_ns()
        self._cut_off_the_slow()
        self._injection.turn(now_ns)
        faulty = self._injection.pipes
        for topic, texts, order, trades in self._production.produce(now_ns):
            if faulty and topic.listing.exchange in faulty:
                self._injection.deliver(topic, texts, order, now_ns)
            elif topic.listing.exchange in self._streams:
                for client in topic.subscribers:
                    client.out += map(client.frame, texts)
            else:
                frames = [encode(TEXT, text.encode()) for text in texts]
                for client in topic.subscribers:
                    client.out += frames
            if order is not None:
                self._report(topic, order, trades)
        for client in self._clients:
            client.flush(now_ns, faulty=client.venue in faulty)
        if self._production.finished and not self._was_finished:
            self._was_finished = True
            self._say(f"finished: {self._options.max_trades} trades were sent; Ctrl-C ends")

    def _say_change(self, fault: Fault, began: bool) -> None:
        spec = fault.spec
        self._say(f"{spec.venue}: {spec.kind} ({fault.fault_id}) {'began' if began else 'ended'}")

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
