"""`mdstream backfill --interval`: a venue's bars from before the live trades, whatever is killed meanwhile.

venue    ───────────── trades ──────────────────────────────>
ingest                             from here on, live  ══════>
backfill   <════ klines ══════════════│══ killed, and started again
sinks      the venue's bars ──────────│── bars of the trades: all are those of the venue's journal, each once
"""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from itertools import count
from math import fsum
from pathlib import Path

import databases
import pytest
from aiohttp import web
from past import SECOND_NS, Slow, ago, front
from processes import LIMIT_S, Processes, free_port, run_mdstream, wait_until
from venues import Made, Venues
from websockets.asyncio.client import connect

from mdstream.embedded.postgres import EmbeddedPostgres
from mdstream.ticks import TradeTick
from mdstream.venues.providers import provider

pytestmark = pytest.mark.system

SYMBOLS = ("BTCUSDT", "ETHUSDT")
INTERVALS = {"1s": SECOND_NS, "1m": 60 * SECOND_NS}
BEFORE_S = 15
"""The venue trades for so long before anybody asks."""
Bar = tuple[float, float, float, float, float, float, int]
"""Open, high, low, close, volume, turnover, trades."""


async def trade(venues: Venues) -> None:
    """Let Binance trade for a while; nobody keeps what it sends."""
    of, times = provider("binance"), list[int]()
    async with connect(venues.urls["BINANCE_WS_URL"], compression=None, max_queue=None) as socket:
        for request in of.subscribe(SYMBOLS):
            await socket.send(request.frame)
        while not times or times[-1] - times[0] < BEFORE_S * SECOND_NS:
            ticks = of.decode(await socket.recv(decode=False))
            times += [tick.ts_exchange or 0 for tick in ticks if isinstance(tick, TradeTick)]


def started(processes: Processes, env: dict[str, str], journal: Path) -> Venues:
    """A venue that has a past, and topics."""
    venues = Venues.start(processes, journal, "--rate", 100, "--symbols", ",".join(SYMBOLS), "--linger", 3600)
    env |= venues.urls | {"MDSTREAM_BARS": ",".join(INTERVALS)}
    asyncio.run(asyncio.wait_for(trade(venues), LIMIT_S))
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    return venues


def backfill(start: str, intervals: str = ",".join(INTERVALS)) -> tuple[str, ...]:
    symbols = ",".join(SYMBOLS)
    return "backfill", "--provider", "binance", "--symbols", symbols, "--interval", intervals, "--start", start


def kill_after(processes: Processes, env: Mapping[str, str], start: str, venue: Slow, answers: int) -> None:
    """Start a backfill, and kill it when it has had so many answers, or a little later."""
    before = venue.answered
    process = processes.mdstream(*backfill(start), env=env)
    wait_until(lambda: venue.answered >= before + answers, what="answers to a backfill", every_s=0.005)
    time.sleep(random.Random(before).uniform(0.0, 0.15))
    assert process.running, process.output()
    process.kill()


def aggregated(made: list[Made], symbol: str, interval_ns: int) -> dict[int, Bar]:
    """The bars of what the venue made, by their beginning."""
    groups: dict[int, list[Made]] = defaultdict(list)
    for each in sorted(made, key=lambda each: (each.ts_exchange, int(each.trade_id))):
        if (each.provider, each.symbol) == ("binance", symbol):
            groups[each.ts_exchange // interval_ns * interval_ns].append(each)
    return {
        begin: (
            group[0].price,
            max(each.price for each in group),
            min(each.price for each in group),
            group[-1].price,
            fsum(each.size for each in group),
            fsum(each.size * each.price for each in group),
            sum(each.fills for each in group),
        )
        for begin, group in groups.items()
    }


Stored = Callable[[str, str], dict[int, Bar]]
"""The stored bars of a symbol and interval, by their beginning."""


def in_sqlite(env: Mapping[str, str], symbol: str, interval: str) -> dict[int, Bar]:
    path = Path(env["MDSTREAM_DATA_DIR"]) / "market_data.db"
    columns = "ts_open, open, high, low, close, volume, quote_volume, trades"
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(
            f"SELECT {columns} FROM bars WHERE symbol = ? AND interval = ?", (symbol, interval)
        ).fetchall()
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: row[1:] for row in rows}


def in_postgres(url: str, symbol: str, interval: str) -> dict[int, Bar]:
    opened = "(extract(epoch FROM timestamp) * 1000000)::bigint * 1000"
    columns = f"{opened}, open, high, low, close, volume, quote_volume, trades"
    rows = databases.ask(
        url, f"SELECT {columns} FROM market_data_ohlcv WHERE symbol = %s AND interval = %s", symbol, interval
    )
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: tuple(row[1:]) for row in rows}


def live_from(env: Mapping[str, str]) -> int:
    """When the live trades began: after this no bar of the venue is taken."""
    path = Path(env["MDSTREAM_DATA_DIR"]) / "market_data.db"
    with closing(sqlite3.connect(path)) as database:
        ((found,),) = database.execute("SELECT max(t) FROM (SELECT min(ts_exchange) t FROM trades GROUP BY symbol)")
    return int(found)


def has_trades(env: Mapping[str, str]) -> bool:
    path = Path(env["MDSTREAM_DATA_DIR"]) / "market_data.db"
    if not path.exists():
        return False
    with closing(sqlite3.connect(path)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'trades'").fetchone():
            return False
        ((symbols,),) = database.execute("SELECT count(DISTINCT symbol) FROM trades")
    return bool(symbols == len(SYMBOLS))


class Faulty(Slow):
    """One on a bad day: every third answer is none, in turn for another reason."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._requests, self._faults = count(), count()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        answer = await super().answer(request)
        if next(self._requests) % 3:
            return answer
        match next(self._faults) % 4:
            case 0:
                return web.Response(status=500, text="<html>oops</html>")
            case 1:
                return web.json_response({"code": -1003, "msg": "Too much"}, status=429, headers={"retry-after": "1"})
            case 2:
                assert isinstance(answer, web.Response)
                assert isinstance(answer.body, bytes)
                return web.Response(body=answer.body[: len(answer.body) // 2], content_type="application/json")
            case _:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()


def test_bars_of_the_venue_meet_those_of_the_trades_without_a_seam(
    processes: Processes, env: dict[str, str], tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    """Ten kills of the backfill, five of them before anybody read the venue, and one of the core worker. Every bar is
    that of the venue's journal, in SQLite and in PostgreSQL; nothing is asked for twice, or beyond the limit."""
    venues = started(processes, env, tmp_path / "journal.jsonl")
    env["MARKET_DATA_DATABASE_URL"] = databases.fresh(postgres)
    worker = processes.worker("core", port=free_port(), env=env)
    processes.worker("files", port=free_port(), env=env)
    processes.worker("timescale", port=free_port(), env=env)
    slow = Slow(env["BINANCE_API_BASE_URL"])
    with front(slow.answer) as address:
        by_front = env | {"BINANCE_API_BASE_URL": address}
        for _ in range(5):
            kill_after(processes, by_front, ago(1_200), slow, 1)
        symbols = ",".join(SYMBOLS)
        processes.mdstream("ingest", "--provider", "binance", "--symbols", symbols, "--port", free_port(), env=env)
        wait_until(lambda: has_trades(env), what="live trades")
        for number in range(5):
            kill_after(processes, by_front, ago(86_400), slow, 6)
            if number == 2:
                worker.kill()
                worker = processes.worker("core", port=free_port(), env=env)

    start = ago(86_400)
    minute_ns = INTERVALS["1m"]
    over_ns = -(-live_from(env) // minute_ns) * minute_ns + 12 * SECOND_NS
    early = run_mdstream(*backfill(start, "1m"), env=env)
    assert early.returncode == 0, early.stderr
    assert "is not over yet: run it again after " in early.stdout or time.time_ns() > over_ns - 2 * SECOND_NS
    wait_until(lambda: time.time_ns() > over_ns, what="the end of the minute in which the live trades began")
    done = run_mdstream(*backfill(start), env=env)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "run it again" not in done.stdout
    asked = venues.ask("GET", "/status")["rest"]["binance"]
    again = run_mdstream(*backfill(start), env=env)
    assert again.stdout.splitlines() == [
        f"binance {symbol} {interval}: nothing is missing of what the venue has of that time"
        for interval in INTERVALS
        for symbol in SYMBOLS
    ]
    assert venues.ask("GET", "/status")["rest"]["binance"] == asked
    assert asked["refused"] == 0

    end_ns = time.time_ns()
    for symbol in SYMBOLS:
        for interval, each_ns in INTERVALS.items():
            for stored in (partial(in_sqlite, env), partial(in_postgres, env["MARKET_DATA_DATABASE_URL"])):
                check(stored, venues, symbol, interval, end_ns // each_ns * each_ns)
    assert worker.running


def check(stored: Stored, venues: Venues, symbol: str, interval: str, end_ns: int) -> None:
    """Each bar that began before `end_ns`, once it is over, is that of the journal."""

    def wrong() -> dict[int, tuple[Bar | None, Bar | None]]:
        expected = aggregated(venues.made(), symbol, INTERVALS[interval])
        found = stored(symbol, interval)
        return {
            ns: (expected.get(ns), found.get(ns))
            for ns in expected.keys() | found.keys()
            if ns < end_ns and not same(expected.get(ns), found.get(ns))
        }

    wait_until(lambda: not wrong(), what=f"all bars of {symbol} {interval}", every_s=1)


def same(expected: Bar | None, found: Bar | None) -> bool:
    """Prices and counts have to be the same, sums to the digits that the venue gives."""
    if expected is None or found is None:
        return False
    return (expected[:4], expected[6]) == (found[:4], found[6]) and bool(
        expected[4:6] == pytest.approx(found[4:6], rel=1e-6)
    )


def test_a_venue_that_fails_now_and_then_is_asked_until_all_is_there(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """Errors, limits, answers cut short, lost connections: nothing is missing, and nothing is given up."""
    venues = started(processes, env, tmp_path / "journal.jsonl")
    processes.worker("core", port=free_port(), env=env)
    processes.worker("files", port=free_port(), env=env)
    begun_ns = time.time_ns()
    with front(Faulty(env["BINANCE_API_BASE_URL"]).answer) as address:
        done = run_mdstream(*backfill(ago(2 * 3_600), "1s"), env=env | {"BINANCE_API_BASE_URL": address})
    assert done.returncode == 0, done.stderr + done.stdout
    assert "HTTP 500" in done.stderr
    for symbol in SYMBOLS:
        check(partial(in_sqlite, env), venues, symbol, "1s", begun_ns // SECOND_NS * SECOND_NS - 10 * SECOND_NS)


def test_what_a_venue_does_not_have_is_said_at_once(env: dict[str, str]) -> None:
    """Which intervals it has; nothing is asked of anybody."""
    for options, expected in (
        (("--provider", "binance", "--interval", "7m"), "binance has no such history; it has trades, 1s, 1m, 3m"),
        (("--provider", "binance_usdm", "--interval", "trades"), "binance_usdm has no such history; it has 1m, 3m"),
        (("--provider", "binance_coinm", "--interval", "1m"), "binance_coinm has no such history; it has trades"),
        (("--provider", "binance", "--interval", ","), "--interval ',' names none"),
    ):
        done = run_mdstream("backfill", *options, "--symbols", "BTCUSDT", "--start", "1h", env=env)
        assert done.returncode in (1, 2)
        assert expected in done.stderr


def test_a_time_without_an_interval_that_is_over_is_asked_of_nobody(env: dict[str, str]) -> None:
    """Neither a core worker nor a venue is there: the stream could not answer a question about no time."""
    nothing = "nothing is missing of what the venue has of that time\n"
    for name, interval, times, later in (
        ("binance", "1d", (ago(60), ago(30)), ""),
        ("binance", "1d", (ago(60),), r"binance BTCUSDT 1d: what is after \S+T00:00:00Z is not over yet\n"),
        ("kraken", "trades", ("1969-12-31", "1970-01-01"), ""),
    ):
        options = [word for pair in zip(("--start", "--end"), times, strict=False) for word in pair]
        wanted = ("--provider", name, "--symbols", "BTCUSDT", "--interval", interval)
        done = run_mdstream("backfill", *wanted, *options, env=env)
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(f".*: {nothing}{later}", done.stdout)


def test_a_symbol_that_the_venue_refuses_keeps_nothing_from_the_others(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """The venue's words are shown, and which times are older than its bars."""
    venues = Venues.start(processes, tmp_path / "journal.jsonl", "--symbols", "BTCUSDT,BTCUSD")
    env |= venues.urls
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    processes.worker("core", port=free_port(), env=env)
    options = ("--interval", "1m", "--start", ago(86_400))
    done = run_mdstream("backfill", "--provider", "binance", "--symbols", "XYZUSDT,BTC-USDT", *options, env=env)
    assert done.returncode == 1
    assert "binance XYZUSDT 1m: not done: -1121 Invalid symbol." in done.stderr
    assert re.search(r"binance BTCUSDT 1m: 0 bars fetched of 1,4[0-9]+ intervals that were missing", done.stdout)
    done = run_mdstream("backfill", "--provider", "kraken", "--symbols", "BTC/USD", *options, env=env)
    assert done.returncode == 0, done.stderr
    assert "kraken BTCUSD 1m: the venue does not have " in done.stdout
    assert "its bars of 1m do not go back that far" in done.stdout
