"""Applies faults to a venue's connections, its instruments, and the frames for its clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

from mdstream.errors import SettingsError
from mdstream.simulator.exchange import Exchange
from mdstream.simulator.faults import kinds
from mdstream.simulator.faults.delivery import ORDER, Frame, Pipe
from mdstream.simulator.faults.kinds import Spec
from mdstream.simulator.faults.schedule import Change, Fault, Faults
from mdstream.simulator.faults.stages import stage
from mdstream.simulator.listing import Kind, Listing, Topic
from mdstream.simulator.market import Order
from mdstream.simulator.production import Production
from mdstream.simulator.websocket import Client, Gate

MS = 1_000_000


class Injection:
    """All active faults of a simulation. `pipes` has exactly the venues whose frames go through `deliver`."""

    def __init__(
        self,
        seed: int,
        exchanges: Mapping[str, Exchange],
        production: Production,
        clients: Mapping[Client, None],
        on_change: Callable[[Fault, bool], None],
    ) -> None:
        self._seed, self._exchanges, self._production, self._clients = seed, exchanges, production, clients
        self._on_change = on_change
        self._rng = Random(seed)
        self._notified: dict[str, list[Client]] = {}  # by the id of a shutdown
        self.faults = Faults(seed)
        self.pipes: dict[str, Pipe] = {}
        for exchange in exchanges.values():
            exchange.on_opened = self._set_clock

    def add(self, spec: Spec, now_ns: int) -> Fault:
        """A new fault. Raises SettingsError if its venue is not served."""
        if spec.venue not in self._exchanges:
            served = ", ".join(self._exchanges)
            raise SettingsError(f"venue: {spec.venue!r} is not served here; these are: {served}")
        if spec.kind == "shutdown" and not self._exchanges[spec.venue].shutdown_notice:
            raise SettingsError(f"kind: {spec.venue} announces no shutdown; use close")
        return self.faults.add(spec, now_ns)

    def end(self, fault: Fault, now_ns: int) -> None:
        """End a fault before its time."""
        change = self.faults.end(fault, now_ns)
        if change is not None:
            self._apply(change, now_ns)

    def turn(self, now_ns: int) -> None:
        """Begin and end due faults, and release frames held long enough."""
        for change in self.faults.due(now_ns):
            self._apply(change, now_ns)
        for pipe in self.pipes.values():
            self._send(pipe.due(now_ns))

    def deliver(self, topic: Topic, texts: Sequence[str], order: Order | None, now_ns: int) -> None:
        """Put a topic's frames through the venue's faults; `order`: the one whose trades they report."""
        to, symbol, trades = tuple(topic.subscribers), topic.listing.canonical, topic.channel.trades
        if order is None or trades is None:
            frames = [Frame(text, to, symbol) for text in texts]
        else:
            reported = trades(order)
            each = len(reported) // len(texts)
            frames = [
                Frame(text, to, symbol, reported[at].first_id, reported[at + each - 1].last_id, topic)
                for text, at in zip(texts, range(0, len(reported), each), strict=True)
            ]
        self._send(self.pipes[topic.listing.exchange].push(frames, now_ns))

    def send_current(self, topic: Topic, text: str, client: Client, now_ns: int) -> bool:
        """Put a frame for one client through the venue's faults; False if there are none."""
        pipe = self.pipes.get(topic.listing.exchange)
        if pipe is None:
            return False
        self._send(pipe.push([Frame(text, (client,), topic.listing.canonical)], now_ns))
        return True

    def gate(self, venue: str, *, rest: bool = False) -> Gate:
        """How a venue currently treats a handshake, or a REST request."""
        wait_s, refusal = 0.0, None
        for fault in self._active(venue):
            match fault.spec.parameters:
                case kinds.Refuse() as refuse if refuse.rest or not rest:
                    refusal = refuse.status
                case kinds.SlowHandshake(ms=ms) if not rest:
                    wait_s = max(wait_s, ms / 1000)
                case _:
                    continue
            fault.counts["requests" if rest else "handshakes"] += 1
        return Gate(wait_s, refusal)

    def _active(self, venue: str) -> Iterable[Fault]:
        return (f for f in self.faults.all() if f.state == "active" and f.spec.venue == venue)

    def _apply(self, change: Change, now_ns: int) -> None:
        fault, began = change
        match fault.spec.parameters:
            case kinds.Disconnect() | kinds.Close():
                self._break_connections(fault)
            case kinds.Shutdown() if began:
                self._announce_shutdown(fault)
            case kinds.Shutdown():
                for client in self._notified.pop(fault.fault_id, ()):
                    client.close(kinds.Close().code, kinds.Close().reason)
            case kinds.SequenceReset(first_id=first_id):
                for listing in self._listings(fault.spec):
                    self._production.restart(listing, first_id)
                    fault.counts["instruments"] += 1
            case kinds.ClockSkew():
                for listing in self._listings(fault.spec):
                    self._set_clock(listing)
            case _ if fault.spec.kind in ORDER:
                self._fit(fault, began, now_ns)
        self._on_change(fault, began)

    def _listings(self, spec: Spec) -> list[Listing]:
        listings = self._exchanges[spec.venue].listings.values()
        return [listing for listing in listings if spec.symbols is None or listing.canonical in spec.symbols]

    def _break_connections(self, fault: Fault) -> None:
        """Cut or close the venue's connections, or only those that carry one of the symbols."""
        clients = self._clients_of(fault.spec)
        match fault.spec.parameters:
            case kinds.Close(code=code, reason=reason):
                for client in clients:
                    client.close(code, reason)
            case kinds.Disconnect(one=one):
                clients = self._rng.sample(clients, min(1, len(clients))) if one else clients
                for client in clients:
                    client.abort()
        fault.counts["connections"] += len(clients)

    def _announce_shutdown(self, fault: Fault) -> None:
        notice = self._exchanges[fault.spec.venue].shutdown_notice
        clients = self._notified[fault.fault_id] = self._clients_of(fault.spec)
        for client in clients:
            client.out.append(client.frame(notice))
        fault.counts["connections"] += len(clients)

    def _clients_of(self, spec: Spec) -> list[Client]:
        """The venue's clients, or those that have subscribed to one of the symbols."""
        return [
            client
            for client in self._clients
            if client.venue == spec.venue
            and (spec.symbols is None or any(topic.listing.canonical in spec.symbols for topic in client.topics))
        ]

    def _set_clock(self, listing: Listing) -> None:
        """Set the venue's clock off by the sum of all active faults."""
        off_ns = 0
        for fault in self._active(listing.exchange):
            symbols = fault.spec.symbols
            if isinstance(fault.spec.parameters, kinds.ClockSkew) and (symbols is None or listing.canonical in symbols):
                off_ns += int(fault.spec.parameters.ms * MS)
        listing.instrument.clock_off_ns = off_ns

    def _fit(self, fault: Fault, began: bool, now_ns: int) -> None:
        """Put the fault's stage into the venue's pipe, or take it out."""
        spec, pipe = fault.spec, self.pipes.setdefault(fault.spec.venue, Pipe())
        if began:
            seed = f"{self._seed if spec.seed is None else spec.seed}:{spec.venue}:{spec.kind}:{fault.occurrences}"
            pipe.add(fault.fault_id, spec.kind, stage(spec, fault.counts, seed=seed, lose=_lose))
            return
        self._send(pipe.remove(fault.fault_id, now_ns))
        if not pipe:
            del self.pipes[spec.venue]
        if isinstance(spec.parameters, kinds.Stall) and not spec.parameters.replay:
            self._send_full_books(spec, now_ns)

    def _send_full_books(self, spec: Spec, now_ns: int) -> None:
        """Send a full book to subscribers whose next update would not follow the last one they got."""
        for listing in self._listings(spec):
            for topic in listing.live(Kind.BOOK):
                for text in topic.channel.first(listing, now_ns) if topic.channel.first else ():
                    for client in topic.subscribers:
                        if not self.send_current(topic, text, client, now_ns):
                            client.out.append(client.frame(text))

    def _send(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            for client in frame.to:
                if client in self._clients:  # the client may have left while the frame was held
                    client.out.append(client.frame(frame.payload))


def _lose(frame: Frame) -> None:
    """Remove these trades from the venue's REST endpoint too."""
    frame.about.listing.instrument.tape.remove(frame.first_id, frame.last_id)
