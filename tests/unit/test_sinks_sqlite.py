"""SQLite keeps each event once, never blocks on one that is bad, and says clearly when it cannot write."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sink_builders import T0, chunk, trade

from mdstream import events
from mdstream.errors import SinkError
from mdstream.events import HISTORY, Bar, BookL2, FeedStatus, Gap, Heartbeat, Quote, Trade
from mdstream.sinks import sqlite
from mdstream.sinks.sqlite import SCHEMA_VERSION, SqliteSink

QUOTE = Quote("BTCUSDT", 7, "binance", 1.0, 2.0, None, None, None, T0)
BOOK = BookL2("BTCUSDT", 8, "binance", [(2.0, 1.0), (1.5, 3.0)], [], None, T0)
BAR = Bar("BTCUSDT", "1m", T0, 1.0, 4.0, 0.5, 2.0, 10.0, 20.0, 3, 0)
PAST_BAR = Bar("BTCUSDT", "1m", T0, 1.0, 5.0, 0.5, 3.0, 12.0, None, None, HISTORY, "binance", backfilled=True)
HEARTBEAT = Heartbeat("__system__", "okx", None, T0)
STATUS = FeedStatus("__system__", "okx", "disconnected", "closed", T0)
GAP = Gap("BTCUSDT", "binance", "5", "9", "open", T0, 5)
ONE_OF_EACH = (trade(), QUOTE, BOOK, BAR, HEARTBEAT, STATUS, GAP)


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[SqliteSink]:
    made = SqliteSink(tmp_path / "data", busy_limit_s=0.01)
    yield made
    await made.close()


def rows(sink: SqliteSink, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{sink.path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


async def test_every_type_has_its_table_and_its_fields_as_columns(sink: SqliteSink) -> None:
    """A column is a field of the same name: nothing of an event is left out."""
    await sink.write([chunk(*ONE_OF_EACH)])
    for kind, table in ((Trade, "trades"), (Quote, "quotes"), (BookL2, "books"), (Bar, "bars")):
        names = [name for _, name, *_ in rows(sink, f"PRAGMA table_info({table})")]
        assert names == list(kind.__struct_fields__)
    columns = {name for _, name, *_ in rows(sink, "PRAGMA table_info(status)")}
    assert columns == {"type"}.union(*(kind.__struct_fields__ for kind in (Heartbeat, FeedStatus, Gap)))


async def test_values_come_back_as_they_were(sink: SqliteSink) -> None:
    """Integers stay whole, null stays NULL, lists are JSON text."""
    full = trade(1, side=None, count=3, recovered=True, backfilled=True, venue="XNAS", conditions=("T", "I"))
    await sink.write([chunk(*ONE_OF_EACH, full)])
    assert rows(sink, "SELECT * FROM trades") == [
        ("BTCUSDT", 1_000, "binance", "0", 93741.2, 0.0015, "sell", T0, T0 + 5, 1, 0, None, None, *[None] * 4, 0),
        (
            "BTCUSDT",
            1_001,
            "binance",
            "1",
            93741.2,
            0.0015,
            None,
            T0 + 1,
            T0 + 6,
            3,
            1,
            "XNAS",
            '["T","I"]',
            *[None] * 4,
            1,
        ),
    ]
    assert rows(sink, "SELECT * FROM quotes") == [msgspec.structs.astuple(QUOTE)]
    assert rows(sink, "SELECT bids, asks FROM books") == [("[[2.0,1.0],[1.5,3.0]]", "[]")]
    assert rows(sink, "SELECT * FROM bars") == [msgspec.structs.astuple(BAR)]
    assert rows(sink, "SELECT * FROM status") == [
        ("heartbeat", "__system__", "okx", T0, None, None, None, None, None, None, None, None),
        ("status", "__system__", "okx", T0, "disconnected", "closed", None, None, None, None, None, None),
        ("gap", "BTCUSDT", "binance", T0, "open", None, None, "5", "9", 5, None, None),
    ]


async def test_repeats_change_nothing(sink: SqliteSink) -> None:
    """What was stored already, in the same write, a later one or another process, is there once."""
    await sink.write([chunk(*ONE_OF_EACH), chunk(*ONE_OF_EACH)])
    await sink.write([chunk(*ONE_OF_EACH)])
    for table, expected in (("trades", 1), ("quotes", 1), ("books", 1), ("bars", 1), ("status", 3)):
        assert rows(sink, f"SELECT count(*) FROM {table}") == [(expected,)]
    assert sink.metrics() == {"rows_total": 7, "repeats_total": 14, "seq_conflicts_total": 0}


@pytest.mark.parametrize(
    ("other", "trades"),
    [
        ({"seq": 2_000}, 1),
        ({"ts_recv": T0 + 99}, 1),
        ({"trade_id": "1"}, 2),
        ({"provider": "okx"}, 2),
        ({"symbol": "ETHUSDT"}, 2),
        ({"ts_exchange": T0 + 1}, 2),
    ],
)
async def test_a_trade_is_what_its_identity_says(sink: SqliteSink, other: dict[str, Any], trades: int) -> None:
    """(symbol, ts_exchange, provider, trade_id) identifies a trade, and nothing else does: not the number."""
    await sink.write([chunk(trade(), trade(**other))])
    assert rows(sink, "SELECT count(*) FROM trades") == [(trades,)]


CLASHES = {
    "another price": (trade(), trade(price=1.0)),
    "another trade": (trade(), trade(9, seq=1_000, ts_exchange=T0 + 30_000_000_000)),
    "another quote": (QUOTE, msgspec.structs.replace(QUOTE, bid=1.5)),
    "a later quote": (QUOTE, msgspec.structs.replace(QUOTE, ts_recv=T0 + 1)),
    "another book": (BOOK, msgspec.structs.replace(BOOK, asks=[(4.0, 1.0)])),
}
"""Two events with the same number each."""


@pytest.mark.parametrize("pair", CLASHES.values(), ids=CLASHES)
async def test_a_number_that_is_stored_with_another_content_is_logged_and_counted(
    sink: SqliteSink, caplog: pytest.LogCaptureFixture, pair: tuple[events.Event, events.Event]
) -> None:
    """However much later, and whether or not the keys are equal: two writers number one instrument."""
    await sink.write([chunk(pair[0])])
    await sink.write([chunk(*(trade(100 + n) for n in range(9)))])
    assert sink.metrics()["seq_conflicts_total"] == 0
    await sink.write([chunk(pair[1])])
    assert sink.metrics()["seq_conflicts_total"] == 1
    (message,) = caplog.messages
    assert message.startswith("sqlite: BTCUSDT: 1 events have a number (seq) that is stored with another content")


@pytest.mark.parametrize("pair", CLASHES.values(), ids=CLASHES)
async def test_numbers_clash_within_a_group_and_after_a_restart_too(
    sink: SqliteSink, pair: tuple[events.Event, events.Event]
) -> None:
    """Also next to an event that SQLite refuses. A new process detects them by the repeats that come first."""
    await sink.write([chunk(*pair, trade(1, ts_recv=1 << 70))])
    assert sink.metrics()["seq_conflicts_total"] == 1
    again = SqliteSink(sink.path.parent)
    await again.write([chunk(*pair)])
    await again.close()
    assert again.metrics()["seq_conflicts_total"] == 1


async def test_repeats_and_extreme_times_are_no_conflict(sink: SqliteSink) -> None:
    """Nor is another instrument's number, or a trade without a time that comes again."""
    most = (1 << 63) - 1
    odd = (trade(2, ts_exchange=most), trade(3, ts_exchange=None), trade(4, ts_exchange=-most, conditions=("T",)))
    for _ in range(2):
        await sink.write([chunk(trade(), trade(symbol="ETHUSDT"), *odd)])
    assert sink.metrics()["seq_conflicts_total"] == 0


@pytest.mark.parametrize(("trade_id", "trades"), [("7", 1), ("", 2)])
async def test_trades_without_a_time_are_identified_by_id_and_without_both_by_seq(
    sink: SqliteSink, trade_id: str, trades: int
) -> None:
    """NULL times would all differ in an index; an absent id would make all trades of an instant one."""
    for exchange_ns in (None, T0):
        first = trade(1, trade_id=trade_id, ts_exchange=exchange_ns)
        second = trade(2, trade_id=trade_id, ts_exchange=exchange_ns)
        await sink.write([chunk(first, second), chunk(first, second)])
        where = "IS NULL" if exchange_ns is None else "NOT NULL"
        assert rows(sink, f"SELECT count(*) FROM trades WHERE ts_exchange {where}") == [(trades,)]


@st.composite
def corrected(draw: st.DrawFn) -> list[Trade]:
    """Trades, corrections of them, of one another and of unknown ones, in any order and with repeats."""
    made = [trade(n) for n in range(draw(st.integers(1, 4)))]
    for n in range(len(made), draw(st.integers(len(made), 10))):
        of, kind = str(draw(st.integers(0, n - 1)) if draw(st.booleans()) else 99), draw(st.sampled_from(KINDS))
        made.append(trade(n, size=float(n) if kind == "correct" else 0.0, correction=kind, corrects=of))
    return draw(st.permutations([*made, *draw(st.lists(st.sampled_from(made)))]))


KINDS = ("correct", "cancel")


def in_force(trades: list[Trade]) -> set[tuple[str, int | None]]:
    """Ids and times of the trades in force, by the rules of docs/events.md."""
    by_id = {each.trade_id: each for each in trades}
    corrections = {each.corrects: each for each in sorted(by_id.values(), key=lambda t: t.seq) if each.corrects}
    found = set()
    for each in by_id.values():
        last = each
        while last.trade_id in corrections:
            last = corrections[last.trade_id]
        if each.corrects is None and last.correction != "cancel":
            found.add((last.trade_id, each.ts_exchange))
    return found


@settings(max_examples=100, deadline=None)
@given(corrected(), st.integers(0, 20))
def test_trades_in_force_depend_on_the_set_of_events_alone(trades: list[Trade], cut: int) -> None:
    """Whatever the order, the groups and the repeats."""

    async def stored(path: Path) -> set[tuple[str, int | None]]:
        sink = SqliteSink(path)
        for group in (trades[:cut], trades[cut:]):
            if group:
                await sink.write([chunk(*group)])
        await sink.close()
        return set(rows(sink, "SELECT trade_id, ts_traded FROM trades_in_force"))

    with TemporaryDirectory() as folder:
        assert asyncio.run(stored(Path(folder))) == in_force(trades)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_of_a_bar_the_highest_revision_stays(sink: SqliteSink, order: tuple[int, ...]) -> None:
    """In whatever order they come."""
    for revision in order:
        await sink.write([chunk(msgspec.structs.replace(BAR, revision=revision, trades=3 + revision))])
    assert rows(sink, "SELECT revision, trades FROM bars") == [(2, 5)]


async def test_an_event_that_sqlite_refuses_is_given_back_and_its_neighbours_are_stored(sink: SqliteSink) -> None:
    """One number beyond 64 bits must not hold up the feed."""
    bad = trade(1, ts_recv=1 << 70)
    (refused,) = await sink.write([chunk(trade(0), bad, trade(2), first=40)])
    assert refused.record.offset == 41
    assert "SQLite refuses it" in refused.reason
    assert rows(sink, "SELECT trade_id FROM trades ORDER BY seq") == [("0",), ("2",)]


async def test_a_locked_database_is_a_transient_error(sink: SqliteSink) -> None:
    """Another process writes: nothing is stored, and the same write succeeds later."""
    await sink.open()
    with closing(sqlite3.connect(sink.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkError, match=r"market_data\.db: database is locked") as caught:
            await sink.write([chunk(trade())])
        assert caught.value.retriable
    await sink.write([chunk(trade())])
    assert rows(sink, "SELECT count(*) FROM trades") == [(1,)]


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond what holds the schema: writes fail as on a full disk, reads go on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_a_transient_error(sink: SqliteSink) -> None:
    """Nothing of the group is stored, and all of it once there is room."""
    group = chunk(*(trade(n) for n in range(5_000)))
    await sink.open()
    with full_disk(), pytest.raises(SinkError) as caught:
        await sink.write([group])
    assert caught.value.retriable
    assert rows(sink, "SELECT count(*) FROM trades") == [(0,)]
    await sink.write([group])
    assert rows(sink, "SELECT count(*) FROM trades") == [(5_000,)]


async def test_a_database_that_was_deleted_is_recreated(sink: SqliteSink) -> None:
    """Rows must not go to a file that nobody can find any more."""
    await sink.write([chunk(trade(0))])
    sink.path.unlink()
    await sink.write([chunk(trade(1))])
    assert rows(sink, "SELECT trade_id FROM trades") == [("1",)]


async def test_two_writers_share_the_database(sink: SqliteSink) -> None:
    """Two workers in one folder: each trade is there once, whoever stored it."""
    other = SqliteSink(sink.path.parent)
    await sink.write([chunk(trade(0), trade(1))])
    await other.write([chunk(trade(1), trade(2))])
    await sink.write([chunk(trade(2))])
    await other.close()
    assert rows(sink, "SELECT trade_id FROM trades ORDER BY seq") == [("0",), ("1",), ("2",)]


async def test_rows_are_on_the_disk_when_write_returns(sink: SqliteSink) -> None:
    """WAL with a sync for each transaction: acknowledged means safe, power loss included."""
    await sink.open()
    connection = sink._connection
    assert connection is not None
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


async def refusal_to_open(sink: SqliteSink) -> str:
    with pytest.raises(SinkError) as caught:
        await sink.open()
    assert not caught.value.retriable
    return str(caught.value)


async def test_a_database_of_a_newer_version_is_refused(sink: SqliteSink) -> None:
    """Its tables may mean something else: it is left as it is."""
    sink.path.parent.mkdir()
    with closing(sqlite3.connect(sink.path)) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    assert await refusal_to_open(sink) == (
        f"sqlite cannot write {sink.path}: a newer mdstream wrote it (schema {SCHEMA_VERSION + 1}, this one knows "
        f"{SCHEMA_VERSION}): upgrade mdstream or set MDSTREAM_DATA_DIR to another folder"
    )


LATER_COLUMNS = [
    *(("status", name) for name in ("missing", "took_ns", "previous")),
    *(("trades", name) for name in ("correction", "corrects", "corrects_price", "corrects_size", "backfilled")),
    *(("bars", name) for name in ("provider", "backfilled")),
]


async def test_a_database_of_an_older_version_is_upgraded_in_place(sink: SqliteSink) -> None:
    """Its rows stay, and the columns that came since are there."""
    first = SqliteSink(sink.path.parent)
    await first.write([chunk(*ONE_OF_EACH)])
    await first.close()
    with closing(sqlite3.connect(sink.path)) as older:
        older.execute("DROP VIEW trades_in_force")
        older.execute("DROP INDEX trades_corrections")
        for table, column in LATER_COLUMNS:
            older.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        older.execute("PRAGMA user_version = 1")
        older.commit()
    await sink.write([chunk(msgspec.structs.replace(GAP, ts_recv=T0 + 1))])
    assert rows(sink, "SELECT missing FROM status WHERE type = 'gap' ORDER BY ts_recv") == [(None,), (5,)]
    assert rows(sink, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert rows(sink, "SELECT trade_id, ts_traded FROM trades_in_force") == [("0", T0)]


OLDER_BARS = """CREATE TABLE bars (symbol TEXT NOT NULL, interval TEXT NOT NULL, ts_open INTEGER NOT NULL,
    open REAL NOT NULL, high REAL NOT NULL, low REAL NOT NULL, close REAL NOT NULL, volume REAL NOT NULL,
    quote_volume REAL NOT NULL, trades INTEGER NOT NULL, revision INTEGER NOT NULL,
    PRIMARY KEY (symbol, interval, ts_open)) WITHOUT ROWID"""


async def test_bars_of_an_older_version_stay_and_those_of_venues_are_stored_beside_them(sink: SqliteSink) -> None:
    """A venue does not always count the trades; its bar takes the place of the one that was made of some of them."""
    first = SqliteSink(sink.path.parent)
    await first.write([chunk()])
    await first.close()
    with closing(sqlite3.connect(sink.path)) as older:
        older.execute("DROP TABLE bars")
        older.execute(OLDER_BARS)
        older.execute("INSERT INTO bars VALUES ('BTCUSDT', '1m', ?, 1.0, 4.0, 0.5, 2.0, 10.0, 20.0, 3, 7)", (T0,))
        older.execute("INSERT INTO bars VALUES ('BTCUSDT', '1m', 60, 1.0, 4.0, 0.5, 2.0, 10.0, 20.0, 3, 0)")
        older.execute("PRAGMA user_version = 4")
        older.commit()
    await sink.write([chunk(PAST_BAR, msgspec.structs.replace(BAR, revision=8))])
    assert rows(sink, "SELECT * FROM bars") == [
        ("BTCUSDT", "1m", 60, 1.0, 4.0, 0.5, 2.0, 10.0, 20.0, 3, 0, None, 0),
        ("BTCUSDT", "1m", T0, 1.0, 5.0, 0.5, 3.0, 12.0, None, None, HISTORY, "binance", 1),
    ]


async def test_a_database_of_another_program_is_refused(sink: SqliteSink) -> None:
    """A file of the same name with other tables is not mixed with ours."""
    sink.path.parent.mkdir()
    with closing(sqlite3.connect(sink.path)) as theirs:
        theirs.execute("CREATE TABLE trades (id INTEGER)")
    assert "another program's database" in await refusal_to_open(sink)


async def test_a_file_that_is_no_database_is_refused(sink: SqliteSink) -> None:
    sink.path.parent.mkdir()
    sink.path.write_bytes(b"not a database, but long enough to have a header" * 50)
    assert "file is not a database" in await refusal_to_open(sink)


async def test_a_data_dir_that_is_a_file_is_refused(sink: SqliteSink) -> None:
    sink.path.parent.write_text("")
    folder = sink.path.parent
    assert await refusal_to_open(sink) == (
        f"sqlite cannot write {sink.path}: {folder}: File exists (check MDSTREAM_DATA_DIR)"
    )


async def test_a_folder_in_the_database_s_place_is_refused(sink: SqliteSink) -> None:
    sink.path.mkdir(parents=True)
    assert "unable to open database file" in await refusal_to_open(sink)


def test_every_event_has_a_table() -> None:
    """A new type of event cannot be forgotten; what venues list is no event of the stream."""
    assert set(sqlite.TABLES) == set(events.Event.__args__) - {events.ListedInstrument}
