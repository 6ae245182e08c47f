"""`mdstream senpai` as a process, on real servers: every signal once, whatever is killed; members; the live view."""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
import urllib.request
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
from nats_streams import Message, count, held
from pages import page
from processes import Process, Processes, free_port, wait_until
from servers import nats_server
from sink_builders import TRADES, Rec

from mdstream import events
from mdstream.config import load
from mdstream.embedded.nats import EmbeddedNats
from mdstream.errors import SinkError
from mdstream.events import Heartbeat, Quote, Trade
from mdstream.senpai import connected
from mdstream.senpai.connected import Connection
from mdstream.senpai.seen import seen, summary
from mdstream.senpai.state import State
from mdstream.sinks.base import decode
from mdstream.sinks.nats import JetStreamSink
from mdstream.sinks.nats_wire import Wire

pytestmark = pytest.mark.system

SYMBOLS = [f"S{n}USDT" for n in range(20)]
EVENTS_PER_S = 2_000
STEP_NS = 1_000_000_000 // EVENTS_PER_S
TICK_S = 0.05
S = 1_000_000_000
ROW_NS = S // 2
THRESHOLD = 0.001
RULES = {"up": ("long", 1), "down": ("short", -1)}
COOLDOWN_S = 2
SENPAI = {
    "USE_JETSTREAM": "true",
    "NATS_DUPLICATE_WINDOW_S": "1",
    "MDSTREAM_SENPAI_ROWS_PER_S": str(S // ROW_NS),
    "MDSTREAM_SENPAI_STREAM_MESSAGES": "100000",
    "MDSTREAM_SENPAI_MAX_QUOTE_AGE_S": "60",
    "MDSTREAM_SENPAI_RULES": msgspec.json.encode(
        {
            name: {
                "direction": direction,
                ("above" if sign > 0 else "below"): {"return_10s": sign * THRESHOLD},
                "hysteresis": 0.5,
                "cooldown_s": COOLDOWN_S,
            }
            for name, (direction, sign) in RULES.items()
        }
    ).decode(),
}
"""One row in half a second, all of them kept, and rules that come true every few seconds."""


@pytest.fixture
def server() -> Iterator[EmbeddedNats]:
    with nats_server() as running:
        yield running


@pytest.fixture
def processes(tmp_path: Path, server: EmbeddedNats) -> Iterator[Processes]:
    """Nothing here needs Kafka: its address is one where nothing listens."""
    env = {"NATS_URL": server.url, "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    with Processes(tmp_path, env | SENPAI) as running:
        yield running


def event(number: int, begin_ns: int) -> Trade | Quote:
    """The n-th event: symbols in turn, a trade after each quote; mids swing, each symbol's with a shift of its own."""
    place, kind = number % len(SYMBOLS), number // len(SYMBOLS) % 2
    symbol, seq, at = SYMBOLS[place], number // (2 * len(SYMBOLS)), begin_ns + number * STEP_NS
    mid = 100 * (1 + 0.002 * math.sin(2 * math.pi * (number * STEP_NS / S / 8 + place / len(SYMBOLS))))
    if kind:
        return Trade(symbol, seq, "binance", str(seq), mid, 1.0, "buy", at, at)
    return Quote(symbol, seq, "binance", mid - 0.001, 1.0, mid + 0.001, 1.0, at, at)


class Feed:
    """Writes events into the stream at their pace, by a thread of its own; each once and in order, as the nats role."""

    def __init__(self, url: str) -> None:
        self._url, self.begin_ns = url, time.time_ns()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.written = 0

    async def _run(self) -> None:
        sink = JetStreamSink(load(nats_url=self._url, use_jetstream=True, nats_duplicate_window_s=1.0))
        while not self._stopping.is_set():
            due = (time.time_ns() - self.begin_ns) // STEP_NS
            some = [event(number, self.begin_ns) for number in range(self.written, min(due, self.written + 2_000))]
            await self._write(sink, some)
            self.written += len(some)
            await asyncio.sleep(TICK_S)
        last_ns = self.begin_ns + self.written * STEP_NS
        await self._write(sink, [Heartbeat(events.SYSTEM, "binance", None, last_ns + 5 * S)])
        await sink.close()

    async def _write(self, sink: JetStreamSink, some: list[Any]) -> None:
        records = [Rec(self.written + n, events.encode(each)) for n, each in enumerate(some)]
        while some:
            try:
                await sink.write([decode(TRADES, records)[0]])
            except SinkError:  # the server is away
                await asyncio.sleep(TICK_S)
            else:
                return

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def start(self) -> None:
        self._thread.start()


@contextmanager
def feed_into(server: EmbeddedNats) -> Iterator[Feed]:
    """Events that flow; the last is a heartbeat of later, so that each row is due."""
    feed = Feed(server.url)
    feed.start()
    try:
        yield feed
    finally:
        feed.stop()


def expected(feed: Feed) -> tuple[set[tuple[str, int]], set[tuple[str, int, str]]]:
    """Symbol and T of each row, and of each signal with its rule: computed from lists, with plain comparisons."""
    times: dict[str, list[int]] = defaultdict(list)
    quoted: dict[str, list[int]] = defaultdict(list)
    mids: dict[str, list[float]] = defaultdict(list)
    for number in range(feed.written):
        each = event(number, feed.begin_ns)
        times[each.symbol].append(each.ts_recv)
        if isinstance(each, Quote):
            assert each.bid is not None
            assert each.ask is not None
            quoted[each.symbol].append(each.ts_recv)
            mids[each.symbol].append((each.bid + each.ask) / 2)
    rows, signals = set(), set()
    for symbol, received in times.items():
        due = sorted({-(-at // ROW_NS) * ROW_NS for at in received})
        rows |= {(symbol, ts) for ts in due}
        change = {ts: _change(ts, quoted[symbol], mids[symbol]) for ts in due}
        whole = {ts for ts in due if ts - 10 * S >= received[0]}
        for rule, (_, sign) in RULES.items():
            signals |= {(symbol, ts, rule) for ts in _true(change, whole, sign)}
    return rows, signals


def _change(ts: int, quoted: list[int], mids: list[float]) -> float | None:
    now, before = bisect_right(quoted, ts), bisect_right(quoted, ts - 10 * S)
    return mids[now - 1] / mids[before - 1] - 1 if now and before else None


def _true(change: Mapping[int, float | None], whole: set[int], sign: int) -> Iterator[int]:
    """When a rule gives a signal."""
    armed, last = True, -1 << 62
    for ts, found in change.items():
        if found is None:
            continue
        if sign * found < THRESHOLD * 0.5:
            armed = True
        elif sign * found >= THRESHOLD and armed and ts in whole and ts >= last + COOLDOWN_S * S:
            yield ts
            armed, last = False, ts


async def stored(server: EmbeddedNats) -> list[Message]:
    return await held(server.url, "SENPAI")


def check(messages: list[Message], feed: Feed) -> None:
    """Each row and each signal of the plain computation is there, once, and nothing else."""
    rows, signals = expected(feed)
    of = [message.event for message in messages if ".state." not in message.subject]
    found = [(each["symbol"], each["ts"]) for each in of if each["type"] == "features"]
    made = [(each["symbol"], each["ts"], each["rule"]) for each in of if each["type"] == "signal"]
    assert len(signals) > len(SYMBOLS)
    assert sorted(made) == sorted(signals)
    assert sorted(found) == sorted(rows)
    begun = [(each["id"], each["state"]) for each in of if each["type"] == "alert"]
    assert len(begun) == len(set(begun))


def is_done(port: int, feed: Feed) -> bool:
    """Whether a consumer has stepped the feed's last event, and stored what it made of it."""
    status, stats = page(port, "/stats")
    behind_ns = feed.begin_ns + feed.written * STEP_NS + 5 * S
    return status == 200 and stats["pending"] == 0 and stats["latest_ns"] >= behind_ns and stats["unstored"] == 0


def test_every_signal_is_stored_once_whatever_is_killed(processes: Processes, server: EmbeddedNats) -> None:
    """SIGKILL ten times at 2,000 events a second, and the server killed and started again twice."""
    port, rng = free_port(), random.Random(5)
    senpai = processes.mdstream("senpai", "--port", port)
    senpai.wait_for("there is no stream MDSTREAM yet")
    with feed_into(server) as feed:
        for kill in range(10):
            wait_for_more(server, 40)
            if kill in (3, 7):
                server.kill()
                server.start()
                wait_for_more(server, 40)
            time.sleep(rng.random())
            senpai.kill()
            senpai = processes.mdstream("senpai", "--port", port)
        wait_for_more(server, 40)
    wait_until(lambda: is_done(port, feed), what="the last event", limit_s=300)
    check(asyncio.run(stored(server)), feed)
    assert senpai.stop() == 0


def wait_for_more(server: EmbeddedNats, messages: int) -> None:
    """Until so many messages are stored beyond those that are there now."""
    before = asyncio.run(count(server.url, "SENPAI"))
    wait_until(lambda: asyncio.run(count(server.url, "SENPAI")) >= before + messages, what="messages", limit_s=300)


def test_members_share_the_symbols(processes: Processes, server: EmbeddedNats) -> None:
    """Three of them, one killed: the others go on, and when it is back nothing is missing or twice."""
    ports = [free_port() for _ in range(3)]

    def start(member: int) -> Process:
        return processes.mdstream("senpai", "--member", f"{member + 1}/3", "--port", ports[member])

    members = [start(member) for member in range(3)]
    for each in members:
        each.wait_for("there is no stream MDSTREAM yet")
    with feed_into(server) as feed:
        wait_for_more(server, 200)
        members[1].kill()
        wait_for_more(server, 400)
        members[1] = start(1)
        wait_until(lambda: page(ports[1], "/ready")[0] == 200, what="readiness")
        wait_for_more(server, 400)
    wait_until(lambda: all(is_done(port, feed) for port in ports), what="the last event", limit_s=300)
    shares = [set(page(port, "/features/latest")[1]["symbols"]) for port in ports]
    assert sorted(symbol for share in shares for symbol in share) == sorted(SYMBOLS)
    assert all(shares)
    check(asyncio.run(stored(server)), feed)


def test_a_second_process_of_the_same_name_doubles_nothing(processes: Processes, server: EmbeddedNats) -> None:
    """Each takes the consumer from the other; what one has stored the other is refused."""
    ports = [free_port() for _ in range(2)]
    both = [processes.mdstream("senpai", "--port", port) for port in ports]
    for each in both:
        each.wait_for("there is no stream MDSTREAM yet")
    with feed_into(server) as feed:
        wait_for_more(server, 500)
        both[0].kill()
        wait_for_more(server, 500)
    wait_until(lambda: is_done(ports[1], feed), what="the last event", limit_s=300)
    check(asyncio.run(stored(server)), feed)


async def heard(server: EmbeddedNats, messages: int) -> list[dict[str, Any]]:
    """What a subscriber hears."""
    async with await nats.connect(server.url) as client:
        subscription = await client.subscribe("senpai.>")
        return [msgspec.json.decode((await subscription.next_msg(timeout=120)).data) for _ in range(messages)]


def test_the_live_view_starts_with_whole_windows(processes: Processes, server: EmbeddedNats) -> None:
    """The last minute is read from the stream; pages and metrics say what is there."""
    port = free_port()
    with feed_into(server) as feed:
        wait_until(lambda: feed.written > 12 * EVENTS_PER_S, what="twelve seconds of events", limit_s=300)
        processes.mdstream("senpai", "--port", port, env={"USE_JETSTREAM": "false"})
        found = asyncio.run(heard(server, 100))
        wait_until(lambda: page(port, "/ready")[0] == 200, what="readiness")
        assert {each["type"] for each in found} <= {"features", "signal", "alert"}
        rows = [each for each in found if each["type"] == "features"]
        assert all(row["features"]["return_10s"] is not None for row in rows)
        assert all("return_10s" not in row.get("incomplete", ()) for row in rows)
        assert page(port, "/features/latest?symbol=s1usdt")[1]["symbol"] == "S1USDT"
        assert page(port, "/state/latest?symbol=S1USDT")[1]["quote"]["symbol"] == "S1USDT"
        assert page(port, "/features/latest?symbol=none")[0] == 404
        shown = seen(f"http://127.0.0.1:{port}/")
        assert shown is not None
        assert shown.rows_per_s > 0
        assert " s behind, " in summary(shown)
        assert "polyline" in text(port, "/")
        assert 'senpai_events_total{outcome="trade"}' in text(port, "/metrics")


def test_pauses_between_connections_begin_short_again_once_one_ran(
    server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of reading: one that is lost now and then must not wait longer each time. Here a second pause in a row
    never ends."""
    monkeypatch.setattr(connected, "delays_s", lambda *_, **__: iter([0.0, 1e9]))
    state = State("senpai-md", "live")

    async def lost_five_times() -> None:
        done = asyncio.Event()

        async def session(_wire: Wire) -> None:
            state.problem = None
            if state.reconnects == 5:
                done.set()
            raise ConnectionResetError

        running = asyncio.create_task(
            Connection(load(nats_url=server.url), state).keep(session, outcome="it is tested")
        )
        await asyncio.wait_for(done.wait(), 120)
        running.cancel()

    asyncio.run(lost_five_times())


def text(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        found: str = answer.read().decode()
        return found
