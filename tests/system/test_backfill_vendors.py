"""`mdstream backfill` of vendors with keys: Alpaca's stocks and crypto, Massive.

venue     ────────── trades, a while of them ──────────────────>
ingest                              from here on, live  ══════>
backfill   <═ trades by time, bars ═══════│
sinks      each trade that is in force, once; the venue's bars up to that of the first live trade
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from math import fsum
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from past import SECOND_NS, ago, front, published
from processes import LIMIT_S, Processes, free_port, run_mdstream, wait_until
from servers import read_topic
from test_vendors import KEYS, in_force
from venues import Made, Venues
from websockets.asyncio.client import connect

from mdstream.ticks import TradeTick
from mdstream.venues import ws_setting
from mdstream.venues.providers import provider

pytestmark = pytest.mark.system

SYMBOLS = {"alpaca": "AAPL", "alpaca_crypto": "BTCUSD", "massive": "MSFT"}
"""One of each: no symbol has two sources."""
MINUTE_NS = 60 * SECOND_NS
BEFORE_S = 10
"""The venues trade for so long before anybody asks."""
SERVED = "binance,coinbase,alpaca,alpaca_crypto,massive"


async def trade(venues: Venues, name: str) -> None:
    """Let a venue trade for a while; nobody keeps what it sends."""
    of, times = provider(name), list[int]()
    async with connect(venues.urls[ws_setting(name)], compression=None, max_queue=None) as socket:
        login = of.login({**KEYS, "MASSIVE_API_KEY": "key"})
        requests = [*([] if login is None else [login]), *of.subscribe([SYMBOLS[name]])]
        for request in requests:
            await socket.send(request.frame)
        while not times or times[-1] - times[0] < BEFORE_S * SECOND_NS:
            for part in of.split(await socket.recv(decode=False)):
                times += [tick.ts_exchange or 0 for tick in of.decode(part) if isinstance(tick, TradeTick)]


async def trade_everywhere(venues: Venues) -> None:
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(trade(venues, name) for name in SYMBOLS))


def rows(env: Mapping[str, str], statement: str) -> list[Any]:
    """From the database of the files role; none before it has tables."""
    path = Path(env["MDSTREAM_DATA_DIR"]) / "market_data.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as database:
        if len(database.execute("SELECT 1 FROM sqlite_master WHERE name IN ('trades', 'bars')").fetchall()) < 2:
            return []
        return database.execute(statement).fetchall()


def live_from(env: Mapping[str, str]) -> dict[str, int]:
    """The time of each provider's first live trade."""
    return dict(rows(env, "SELECT provider, min(ts_exchange) FROM trades WHERE NOT recovered GROUP BY provider"))


def backfill(env: Mapping[str, str], name: str, interval: str, start: str = "", end: str = "0s") -> Any:
    times = ("--start", start or ago(3_600), "--end", end)
    wanted = ("--provider", name, "--symbols", SYMBOLS[name], "--interval", interval)
    return run_mdstream("backfill", *wanted, *times, env=env)


def minutes(made: list[Made]) -> dict[int, tuple[Any, ...]]:
    """Open, high, low, close, volume and trades of each minute, by its beginning."""
    groups: dict[int, list[Made]] = {}
    for each in sorted(made, key=lambda each: (each.ts_exchange, each.trade_id)):
        groups.setdefault(each.ts_exchange // MINUTE_NS * MINUTE_NS, []).append(each)
    return {begin: bar(group) for begin, group in groups.items()}


def bar(group: list[Made]) -> tuple[Any, ...]:
    prices = [each.price for each in group]
    volume = pytest.approx(fsum(each.size for each in group), rel=1e-9)
    return prices[0], max(prices), min(prices), prices[-1], volume, len(group)


async def test_the_past_of_vendors_with_keys_meets_the_live_trades(
    processes: Processes, env: dict[str, str], prefix: str, tmp_path: Path
) -> None:
    """Every trade in force is stored once, with its own id, up to the first live one; every minute up to that one has
    the venue's bar. No key is in what is written to Kafka, or shown."""
    venues = Venues.start(
        processes, tmp_path / "journal.jsonl", "--venues", SERVED, "--rate", 150, "--linger", 3_600
    )  # fmt: skip
    env |= venues.urls | KEYS
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    await trade_everywhere(venues)
    processes.worker("core", port=free_port(), env=env)
    processes.worker("files", port=free_port(), env=env)
    for name, symbol in SYMBOLS.items():
        processes.mdstream("ingest", "--provider", name, "--symbols", symbol, "--port", free_port(), env=env)
    wait_until(lambda: len(live_from(env)) == len(SYMBOLS), what="live trades")
    begun_ns = live_from(env)

    over_ns = -(-max(begun_ns.values()) // MINUTE_NS) * MINUTE_NS + 11 * SECOND_NS
    wait_until(lambda: time.time_ns() > over_ns, what="the end of the minute in which the live trades began")
    shown = ""
    for name in SYMBOLS:
        for interval in ("trades", "1m"):
            done = backfill(env, name, interval)
            assert done.returncode == 0, done.stdout + done.stderr
            again = backfill(env, name, interval)
            assert again.returncode == 0, again.stdout + again.stderr
            assert "nothing is missing of what the venue has of that time" in again.stdout
            shown += done.stdout + done.stderr

    made = venues.made()
    for name, symbol in SYMBOLS.items():
        of = [each for each in made if each.provider == name]
        wanted = in_force(of) if name == "alpaca" else of
        past = {(each.trade_id, each.price, each.size) for each in wanted if each.ts_exchange < begun_ns[name]}
        assert len(past) > 50
        wait_until(lambda: stored_past(env, name, symbol) == past, what=f"past trades of {name}")  # noqa: B023
        seam_ns = begun_ns[name] // MINUTE_NS * MINUTE_NS
        bars = {begin: bar for begin, bar in minutes(of).items() if begin <= seam_ns}
        wait_until(lambda: stored_bars(env, name, symbol) == bars, what=f"past bars of {name}")  # noqa: B023

    records = [
        record.value or b""
        for market in ("equities", "crypto")
        for record in await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.raw.{market}")
    ]
    assert any(value.startswith(b'{"request":"/v3/trades/MSFT') for value in records)
    for key in KEYS.values():
        assert key not in shown
        assert not any(key.encode() in value for value in records)
    assert await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.dead") == []


def stored_past(env: Mapping[str, str], name: str, symbol: str) -> set[tuple[str, float, float]]:
    """Id, price and size of a provider's trades that came by the backfill; none is there twice."""
    found = rows(
        env, f"SELECT trade_id, price, size FROM trades WHERE recovered AND provider = '{name}' AND symbol = '{symbol}'"
    )
    assert len({trade_id for trade_id, _, _ in found}) == len(found)
    return set(found)


def stored_bars(env: Mapping[str, str], name: str, symbol: str) -> dict[int, tuple[Any, ...]]:
    """The venue's own bars, by their beginning."""
    columns = "ts_open, open, high, low, close, volume, trades"
    found = rows(
        env, f"SELECT {columns} FROM bars WHERE interval = '1m' AND provider = '{name}' AND symbol = '{symbol}'"
    )
    return {begin: tuple(values) for begin, *values in found}


def test_a_key_that_is_missing_or_refused_is_said_at_once(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """What to set, or which plan has it; nothing is asked again and again."""
    venues = Venues.start(processes, tmp_path / "journal.jsonl", "--venues", SERVED)
    processes.worker("core", port=free_port(), env=env)
    env |= venues.urls
    for name, keys, expected in (
        ("alpaca", {}, "Alpaca's past cannot be asked for: set ALPACA_KEY and ALPACA_SECRET"),
        ("massive", {}, "Massive's past cannot be asked for: set MASSIVE_API_KEY"),
        ("alpaca", {**KEYS, "ALPACA_SECRET": "wrong"}, "forbidden.: set ALPACA_KEY and ALPACA_SECRET of a plan"),
        ("massive", {"MASSIVE_API_KEY": "wrong"}, "Unknown API Key (set MASSIVE_API_KEY)"),
        (
            "alpaca", {**KEYS, "ALPACA_KEY": "FREE-1", "ALPACA_FEED": "sip"},
            "recent SIP data: ask for what is older than 15 minutes (--end), or set ALPACA_FEED=iex",
        ),
    ):  # fmt: skip
        done = backfill({**env, **keys}, name, "1m")
        assert done.returncode == (1 if keys else 2), done.stdout + done.stderr
        assert expected in done.stdout + done.stderr
    assert backfill({**env, "POLYGON_API_KEY": "FREE-1"}, "massive", "1m").returncode == 0


PAGES: Mapping[str, Mapping[str, tuple[Sequence[int], str]]] = {
    "newest first": {"": ((9, 8, 7), "older"), "older": ((6, 5, 4), "")},
    "going back": {"": ((4, 5, 6), "older"), "older": ((1, 2, 3), "")},
    "a circle": {"": ((), "a"), "a": ((), "b"), "b": ((), "c"), "c": ((), "a")},
    "in order": {"": ((1, 2), "empty"), "empty": ((), "rest"), "rest": ((2, 3), "")},
}
"""By cursor: the seconds of the trades of a page, and the cursor of the next one."""
SAID = {
    "newest first": "are not in the order of their times",
    "going back": "are not in the order of their times",
    "a circle": "lead back to one that was read",
    "in order": "3 trades fetched",
}


def page_of(kind: str, begin_ns: int, request: web.Request) -> web.Response:
    """What a venue answers that has trades of the seconds from a time on."""
    seconds, cursor = PAGES[kind][request.query.get("cursor", "")]
    trades = [
        {"exchange": 4, "id": str(ns), "price": 1.0, "size": 1.0, "sip_timestamp": ns}
        for ns in (begin_ns + second * SECOND_NS for second in seconds)
    ]
    follows = {"next_url": f"https://api.massive.com/v3/trades/MSFT?cursor={cursor}"} if cursor else {}
    return web.json_response({"status": "OK", "results": trades, **follows})


def test_pages_that_do_not_go_on_in_time_are_refused(processes: Processes, env: dict[str, str], tmp_path: Path) -> None:
    """Trades that come after later ones are of a time that was taken: they would be missing for good, and unsaid."""
    env |= Venues.start(processes, tmp_path / "journal.jsonl", "--venues", "binance,coinbase,massive").urls | KEYS
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    processes.worker("core", port=free_port(), env=env)
    processes.mdstream("ingest", "--provider", "massive", "--symbols", "MSFT", "--port", free_port(), env=env)
    wait_until(lambda: published(env), what="live trades")
    now_s = time.time_ns() // SECOND_NS
    for hours, kind in enumerate(PAGES, 2):
        begin_s = now_s - hours * 3_600

        async def answer(request: web.Request, kind: str = kind, begin_ns: int = begin_s * SECOND_NS) -> web.Response:
            return page_of(kind, begin_ns, request)

        with front(answer) as address:
            times = (datetime.fromtimestamp(second, UTC).isoformat() for second in (begin_s, begin_s + 60))
            done = backfill({**env, "MASSIVE_API_BASE_URL": address}, "massive", "trades", *times)
        assert SAID[kind] in done.stdout + done.stderr, kind
        assert done.returncode == (kind != "in order"), kind
