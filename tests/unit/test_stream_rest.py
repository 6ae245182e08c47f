"""Instruments at rest are not evaluated, and nobody can tell: all is as if each were looked at each time.

A partition's log of three instruments, of one source or two, with pauses, holes, repairs and restarts, is processed
twice: by the stream, and by one whose monitor looks at every instrument at every evaluation (plain_monitor.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from unittest.mock import patch
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plain_monitor import PlainMonitor
from stream_histories import Raw
from stream_outputs import RAW, joined, read_into, saved

from mdstream import repairs
from mdstream.records import WS, RawEncoder
from mdstream.repairs import Unrecoverable, rest_frame
from mdstream.stream import canonical, checkpoint
from mdstream.stream.canonical import Canonical
from mdstream.stream.feed_monitor import FeedMonitor
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Out, Output
from mdstream.stream.rules import Override, Policy, Rules
from mdstream.venues.providers import provider

MS, S = 1_000_000, 1_000_000_000
FIRST, SECOND = "binance", "alpaca"
VENUES = [provider(FIRST), provider(SECOND)]
BOTH, ALONE, OTHER = "AAPL", "IBM", "MSFT"
"""Of two sources, of the first, of the second. They are names of stocks, whose market closes; in `crypto`, of coins."""
FIRST_ID = 1000

SETTINGS = {
    "failover": Rules(Policy((FIRST, SECOND))),
    "merge": Rules(Policy((FIRST, SECOND)), (Override(BOTH, merge=True),)),
    FIRST: Rules(Policy((FIRST,))),
    SECOND: Rules(Policy((SECOND,))),
}
"""The users' choices; with the last two a restart removes a source, which may be the followed one."""

NEW_YORK = ZoneInfo("America/New_York")
BELLS = ("03:59:50", "15:59:50", "19:59:50")
"""Ten seconds before a session of the stock market begins or ends."""

Step = tuple[str, int, int]
"""What happens, and two numbers that say of what, how much or for how long."""

PAUSES_MS = (1, 100, 251, 1_100, 4_000, 11_000, 33_000)
ACTIONS = (
    "trade",
    "trade",
    "trade",
    "skip",
    "late",
    "quote",
    "connection",
    "recovered",
    "bad",
    "lost",
    "garbage",
    "halt",
)
pauses = st.tuples(st.just("pause"), st.sampled_from(PAUSES_MS), st.integers(0, 2))
actions = st.tuples(st.sampled_from(ACTIONS), st.integers(0, 3), st.integers(0, 3))
histories = st.lists(actions | actions | pauses, min_size=20, max_size=100)


def start_ns(bell: str) -> int:
    return int(datetime.fromisoformat(f"2026-11-30 {bell}").replace(tzinfo=NEW_YORK).timestamp()) * S


@dataclass
class LogWriter:
    """Two ingestors and a repair: they write a raw log, step by step."""

    now_ns: int
    records: list[Raw] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)
    missing: list[tuple[str, int]] = field(default_factory=list)

    def take(self, step: Step) -> None:
        what, a, b = step
        self.now_ns += MS
        venue, symbol = ((FIRST, BOTH), (SECOND, BOTH), (FIRST, ALONE), (SECOND, OTHER))[a % 4]
        match what:
            case "pause":
                self._pause(a, ("both", FIRST, SECOND)[b])
            case "trade":
                self._trade(venue, symbol, 1)
            case "skip":
                self._trade(venue, symbol, 2 + b)
            case "quote":
                quote = f'{{"u":{self.now_ns},"s":"{symbol}","b":"1.4","B":"1","a":"1.6","A":"1"}}'
                self._write(
                    FIRST, "quote", symbol, f'{{"stream":"{symbol.lower()}@bookTicker","data":{quote}}}'.encode()
                )
            case "connection":
                status = {"provider": venue, "state": "disconnected" if b % 2 else "connected", "reason": "closed"}
                self._write(venue, "status", venue, json.dumps(status).encode())
            case "halt":
                self._write(SECOND, "other", symbol, self._status(symbol, "HTQ"[b % 3]))
            case "garbage":
                self._write(venue, "trade", symbol, b'{"stream":"aapl@trade","data":{"e":"tr')
            case _ if self.missing:
                self._missed(what, *self.missing[b % len(self.missing)], b)

    def _trade(self, venue: str, symbol: str, ahead: int) -> None:
        before = self.newest.get(venue + symbol, FIRST_ID)
        number = self.newest[venue + symbol] = before + ahead
        if venue == FIRST:
            self.missing += ((symbol, missed) for missed in range(before + 1, number))
        self._write(venue, "trade", symbol, self._frame(venue, symbol, number))

    def _frame(self, venue: str, symbol: str, number: int) -> bytes:
        if venue == FIRST:
            ms = self.now_ns // MS
            trade = {"e": "trade", "E": ms, "s": symbol, "t": number, "p": "1.5", "q": "2", "T": ms, "m": True}
            return json.dumps({"stream": f"{symbol.lower()}@trade", "data": trade}, separators=(",", ":")).encode()
        text = f'"x":"V","p":1.5,"s":100,"t":"{self._clock()}","c":["@"],"z":"C"'
        return f'[{{"T":"t","i":{number},"S":"{symbol}",{text}}}]'.encode()

    def _status(self, symbol: str, code: str) -> bytes:
        return f'[{{"T":"s","S":"{symbol}","sc":"{code}","sm":"why","t":"{self._clock()}","z":"C"}}]'.encode()

    def _clock(self) -> str:
        return f"{datetime.fromtimestamp(self.now_ns // MS / 1000, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"

    def _missed(self, what: str, symbol: str, number: int, more: int) -> None:
        """A trade that was skipped arrives late, is recovered, is recovered with an impossible price, or is lost."""
        if what == "late":
            self._write(FIRST, "trade", symbol, self._frame(FIRST, symbol, number))
        elif what == "lost":
            lost = Unrecoverable(symbol, FIRST, "trade", number, number + more % 2, "the venue has no more")
            self._write(FIRST, "repair", symbol, repairs.encode(lost))
        else:
            row = {"id": number, "price": "-1" if what == "bad" else "1.5", "qty": "2", "time": self.now_ns // MS,
                   "isBuyerMaker": True}  # fmt: skip
            path = f"/api/v3/historicalTrades?symbol={symbol}&fromId={number}&limit=1"
            self._write(FIRST, "trade", symbol, rest_frame(path, "trade", json.dumps([row]).encode()))

    def _pause(self, for_ms: int, beating: str) -> None:
        """No data; the ingestors, or one of them, still write a heartbeat a second."""
        end_ns = self.now_ns + for_ms * MS
        while self.now_ns < end_ns:
            self.now_ns = min(self.now_ns + S, end_ns)
            for venue in (FIRST, SECOND):
                if beating in ("both", venue):
                    self._write(venue, "heartbeat", venue, b"{}")

    def _write(self, venue: str, kind: str, key: str, value: bytes) -> None:
        name, _, _, headers = RawEncoder(venue, WS).encode(key.encode(), value, kind.encode(), self.now_ns)
        self.records.append(Raw(value, len(self.records), self.now_ns // MS, name, headers))


def log_of(steps: list[Step], begin_ns: int) -> list[Raw]:
    writer = LogWriter(begin_ns)
    for step in steps:
        writer.take(step)
    writer.take(("pause", 12_000, 0))
    return writer.records


@dataclass
class Worker:
    """A stream of a market, its output and its checkpoints; its monitor is one of a kind."""

    kind: type[FeedMonitor]
    market: str
    outputs: list[Output] = field(default_factory=list)
    written: Out = field(default_factory=list)

    def begins(self, rules: str, log: Sequence[Raw] = ()) -> None:
        """Take the partition over from the last checkpoint, if there is one, with these settings."""
        state = checkpoint.read(read_into(Ledger(RAW, checkpoint.LAYOUT), self.written))
        with patch.object(canonical, "FeedMonitor", self.kind):
            self.stream = Canonical(
                f"md.raw.{self.market}",
                0,
                VENUES,
                rules=SETTINGS[rules],
                announces=lambda _: True,
                instruments=state.instruments,
                log=state.log,
                position=state.position or 0,
            )
        assert not any(joined([self.stream.step(log[self.stream.read_from : self.stream.position])]).values())

    def reads(self, records: list[Raw]) -> None:
        """One batch, and a checkpoint behind it."""
        if records:
            self.outputs.append(self.stream.step(records))
            self.written += saved(self.stream, self.outputs[-1])

    def in_memory(self) -> bytes:
        """The state of all instruments."""
        return msgspec.msgpack.encode(self.stream.instruments, order="sorted")


@given(
    histories,
    st.sampled_from(BELLS),
    st.sampled_from(["crypto", "equities"]),
    st.sampled_from(sorted(SETTINGS)),
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from(sorted(SETTINGS))), max_size=3),
    st.integers(1, 40),
)
@example([("trade", 0, 0), ("pause", 251, 0), ("trade", 1, 0)], BELLS[1], "crypto", "failover", [(0.3, FIRST)], 1)
@settings(max_examples=100)
def test_nothing_changes_by_leaving_instruments_at_rest(
    steps: list[Step], bell: str, market: str, rules: str, restarts: list[tuple[float, str]], batch: int
) -> None:
    """The same bytes on each topic, the same state, and the same checkpoint, whatever came and whoever took over."""
    log = log_of(steps, start_ns(bell))
    tenures = sorted([(0, rules), *((int(share * len(log)), after) for share, after in restarts)])
    ends = [begin for begin, _ in tenures[1:]] + [len(log)]
    rested, plain = (Worker(kind, market) for kind in (FeedMonitor, PlainMonitor))
    for worker in (rested, plain):
        for (begin, settings_), end in zip(tenures, ends, strict=True):
            worker.begins(settings_, log)
            for first in range(begin, end, batch):
                worker.reads(log[first : min(first + batch, end)])
    assert joined(rested.outputs) == joined(plain.outputs)
    assert rested.in_memory() == plain.in_memory()
    assert rested.written == plain.written
