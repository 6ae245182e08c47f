"""One event in, messages out: repeats and holes by `seq`, the windows, rows on the grid, signals, alerts. Pure.

    receive time  ──e──e─────|──e─e──|─────e──────>     a row at T has what was received by T
                             T1      T2                 it is made when an event of the symbol was received after
                                                        T + lateness, or `advance` says that this much time passed

A row's contents depend on the events' own times, not on the order in which trades, quotes and statuses arrive within
the lateness. What was received by T but arrives after the row was made is in the next row. A symbol has a row at T only
if something of it is in that row. docs/senpai.md says the same for users.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache, partial

import msgspec

from mdstream.senpai import inputs
from mdstream.senpai.alerts import Alerts, Open
from mdstream.senpai.features import FEATURES, mid_of, moment, values
from mdstream.senpai.inputs import SYSTEM, Event, Gap, Heartbeat, Quote, Status, Trade
from mdstream.senpai.messages import Block, Features, Message
from mdstream.senpai.signals import DEFAULTS, SECOND_NS, Armed, Rule
from mdstream.senpai.window import LONG_NS, SHORT_NS, Window

MAX_SYMBOLS = 10_000
MAX_GAPS = 256
"""Gaps of a symbol that are remembered one by one; more count as lost."""
MAX_JUMP = 1_000_000
"""A larger step of `seq` is a new count, not so many lost events."""
FORGOTTEN_NS = 7 * 86_400 * SECOND_NS
"""A symbol that came and went must not be in every memory for ever."""
PRESSED, RELIEVED = 0.8, 0.7
"""Fill of the queue at which the alert on back-pressure begins and ends."""
NEVER = -(1 << 62)
WINDOWS = sorted({feature.window_ns for feature in FEATURES.values()} - {0})
NO_WINDOW = 1 << 62


@dataclass(frozen=True)
class Limits:
    """`rows_per_s` has to divide ten seconds and a second into whole nanoseconds. `since_ns`: from when on the input
    is whole; None: from a symbol's first event."""

    rows_per_s: int = 10
    lateness_ns: int = 50_000_000
    stale_ns: int = 10 * SECOND_NS
    max_quote_age_ns: int = 2 * SECOND_NS
    max_latency_ms: float = 1000.0
    since_ns: int | None = None
    rules: tuple[Rule, ...] = DEFAULTS

    @property
    def step_ns(self) -> int:
        return SECOND_NS // self.rows_per_s


class Symbol:
    """What is known of one symbol. `open_ns` is the T of the row being filled."""

    __slots__ = (
        "armed", "dirty", "from_first", "gaps", "heard_ns", "holes", "last_seq", "name", "open_ns", "packed", "quote",
        "row", "seen_seq", "sent_ns", "since_ns", "stale", "switched_ns", "trade", "waiting", "window",
    )  # fmt: skip

    def __init__(self, name: str, first_ns: int, limits: Limits) -> None:
        self.name = name
        slot = -(-(first_ns - limits.lateness_ns) // limits.step_ns)
        self.open_ns = slot * limits.step_ns
        self.window = Window(limits.step_ns, slot)
        self.from_first = limits.since_ns is None
        self.since_ns = first_ns if limits.since_ns is None else limits.since_ns
        self.heard_ns = first_ns
        self.dirty = self.stale = False
        self.waiting: list[tuple[Trade | Quote | Status | Gap, int]] = []
        self.last_seq: dict[type, int] = {}
        self.seen_seq: dict[type, int] = {}  # before the restart
        self.holes = {"trade": NEVER, "quote": NEVER}  # receive time of the first event after the last hole
        self.gaps: dict[tuple[str, str, str], int] = {}
        self.switched_ns = NEVER
        self.trade: Trade | None = None
        self.quote: Quote | None = None
        self.row: Features | None = None
        self.sent_ns = NEVER
        self.armed = [Armed(rule) for rule in limits.rules]
        self.packed: msgspec.Raw | None = None  # the memory, until it changes

    def memory(self) -> msgspec.Raw:
        """What no events of the last minute tell, as a packed Memory."""
        if self.packed is None:
            rules = {_key(armed.rule): (armed.active, armed.last_ns) for armed in self.armed}
            seqs = self.seen_seq | self.last_seq
            since_ns, from_first = self.since_ns, self.from_first
            memory = Memory(self.sent_ns, since_ns, rules, seqs.get(Trade), seqs.get(Quote), from_first, self.heard_ns)
            self.packed = msgspec.Raw(_pack(memory))
        return self.packed

    def remember(self, memory: Memory) -> None:
        """Go on from a memory; rules that are new since then are armed."""
        self.packed = None
        self.sent_ns = memory.sent_ns
        if memory.since_ns is not None:
            self.since_ns, self.from_first = memory.since_ns, memory.from_first
        if memory.heard_ns is not None:
            self.heard_ns = min(self.heard_ns, memory.heard_ns)
        seqs = {Trade: memory.trade_seq, Quote: memory.quote_seq}
        self.seen_seq = {kind: seq for kind, seq in seqs.items() if seq is not None}
        for armed in self.armed:
            armed.active, armed.last_ns = memory.rules.get(_key(armed.rule), (False, None))


class Memory(msgspec.Struct, array_like=True):
    """A symbol's last T, since when its input is whole (None: from its next event), its rules: whether each is active
    and T of its last signal; the last `seq` of each type; whether the input is whole since the symbol's first event;
    when it was last heard."""

    sent_ns: int
    since_ns: int | None
    rules: dict[str, tuple[bool, int | None]]
    trade_seq: int | None
    quote_seq: int | None
    from_first: bool = False
    heard_ns: int | None = None


class Memories(msgspec.Struct, array_like=True):
    """Those of all symbols, and the open alerts."""

    symbols: dict[str, Memory]
    alerts: list[Open]


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Memories).decode


def _key(rule: Rule) -> str:
    return f"{rule.name}.{rule.version}"


class Engine:
    """The state of all symbols. `step` and `advance` return messages, in the order in which to publish them."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.symbols: dict[str, Symbol] = {}
        self.counts: Counter[str] = Counter()
        """Events by what became of them: their type if used; repeat, late, malformed, unknown, future, old, price,
        surplus, ignored if not; hole and missing count what is not there."""
        self.latest_ns = 0
        """The latest receive time of any event."""
        self._out: list[Message] = []
        self.alerts = Alerts(self._out.append)
        self._pending: dict[str, Symbol] = {}
        self._remembered = Memories({}, [])

    def step(self, value: bytes, now_ns: int | None = None) -> list[Message]:
        """Process a message. `now_ns`: when it arrived, to refuse events from the future; None: it cannot be told."""
        try:
            event = inputs.decode(value)
        except inputs.UNREADABLE:
            self.counts[inputs.why_unreadable(value)] += 1
            return []
        return self.take(event, now_ns)

    def take(self, event: Event, now_ns: int | None = None) -> list[Message]:
        """Process an event."""
        kind = type(event)
        if kind is Trade or kind is Quote:
            self._numbered(event, now_ns)  # type: ignore[arg-type]
        elif isinstance(event, Status | Gap | Heartbeat):
            self._told(event, now_ns)
        else:
            self.counts["ignored"] += 1
        return self._taken()

    def advance(self, until_ns: int, *, most: int | None = None) -> list[Message]:
        """Make the rows and alerts that are due although nothing came; nothing received before is awaited any more.

        With `most` it stops soon after that many messages: if there are as many, call it again for the others.
        """
        for symbol in list(self._pending.values()):
            if most is not None and len(self._out) >= most:
                return self._taken()
            self._close(symbol, until_ns)
        for symbol in self.symbols.values():
            if most is not None and len(self._out) >= most:
                return self._taken()
            self._check_stale(symbol, until_ns)
            if symbol.stale and until_ns - symbol.heard_ns > LONG_NS:
                self._end_of_window(symbol, until_ns)
        dropped_ns = self.alerts.last_ns("drop", SYSTEM)
        if dropped_ns is not None and until_ns - dropped_ns > LONG_NS:
            self.alerts.end("drop", SYSTEM)
        return self._taken()

    def queue(self, fill: float, dropped: int, at_ns: int) -> list[Message]:
        """Report the queue before the engine: the share that is used, and what was dropped since the last report."""
        if fill >= PRESSED:
            self.alerts.seen("backpressure", SYSTEM, at_ns, f"the queue is {fill:.0%} full")
        elif fill < RELIEVED:
            self.alerts.end("backpressure", SYSTEM)
        if dropped:
            self.alerts.seen("drop", SYSTEM, at_ns, "the queue was full", count=dropped)
        return self._taken()

    def memory(self) -> bytes:
        """What a restart needs beside the events of the last minute: rows and signals up to now are not made again."""
        now = {name: symbol.memory() for name, symbol in self.symbols.items()}
        return _pack((self._remembered.symbols | now, self.alerts.memory()))

    def remember(self, memory: bytes, *, whole: bool = True) -> None:
        """Go on where another engine was. Before anything else; then step the events since a minute before its last
        rows, ignore what they return, and `resume`. `whole`: all of these events are there. Symbols that were silent
        for longer than FORGOTTEN_NS are new ones.

        Raises msgspec.MsgspecError for what is no memory.
        """
        self._remembered = _unpack(memory)
        symbols = self._remembered.symbols
        last_ns = max((each.heard_ns or 0 for each in symbols.values()), default=0)
        for name in [n for n, each in symbols.items() if each.heard_ns and each.heard_ns < last_ns - FORGOTTEN_NS]:
            del symbols[name]
        for each in () if whole else self._remembered.symbols.values():
            each.since_ns = None

    def resume(self) -> None:
        """What was stepped so far was known to the engine that is remembered; what comes now is new."""
        self.alerts.remember(self._remembered.alerts)
        self.counts.clear()
        for name, memory in list(self._remembered.symbols.items()):  # silent for longer than what was stepped
            stale = self.alerts.last_ns("stale", name) is not None
            if not stale and memory.heard_ns is not None and memory.since_ns is not None:
                self._symbol(name, memory.heard_ns)

    def _taken(self) -> list[Message]:
        if not self._out:
            return []
        taken = self._out[:]
        self._out.clear()  # the alerts hold on to this list
        return taken

    # -- events

    def _numbered(self, event: Trade | Quote, now_ns: int | None) -> None:
        why = inputs.why_refused(event, now_ns)
        if why is not None and why != "old":  # its number is right: a repair published it
            self.counts[why] += 1
            return
        symbol = self._symbol(event.symbol, event.ts_recv)
        if symbol is None:
            return
        symbol.packed = None
        kind = type(event)
        last, missing = symbol.last_seq.get(kind), 0
        if last is None and event.seq > (seen := symbol.seen_seq.get(kind, event.seq)):
            last = seen
        if last is not None and event.seq != last + 1:
            if event.seq <= last:
                self.counts["repeat"] += 1
                return
            missing = event.seq - last - 1
            self.counts["hole"] += 1
            self.counts["missing"] += missing if missing < MAX_JUMP else 0
        symbol.last_seq[kind] = event.seq
        received_ns = event.ts_recv
        if received_ns > symbol.heard_ns and why is None:
            self._check_stale(symbol, received_ns)
            symbol.heard_ns = received_ns
            if symbol.stale:
                symbol.stale = False
                self.alerts.end("stale", symbol.name)
        self._place(symbol, event, missing)

    def _check_stale(self, symbol: Symbol, now_ns: int) -> None:
        at_ns = symbol.heard_ns + self.limits.stale_ns
        if now_ns > at_ns and not symbol.stale:
            symbol.stale = True
            self.alerts.seen("stale", symbol.name, at_ns, "neither a trade nor a quote")

    def _told(self, event: Status | Gap | Heartbeat, now_ns: int | None) -> None:
        if now_ns is not None and event.ts_recv > now_ns + inputs.AHEAD_NS:
            self.counts["future"] += 1
            return
        self.counts[str(type(event).__struct_config__.tag)] += 1
        self.latest_ns = max(self.latest_ns, event.ts_recv)
        symbol = self.symbols.get(event.symbol)
        if symbol is not None and not isinstance(event, Heartbeat):
            self._place(symbol, event, 0)

    def _symbol(self, name: str, first_ns: int) -> Symbol | None:
        found = self.symbols.get(name)
        if found is None:
            if len(self.symbols) >= MAX_SYMBOLS:
                self.counts["surplus"] += 1
                return None
            found = self.symbols[name] = Symbol(name, first_ns, self.limits)
            if (memory := self._remembered.symbols.pop(name, None)) is not None:
                found.remember(memory)
            found.stale = self.alerts.last_ns("stale", name) is not None
        return found

    def _place(self, symbol: Symbol, event: Trade | Quote | Status | Gap, missing: int) -> None:
        """Put an event into the row being filled, or let it wait for a later one; `missing`: events before it."""
        received_ns = event.ts_recv
        if received_ns > self.latest_ns:
            self.latest_ns = received_ns
        if received_ns > symbol.open_ns:
            if received_ns > symbol.open_ns + self.limits.lateness_ns:
                self._close(symbol, received_ns)
            if received_ns > symbol.open_ns:
                symbol.waiting.append((event, missing))
                self._pending[symbol.name] = symbol
                return
        self._apply(symbol, event, missing)

    def _apply(self, symbol: Symbol, event: Trade | Quote | Status | Gap, missing: int) -> None:
        if isinstance(event, Status):
            self._switch(symbol, event)
        elif isinstance(event, Gap):
            self._gap(symbol, event)
        else:
            self._use(symbol, event, missing)

    def _use(self, symbol: Symbol, event: Trade | Quote, missing: int) -> None:
        window, at_ns, received_ns = symbol.window, event.at, event.ts_recv
        if received_ns < symbol.since_ns and symbol.from_first and received_ns > symbol.open_ns - self.limits.step_ns:
            symbol.since_ns = received_ns  # in time for its row, so it might as well have come first
            symbol.packed = None
        name = "trade" if type(event) is Trade else "quote"
        if missing:
            symbol.holes[name] = max(symbol.holes[name], received_ns)
            self.alerts.seen("gap", symbol.name, received_ns, f"{name}s are missing, by seq")
        slot = window.slot(at_ns)
        if slot <= window.start:
            self.counts["old" if at_ns <= received_ns - inputs.OLD_NS else "late"] += 1
            return
        self.counts[name] += 1
        symbol.dirty = True
        self._pending[symbol.name] = symbol
        if isinstance(event, Trade):
            window.add_trade(slot, event.price, event.size, event.count)
            if symbol.trade is None or (at_ns, event.seq) > (symbol.trade.at, symbol.trade.seq):
                symbol.trade = event
            if event.recovered:  # it came later for other reasons
                return
        else:
            mid = mid_of(event)
            if mid is not None and mid > 0:
                window.add_mid(event.provider, slot, (at_ns, event.seq), mid)
            if symbol.quote is None or event.seq > symbol.quote.seq:
                symbol.quote = event
        if event.ts_exchange is not None:
            window.add_latency(slot, received_ns - event.ts_exchange)

    def _switch(self, symbol: Symbol, event: Status) -> None:
        if event.state == "switched":
            symbol.switched_ns = max(symbol.switched_ns, event.ts_recv)
            self.alerts.seen("switched", symbol.name, event.ts_recv, f"{event.previous} to {event.provider}"[:200])

    def _gap(self, symbol: Symbol, event: Gap) -> None:
        key = event.provider, event.first_id, event.last_id
        if event.state == "open":
            if len(symbol.gaps) >= MAX_GAPS:
                oldest = next(iter(symbol.gaps))
                symbol.holes["trade"] = max(symbol.holes["trade"], symbol.gaps.pop(oldest))
            symbol.gaps[key] = event.ts_recv
            self.alerts.seen("gap", symbol.name, event.ts_recv, f"trades of {event.provider} are missing"[:200])
            return
        opened_ns = symbol.gaps.pop(key, None)
        if event.state == "lost":
            symbol.holes["trade"] = max(symbol.holes["trade"], event.ts_recv if opened_ns is None else opened_ns)

    # -- rows

    def _close(self, symbol: Symbol, received_ns: int) -> None:
        """Make the rows that nothing received from now on can be in; open the one that comes next."""
        step_ns, lateness_ns = self.limits.step_ns, self.limits.lateness_ns
        while received_ns > symbol.open_ns + lateness_ns:
            if symbol.dirty:
                self._row(symbol)
            first_ns = received_ns - lateness_ns
            for event, _ in symbol.waiting:
                first_ns = min(first_ns, event.ts_recv)
            symbol.open_ns = max(symbol.open_ns + step_ns, -(-first_ns // step_ns) * step_ns)
            symbol.window.advance(symbol.open_ns // step_ns)
            self._apply_waiting(symbol)
        if not symbol.dirty and not symbol.waiting:
            self._pending.pop(symbol.name, None)

    def _apply_waiting(self, symbol: Symbol) -> None:
        waiting, symbol.waiting = symbol.waiting, []
        for event, missing in waiting:
            if event.ts_recv <= symbol.open_ns:
                self._apply(symbol, event, missing)
            else:
                symbol.waiting.append((event, missing))

    def _row(self, symbol: Symbol) -> None:
        """Send the row of the open T, and the signals and alerts that follow from it."""
        symbol.dirty = False
        ts = symbol.open_ns
        if ts <= symbol.sent_ns:  # before the restart
            return
        symbol.sent_ns, symbol.packed = ts, None
        now = moment(symbol.window, symbol.quote)
        quote, found = now.quote, values(now)
        incomplete = _incomplete(symbol, ts)
        latency_ms = found["latency_ms_p50"]
        late = latency_ms is not None and latency_ms > self.limits.max_latency_ms
        symbol.row = row = Features(
            symbol.name,
            ts,
            None if quote is None else quote.provider,
            None if quote is None else quote.at,
            found,
            not incomplete,
            incomplete,
            ts - LONG_NS < symbol.switched_ns,
            late,
        )
        self._out.append(row)
        if late:
            self.alerts.seen("late", symbol.name, ts, f"median latency {latency_ms:.0f} ms")
        else:
            self.alerts.end("late", symbol.name)
        self._end_of_window(symbol, ts)
        self._signals(symbol, row)

    def _end_of_window(self, symbol: Symbol, ts: int) -> None:
        """End the alerts whose cause is no longer in the window."""
        start_ns, name = ts - LONG_NS, symbol.name
        if symbol.switched_ns <= start_ns:
            self.alerts.end("switched", name)
        if max(*symbol.holes.values(), *symbol.gaps.values()) <= start_ns:
            self.alerts.end("gap", name)

    def _signals(self, symbol: Symbol, row: Features) -> None:
        for armed in symbol.armed:
            rule = armed.rule
            signal = armed.step(row, partial(self._blocks, symbol, row, rule))
            if signal is not None:
                self._out.append(signal)
            if armed.blocked:
                reason = f"no signal: {', '.join(armed.blocked)}"
                self.alerts.seen("blocked", symbol.name, row.ts, reason, subject=rule.name)
            else:
                self.alerts.end("blocked", symbol.name, subject=rule.name)

    def _blocks(self, symbol: Symbol, row: Features, rule: Rule) -> tuple[Block, ...]:
        """What makes a row unfit for a rule's signal."""
        found: list[Block] = []
        if symbol.quote is None or row.ts - symbol.quote.ts_recv > self.limits.max_quote_age_ns:
            found.append("stale")
        if any(name in row.incomplete for name in rule.features):
            found.append("incomplete")
        if row.ts - max(rule.window_ns, SHORT_NS) < symbol.switched_ns:
            found.append("switched")
        if row.late:
            found.append("late")
        return tuple(found)


def _incomplete(symbol: Symbol, ts: int) -> tuple[str, ...]:
    """The features whose window at T may lack events."""
    since_ns, trade_ns, quote_ns = symbol.since_ns, symbol.holes["trade"], symbol.holes["quote"]
    if symbol.gaps:
        trade_ns = max(trade_ns, *symbol.gaps.values())
    trade_ns, quote_ns = max(since_ns, trade_ns), max(since_ns, quote_ns)
    if ts - LONG_NS >= trade_ns and ts - LONG_NS >= quote_ns:
        return ()
    return _lacking(_shortest_longer(ts - trade_ns), _shortest_longer(ts - quote_ns))


def _shortest_longer(age_ns: int) -> int:
    """The shortest window that is longer than that."""
    return next((window_ns for window_ns in WINDOWS if window_ns > age_ns), NO_WINDOW)


@cache
def _lacking(trade_ns: int, quote_ns: int) -> tuple[str, ...]:
    """The features whose window is, by what is in it, at least so long: one of WINDOWS, or NO_WINDOW."""
    least = {"trade": trade_ns, "quote": quote_ns}
    return tuple(
        name
        for name, feature in FEATURES.items()
        if feature.window_ns and any(feature.window_ns >= least[kind] for kind in feature.kinds)
    )
