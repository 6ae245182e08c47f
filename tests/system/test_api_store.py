"""The history's queries on a real server: every row once, and by an index, however many rows there are."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import databases
import psycopg
import pytest
from databases import ask
from processes import wait_until

from mdstream.api import store as stores
from mdstream.api.history import KINDS, Page, moment, page_of, query_of
from mdstream.api.queries import FORMS, joined
from mdstream.api.store import Store
from mdstream.api.symbols import SYMBOLS, SymbolList
from mdstream.api.udf import BARS, BEFORE, Resolutions, answer_of, bars_of
from mdstream.embedded.postgres import EmbeddedPostgres
from mdstream.errors import DatabaseError, TooSlowError

pytestmark = pytest.mark.system

FROM_S = 1_767_571_200
"""2026-01-05."""
TO = "2026-01-06T00:00:00Z"
ROWS = 40_000
FILL = {
    "trades": """INSERT INTO market_data_ticks
                 SELECT 'x', 'S' || n %% 40, to_timestamp(%(t0)s + n / 400), 'x', n::text,
                 1, 1, 'buy', CASE WHEN n %% 7 = 0 THEN NULL ELSE n / 40 END FROM generate_series(0, %(rows)s) n""",
    "quotes": """INSERT INTO market_data_quotes
                 SELECT 'S' || n %% 40, to_timestamp(%(t0)s + n / 400), n / 40, 'x', 'x',
                 1, 1, 2, 1, NULL, 5 FROM generate_series(0, %(rows)s) n""",
    "bars": """INSERT INTO market_data_ohlcv
               SELECT 'mdstream', 'S' || n %% 40, '1m', to_timestamp(%(t0)s + n / 40 * 60),
               1, 2, 0.5, 1.5, 10, 15, 3, 0 FROM generate_series(0, %(rows)s) n""",
    "gaps": """INSERT INTO market_data_feed_events
               SELECT 'S' || n %% 40, to_timestamp(%(t0)s + n / 400), n::text,
               CASE WHEN n %% 3 = 0 THEN 'status' ELSE 'gap' END, 'x', 'lost', NULL, NULL, '1', '2', 2, 7, NULL, 5
               FROM generate_series(0, %(rows)s) n""",
}
ALL = f"SELECT {', '.join(KINDS['trades'].columns)} FROM market_data_ticks"
COUNT = {
    "trades": "SELECT count(*) FROM market_data_ticks WHERE symbol = 'S7'",
    "quotes": "SELECT count(*) FROM market_data_quotes WHERE symbol = 'S7'",
    "bars": "SELECT count(*) FROM market_data_ohlcv WHERE symbol = 'S7'",
    "gaps": "SELECT count(*) FROM market_data_feed_events WHERE symbol = 'S7' AND type = 'gap'",
}


@pytest.fixture(scope="module")
def url(postgres: EmbeddedPostgres) -> str:
    """A database with rows of 40 symbols, many of them at the same time."""
    made = databases.fresh(postgres)
    with psycopg.connect(made, autocommit=True) as connection:
        for statement in FILL.values():
            connection.execute(statement.encode(), {"t0": FROM_S, "rows": ROWS})
        connection.execute("ANALYZE")
    return made


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    made = Store(url)
    yield made
    await made.close()


async def read(store: Store, kind: str, **given: str) -> list[dict[str, Any]]:
    """All pages."""
    rows: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        query = query_of(kind, {"symbol": "S7", "to": TO, **given, **cursor}, 0)
        page = page_of(query, await store.ask(query.statement, query.values))
        rows += chain.from_iterable(page.pieces(7))
        if page.cursor is None:
            return rows
        cursor = {"cursor": page.cursor}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_pages_have_every_row_once_in_order(store: Store, url: str, kind: str) -> None:
    """Also where a page ends between rows of the same time, or with rows that have no number."""
    rows = await read(store, kind, limit="7")
    assert len(rows) == ask(url, COUNT[kind])[0][0] > 600
    assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)
    assert rows == await read(store, kind, limit="10000")
    assert all({row["symbol"] for row in rows} == {"S7"} and list(row) == list(KINDS[kind].columns) for row in rows)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_page_is_read_by_an_index_and_no_further(store: Store, kind: str, after: bool) -> None:
    """In the order in which it is wanted: the rows behind the page are neither read nor sorted."""
    given = {"symbol": "S7", "to": TO, "limit": "10"}
    if after:
        query = query_of(kind, {**given, "limit": "100"}, 0)
        given["cursor"] = page_of(query, await store.ask(query.statement, query.values)).cursor or ""
    query = query_of(kind, given, 0)
    (found,) = await store.ask(f"EXPLAIN (ANALYZE, FORMAT JSON) {query.statement}", query.values)
    nodes = list(plan_of(found["QUERY PLAN"][0]["Plan"]))
    scans = [node for node in nodes if "Relation Name" in node]
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan"}
    assert sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans) < 100
    assert not any(node["Node Type"] == "Sort" for node in nodes)


def plan_of(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(inner for each in node.get("Plans", ()) for inner in plan_of(each))]


@pytest.mark.parametrize("form", FORMS)
async def test_a_large_page_lets_others_have_their_turn(store: Store, form: str) -> None:
    """While its rows are read, and while it is written: it takes a hundred times as long as a small request."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    rows = 40_000 // stores.PIECE
    turning = asyncio.create_task(others())
    for _ in range(2):
        before = turns
        found = await store.ask(ALL, {})
        assert turns - before >= rows
        before = turns
        assert len(await joined(FORMS[form](Page(KINDS["trades"], found, None)))) > 1_000_000
        assert turns - before >= rows
    turning.cancel()


async def test_it_cannot_write(store: Store) -> None:
    """Whatever is asked."""
    with pytest.raises(DatabaseError, match="read-only"):
        await store.ask("DELETE FROM market_data_ticks", {})
    assert await read(store, "bars")


async def test_a_query_that_takes_long_is_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the connection that it was asked by is not used again."""
    monkeypatch.setattr(stores, "SETTINGS", "SET statement_timeout = '100ms'")
    with pytest.raises(TooSlowError):
        await store.ask("SELECT pg_sleep(60)", {})


async def test_more_at_a_time_than_connections_wait_for_one(store: Store) -> None:
    found = await asyncio.gather(*(store.ask("SELECT pg_backend_pid() AS pid, pg_sleep(0.01)", {}) for _ in range(20)))
    assert len({rows[0]["pid"] for rows in found}) <= stores.CONNECTIONS


async def test_a_restart_of_the_database_fails_no_later_query(store: Store, url: str) -> None:
    """It ends all sessions, those of idle connections too; only what is asked at that moment fails."""
    await asyncio.gather(*(store.ask("SELECT pg_sleep(0.1)", {}) for _ in range(stores.CONNECTIONS)))
    asking = asyncio.create_task(store.ask("SELECT pg_sleep(60)", {}))
    sessions = """SELECT query FROM pg_stat_activity
                  WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""
    begun = ("SELECT pg_sleep(60)",)
    await asyncio.to_thread(wait_until, lambda: begun in databases.ask(url, sessions), what="the query")
    databases.cut_all(url)
    with pytest.raises(DatabaseError):
        await asking
    await asyncio.to_thread(wait_until, lambda: not databases.ask(url, sessions), what="the end of all sessions")
    for _ in range(stores.CONNECTIONS):
        assert await store.ask("SELECT 1", {})
    await store.check()


async def test_a_server_that_stands_still_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but our own limit ends such a query: its four connections would be in use forever."""
    monkeypatch.setattr(stores, "ANSWER_LIMIT_S", 1.0)
    (row,) = await store.ask("SELECT pg_backend_pid() AS pid", {})
    os.kill(row["pid"], signal.SIGSTOP)
    try:
        with pytest.raises(DatabaseError, match="no answer within 1 s"):
            await store.ask("SELECT 1", {})
    finally:
        os.kill(row["pid"], signal.SIGCONT)
    monkeypatch.undo()
    assert await store.ask("SELECT pg_backend_pid() AS pid", {}) != [row]


async def test_the_list_of_symbols_is_read_once_for_all_who_ask(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its failure is everybody's, at once: one after the other would wait for a lost database in turn."""
    listed = SymbolList(store)
    monkeypatch.setattr(stores, "SETTINGS", "SELECT 1 / 0")  # every connection fails
    found = await asyncio.gather(*(listed.read() for _ in range(20)), return_exceptions=True)
    assert all(isinstance(each, DatabaseError) for each in found)
    assert len(set(map(id, found))) == 1
    monkeypatch.undo()
    await asyncio.gather(*(listed.read() for _ in range(20)))


async def test_the_list_of_symbols_is_read_by_steps_along_an_index(store: Store) -> None:
    """One for each symbol, not one for each bar."""
    values = {"exchange": "mdstream", "from": moment(0), "rows": 100}
    assert sorted(row["symbol"] for row in await store.ask(SYMBOLS, values)) == sorted(f"S{n}" for n in range(40))
    (found,) = await store.ask(f"EXPLAIN (ANALYZE, FORMAT JSON) {SYMBOLS}", values)
    nodes = plan_of(found["QUERY PLAN"][0]["Plan"])
    scans = [node for node in nodes if node.get("Relation Name") == "market_data_ohlcv"]
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan"}
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) <= 41


async def test_a_chart_gets_the_last_bars_before_a_time(store: Store) -> None:
    """And from an empty stretch the way to them."""
    resolutions, to_s = Resolutions(("1m",)), FROM_S + 86_400
    asked = bars_of({"symbol": "S7", "resolution": "1", "countback": "3", "to": str(to_s)}, resolutions)
    answer = answer_of(await store.ask(BARS, asked.values), ())
    last_s = FROM_S + 999 * 60
    assert (answer["t"], answer["c"]) == ([last_s - 120, last_s - 60, last_s], [1.5] * 3)
    empty = bars_of({"symbol": "S7", "resolution": "1", "from": str(to_s - 60), "to": str(to_s)}, resolutions)
    assert await store.ask(BARS, empty.values) == []
    assert answer_of((), await store.ask(BEFORE, empty.before)) == {"s": "no_data", "nextTime": last_s}
