"""Markets of two venues, what went wrong on the way, and the raw log that two ingestors made of it.

venue  trades every STEP_MS ─> faults: stall, disconnect, kill, drop, delay, reorder, duplicate, malformed
                                    └─> what arrived, with heartbeats and status records ─> log, by time of receipt
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from hypothesis import strategies as st

from mdstream.records import WS, RawEncoder
from mdstream.repairs import RepairRequest, rest_frame
from mdstream.stream.canonical import Canonical
from mdstream.stream.checkpoint import Restored
from mdstream.stream.rules import Policy, Rules
from mdstream.venues.providers import PROVIDERS

MS = 1_000_000
T0_MS = 1_767_625_200_000
STEP_MS = 100
LATENCY_MS = {"binance": 10, "okx": 30}
JITTER_MS = 15
SYMBOL = "BTCUSDT"
FIRST_IDS = {"binance": 5_680_000_000, "okx": 242_720_000}
VENUES = [provider() for provider in PROVIDERS.values()]
SILENT = ("stall", "disconnect", "kill")
"""Faults during which nothing arrives."""


@dataclass(frozen=True)
class Raw:
    """A record as the transport hands it over."""

    value: bytes | None
    offset: int
    timestamp: int
    key: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Fault(NamedTuple):
    """Something that is wrong with one venue from `at_ms` on for `for_ms`; `by_ms` of delay, where it has any."""

    venue: str
    kind: str
    at_ms: int
    for_ms: int
    by_ms: int = 0

    def has(self, at_ms: int) -> bool:
        return self.at_ms <= at_ms < self.at_ms + self.for_ms


class Made(NamedTuple):
    """A trade as the venue made it, and when it arrived: not at all, once or more often."""

    venue: str
    number: int
    at_ms: int
    arrived_ms: tuple[int, ...]


@dataclass
class History:
    """What was made, what went wrong, and the log."""

    faults: list[Fault]
    made: list[Made] = field(default_factory=list)
    log: list[Raw] = field(default_factory=list)

    def well(self, venue: str, at_ms: int, *, before_ms: int, after_ms: int) -> bool:
        """Whether nothing was wrong with a venue around a time."""
        return not any(
            fault.venue == venue and fault.at_ms < at_ms + after_ms and at_ms - before_ms < fault.at_ms + fault.for_ms
            for fault in self.faults
        )


def frame(venue: str, number: int, at_ms: int) -> bytes:
    """A trade as the venue's websocket sends it."""
    if venue == "binance":
        data = {"e": "trade", "E": at_ms, "s": SYMBOL, "t": number, "p": "1.5", "q": "2", "T": at_ms, "m": True}
        return json.dumps({"stream": "btcusdt@trade", "data": data}, separators=(",", ":")).encode()
    trade = {"instId": "BTC-USDT", "tradeId": str(number), "px": "1.5", "sz": "2", "side": "buy", "ts": str(at_ms),
             "count": "1"}  # fmt: skip
    return json.dumps({"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [trade]}).encode()


def rest_answer(request: RepairRequest, made: Iterable[Made]) -> bytes:
    """What the venue's REST endpoint has of a request, as a raw frame."""
    wanted = [m for m in made if m.venue == request.provider and request.first_id <= m.number <= request.last_id]
    if request.provider == "binance":
        rows = [{"id": m.number, "price": "1.5", "qty": "2", "quoteQty": "3", "time": m.at_ms, "isBuyerMaker": True,
                 "isBestMatch": True} for m in wanted]  # fmt: skip
        path = f"/api/v3/historicalTrades?symbol={SYMBOL}&fromId={request.first_id}&limit={len(rows)}"
        return rest_frame(path, request.id_space, json.dumps(rows).encode())
    rows = [{"instId": "BTC-USDT", "tradeId": str(m.number), "px": "1.5", "sz": "2", "side": "buy", "ts": str(m.at_ms)}
            for m in reversed(wanted)]  # fmt: skip
    path = f"/api/v5/market/history-trades?instId=BTC-USDT&type=1&after={request.last_id + 1}&limit=100"
    return rest_frame(path, request.id_space, json.dumps({"code": "0", "msg": "", "data": rows}).encode())


def raw(venue: str, kind: str, value: bytes, recv_ms: int, offset: int = 0) -> Raw:
    """A record as an ingestor writes it."""
    key, _, _, headers = RawEncoder(venue, WS).encode(SYMBOL.encode(), value, kind.encode(), recv_ms * MS)
    return Raw(value, offset, recv_ms, key, headers)


def history(faults: list[Fault], *, seconds: int, seed: int) -> History:
    """Two venues with these faults for so long."""
    random = Random(seed)
    made: list[Made] = []
    arrivals: list[tuple[int, str, str, bytes]] = []
    for venue, first in FIRST_IDS.items():
        mine = [fault for fault in faults if fault.venue == venue]
        for index in range(seconds * 1000 // STEP_MS):
            at_ms = index * STEP_MS
            trade = _deliver(venue, first + index, at_ms, mine, random)
            made.append(trade)
            arrivals += [(ms, venue, "trade", frame(venue, trade.number, T0_MS + at_ms)) for ms in trade.arrived_ms]
            if any(fault.kind == "malformed" and fault.has(at_ms) for fault in mine):
                arrivals.append(
                    (at_ms + LATENCY_MS[venue], venue, "trade", b'{"stream":"btcusdt@trade","data":{"e":"tr')
                )
        arrivals += _signs_of_life(venue, mine, seconds)
    arrivals.sort(key=lambda arrival: arrival[0])
    log = [raw(venue, kind, value, T0_MS + ms, n) for n, (ms, venue, kind, value) in enumerate(arrivals)]
    return History(faults, [m._replace(at_ms=T0_MS + m.at_ms) for m in made], log)


def _deliver(venue: str, number: int, at_ms: int, faults: list[Fault], random: Random) -> Made:
    arrives_ms = at_ms + LATENCY_MS[venue] + random.randrange(JITTER_MS)
    copies: list[int] = []
    for fault in faults:
        if not fault.has(at_ms):
            continue
        if fault.kind in (*SILENT, "drop"):
            return Made(venue, number, at_ms, ())
        if fault.kind == "delay":
            arrives_ms += fault.by_ms
        elif fault.kind == "reorder":
            arrives_ms += random.randrange(fault.by_ms)
        elif fault.kind == "duplicate":
            copies.append(random.randrange(fault.by_ms))
    return Made(venue, number, at_ms, (arrives_ms, *(arrives_ms + late for late in copies)))


def _signs_of_life(venue: str, faults: list[Fault], seconds: int) -> Iterable[tuple[int, str, str, bytes]]:
    for second in range(seconds):
        if not any(fault.kind == "kill" and fault.has(second * 1000) for fault in faults):
            yield second * 1000, venue, "heartbeat", b"{}"
    for fault in faults:
        if fault.kind == "disconnect":
            lost = {"type": "status", "provider": venue, "state": "disconnected", "reason": "closed (1006)"}
            yield fault.at_ms + LATENCY_MS[venue], venue, "status", json.dumps(lost).encode()
            back = {**lost, "state": "connected", "reason": None}
            yield fault.at_ms + fault.for_ms, venue, "status", json.dumps(back).encode()


def new_stream(rules: Rules, state: Restored | None = None) -> Canonical:
    """A partition's stream from the beginning, or from a restored state."""
    state = state or Restored()
    return Canonical(
        "md.raw.crypto",
        0,
        VENUES,
        rules=rules,
        announces=lambda _: True,
        instruments=state.instruments,
        log=state.log,
        position=state.position or 0,
    )


MERGE = Rules(Policy(("binance", "okx"), merge=True))
FAILOVER = Rules(Policy(("binance", "okx")))


def faults(
    kinds: Sequence[str], *, seconds: int, venues: Sequence[str] = tuple(FIRST_IDS), most: int = 5
) -> st.SearchStrategy[list[Fault]]:
    """Any faults of these kinds within a history of so many seconds."""
    return st.lists(
        st.builds(
            Fault,
            st.sampled_from(venues),
            st.sampled_from(kinds),
            st.integers(2_000, seconds * 1000),
            st.integers(50, 20_000),
            st.integers(20, 700),
        ),
        max_size=most,
    )
