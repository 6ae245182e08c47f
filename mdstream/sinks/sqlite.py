"""SQLite: DATA_DIR/market_data.db with the tables trades, quotes, books, bars and status.

The columns are the public events' fields (docs/events.md). What makes two rows the same:

- trades: (symbol, ts_exchange, provider, trade_id), the identity of a tick, whatever its `seq`. All four are needed:
  some venues restart their ids each day. Without a venue's time, the other three; without an id, `seq` replaces it.
- quotes, books: (symbol, ts_recv, seq). They have no identity but their number; a repeat has the same bytes.
- bars: (symbol, interval, ts_open); the highest revision stays.
- status: every field.

A group with repeats, or with a number (`seq`) that does not rise, is compared with what is stored: see numbers.py.

Durability: WAL with synchronous=FULL, so that a group is on the disk when it is acknowledged, power loss included; a
transaction holds thousands of rows, so the sync costs a few per cent. Readers may connect at any time, and should not
hold a transaction open for long: the WAL grows meanwhile. WAL needs a local disk: no network file systems.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mdstream import events
from mdstream.errors import SinkError
from mdstream.events import Bar, BookL2, Event, FeedStatus, Gap, Heartbeat, Quote, Trade
from mdstream.sinks.base import Chunk, Refusal, from_os
from mdstream.sinks.numbers import Conflicts, Numbers
from mdstream.sinks.sqlite_numbers import clashes

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE_NAME = "market_data.db"
SCHEMA_VERSION = 5
BUSY_LIMIT_S = 5.0
"""How long a write waits for another process's before it counts as failed (and is tried again later)."""
WAL_PAGES = 4_000
WAL_KEPT_BYTES = 64 << 20

CORRECTIONS = (
    """CREATE INDEX trades_corrections ON trades (symbol, provider, corrects, seq) WHERE correction IS NOT NULL""",
    # docs/events.md has the rules. A chain goes from what nothing corrects to its trade, over corrections that count:
    # without a trade at its end, it has no time.
    """CREATE VIEW trades_in_force AS SELECT * FROM (
        SELECT t.*, (
            WITH RECURSIVE chain (ts, seq, correction, corrects) AS (
                SELECT coalesce(t.ts_exchange, t.ts_recv), t.seq, t.correction, t.corrects
                UNION SELECT coalesce(o.ts_exchange, o.ts_recv), o.seq, o.correction, o.corrects
                FROM chain JOIN trades o
                ON o.symbol = t.symbol AND o.provider = t.provider AND o.trade_id = chain.corrects
                WHERE NOT EXISTS (SELECT 1 FROM trades c WHERE c.correction IS NOT NULL AND c.symbol = t.symbol
                    AND c.provider = t.provider AND c.corrects = chain.corrects AND c.seq > chain.seq))
            SELECT ts FROM chain WHERE correction IS NULL) AS ts_traded
        FROM trades t WHERE t.correction IS NOT 'cancel'
        AND NOT EXISTS (SELECT 1 FROM trades c WHERE c.correction IS NOT NULL AND c.symbol = t.symbol
            AND c.provider = t.provider AND c.corrects = t.trade_id)) WHERE ts_traded IS NOT NULL""",
)
"""The trades with the corrections applied."""

BARS = """CREATE TABLE bars (symbol TEXT NOT NULL, interval TEXT NOT NULL, ts_open INTEGER NOT NULL,
    open REAL NOT NULL, high REAL NOT NULL, low REAL NOT NULL, close REAL NOT NULL, volume REAL NOT NULL,
    quote_volume REAL, trades INTEGER, revision INTEGER NOT NULL,
    provider TEXT, backfilled INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (symbol, interval, ts_open)) WITHOUT ROWID"""

SCHEMA = (
    """CREATE TABLE trades (symbol TEXT NOT NULL, seq INTEGER NOT NULL, provider TEXT NOT NULL, trade_id TEXT NOT NULL,
        price REAL NOT NULL, size REAL NOT NULL, side TEXT, ts_exchange INTEGER, ts_recv INTEGER NOT NULL,
        count INTEGER NOT NULL, recovered INTEGER NOT NULL, venue TEXT, conditions TEXT,
        correction TEXT, corrects TEXT, corrects_price REAL, corrects_size REAL,
        backfilled INTEGER NOT NULL DEFAULT 0)""",
    """CREATE UNIQUE INDEX trades_identity
        ON trades (symbol, ts_exchange, provider, trade_id, CASE trade_id WHEN '' THEN seq ELSE 0 END)""",
    # A NULL differs from every other NULL in an index: trades without a time need one of their own.
    """CREATE UNIQUE INDEX trades_identity_without_time
        ON trades (symbol, provider, trade_id, CASE trade_id WHEN '' THEN seq ELSE 0 END) WHERE ts_exchange IS NULL""",
    """CREATE TABLE quotes (symbol TEXT NOT NULL, seq INTEGER NOT NULL, provider TEXT NOT NULL,
        bid REAL, bid_size REAL, ask REAL, ask_size REAL, ts_exchange INTEGER, ts_recv INTEGER NOT NULL, venue TEXT,
        PRIMARY KEY (symbol, ts_recv, seq)) WITHOUT ROWID""",
    """CREATE TABLE books (symbol TEXT NOT NULL, seq INTEGER NOT NULL, provider TEXT NOT NULL,
        bids TEXT NOT NULL, asks TEXT NOT NULL, ts_exchange INTEGER, ts_recv INTEGER NOT NULL, venue TEXT,
        PRIMARY KEY (symbol, ts_recv, seq))""",
    BARS,
    """CREATE TABLE status (type TEXT NOT NULL, symbol TEXT NOT NULL, provider TEXT NOT NULL, ts_recv INTEGER NOT NULL,
        state TEXT, reason TEXT, silent_since INTEGER, first_id TEXT, last_id TEXT, missing INTEGER, took_ns INTEGER,
        previous TEXT)""",
    """CREATE UNIQUE INDEX status_identity ON status (symbol, ts_recv, provider, type, ifnull(state, ''),
        ifnull(reason, ''), ifnull(silent_since, 0), ifnull(first_id, ''), ifnull(last_id, ''))""",
    *CORRECTIONS,
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

UPGRADES = {
    1: (
        "ALTER TABLE status ADD COLUMN missing INTEGER",
        "ALTER TABLE status ADD COLUMN took_ns INTEGER",
        "ALTER TABLE status ADD COLUMN previous TEXT",
        "PRAGMA user_version = 2",
    ),
    2: (
        "ALTER TABLE trades ADD COLUMN correction TEXT",
        "ALTER TABLE trades ADD COLUMN corrects TEXT",
        "ALTER TABLE trades ADD COLUMN corrects_price REAL",
        "ALTER TABLE trades ADD COLUMN corrects_size REAL",
        *CORRECTIONS,
        "PRAGMA user_version = 3",
    ),
    3: ("ALTER TABLE trades ADD COLUMN backfilled INTEGER NOT NULL DEFAULT 0", "PRAGMA user_version = 4"),
    # A column that had to have a value stays so: SQLite has no statement that changes it.
    4: (
        "ALTER TABLE bars RENAME TO bars_before",
        BARS,
        "INSERT INTO bars SELECT *, NULL, 0 FROM bars_before",
        "DROP TABLE bars_before",
        "PRAGMA user_version = 5",
    ),
}
"""From each older version to the next."""


class Table(NamedTuple):
    """The table for events of one type. `insert` leaves existing rows alone."""

    insert: str
    row: Callable[[Any], tuple[Any, ...]]


def _table(name: str, columns: Sequence[str], row: Callable[[Any], tuple[Any, ...]], on_conflict: str = "") -> Table:
    slots = ", ".join("?" * len(columns))
    conflict = on_conflict or "ON CONFLICT DO NOTHING"
    return Table(f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({slots}) {conflict}", row)  # noqa: S608  our names


TRADE = ("symbol", "seq", "provider", "trade_id", "price", "size", "side", "ts_exchange", "ts_recv",
         "count", "recovered", "venue", "conditions",
         "correction", "corrects", "corrects_price", "corrects_size", "backfilled")  # fmt: skip
QUOTE = ("symbol", "seq", "provider", "bid", "bid_size", "ask", "ask_size", "ts_exchange", "ts_recv", "venue")
BOOK = ("symbol", "seq", "provider", "bids", "asks", "ts_exchange", "ts_recv", "venue")
BAR = ("symbol", "interval", "ts_open", "open", "high", "low", "close", "volume", "quote_volume", "trades", "revision",
       "provider", "backfilled")  # fmt: skip
STATUS = ("type", "symbol", "provider", "ts_recv", "state", "reason", "previous")
HEARTBEAT = ("type", "symbol", "provider", "ts_recv", "silent_since", "state")
GAP = ("type", "symbol", "provider", "ts_recv", "state", "reason", "first_id", "last_id", "missing", "took_ns")

CONDITIONS = TRADE.index("conditions")

_trade = attrgetter(*TRADE)


def _trade_row(trade: Trade) -> tuple[Any, ...]:
    row: tuple[Any, ...] = _trade(trade)
    return row if trade.conditions is None else (*row[:CONDITIONS], _json(trade.conditions), *row[CONDITIONS + 1 :])


def _book_row(b: BookL2) -> tuple[Any, ...]:
    return (b.symbol, b.seq, b.provider, _json(b.bids), _json(b.asks), b.ts_exchange, b.ts_recv, b.venue)


def _tagged(tag: str, columns: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    fields = attrgetter(*columns[1:])
    return lambda event: (tag, *fields(event))


def _json(value: object) -> str:
    return events.encode(value).decode()


_NEWER_BAR = """ON CONFLICT (symbol, interval, ts_open) DO UPDATE SET open = excluded.open, high = excluded.high,
    low = excluded.low, close = excluded.close, volume = excluded.volume, quote_volume = excluded.quote_volume,
    trades = excluded.trades, revision = excluded.revision, provider = excluded.provider,
    backfilled = excluded.backfilled WHERE excluded.revision > bars.revision"""

TABLES: dict[type[Event], Table] = {
    Trade: _table("trades", TRADE, _trade_row),
    Quote: _table("quotes", QUOTE, attrgetter(*QUOTE)),
    BookL2: _table("books", BOOK, _book_row),
    Bar: _table("bars", BAR, attrgetter(*BAR), _NEWER_BAR),
    FeedStatus: _table("status", STATUS, _tagged("status", STATUS)),
    Heartbeat: _table("status", HEARTBEAT, _tagged("heartbeat", HEARTBEAT)),
    Gap: _table("status", GAP, _tagged("gap", GAP)),
}

NUMBERED: Mapping[type[Event], tuple[str, Sequence[str], str]] = {
    Trade: ("trades", TRADE, "ts_exchange"),
    Quote: ("quotes", QUOTE, "ts_recv"),
    BookL2: ("books", BOOK, "ts_recv"),
}
"""Table, columns and the time column to search by, for events with a number."""
_number = itemgetter(0, 1)

Rows = Mapping[type[Event], Sequence[tuple[Any, ...]]]

# Errors that a single row can cause: a constraint, a text or number that SQLite cannot hold.
_ROW_ERRORS = (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError)
_TRANSIENT = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
}


class SqliteSink:
    """Writes market_data.db through one connection, in a thread of its own: the event loop never waits for the disk."""

    name = "sqlite"

    def __init__(self, data_dir: Path, *, busy_limit_s: float = BUSY_LIMIT_S) -> None:
        self.path = data_dir / FILE_NAME
        self._busy_limit_s = busy_limit_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._numbers, self._conflicts = Numbers(), Conflicts(self.name)
        self.rows = self.repeats = 0

    async def open(self) -> None:
        await self._in_thread(self._connected)

    async def write(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
        return await self._in_thread(lambda: self._store(chunks))

    async def close(self) -> None:
        """Waits for a write in progress; the last connection to close empties the WAL into the database."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    def metrics(self) -> dict[str, float]:
        conflicts = self._conflicts.total
        return {"rows_total": self.rows, "repeats_total": self.repeats, "seq_conflicts_total": conflicts}

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    # -- in the thread

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            self._disconnect()  # rolls back; the next attempt starts afresh
            transient = _is_transient(error)
            reason = str(error) if transient else f"{error} (check MDSTREAM_DATA_DIR)"
            raise SinkError(self.name, self.path, reason, retriable=transient) from error
        except OSError as error:
            self._disconnect()
            raise from_os(self.name, self.path, error) from error

    def _store(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
        try:
            self._store_all(chunk.events for chunk in chunks)
        except _ROW_ERRORS:
            return self._store_each(chunks)
        return ()

    def _store_all(self, groups: Iterable[Sequence[Event]]) -> None:
        rows: dict[type[Event], list[tuple[Any, ...]]] = defaultdict(list)
        for group in groups:
            for event in group:
                kind = type(event)
                rows[kind].append(TABLES[kind].row(event))
        with self._transaction() as connection:
            new = sum(connection.executemany(TABLES[kind].insert, some).rowcount for kind, some in rows.items())
            found = self._clashes(connection, rows, new)
        self._count(rows, new, found)

    def _store_each(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
        """As `_store_all`, row by row: a statement that fails leaves its transaction as it was before."""
        refused = []
        rows: dict[type[Event], list[tuple[Any, ...]]] = defaultdict(list)
        new = 0
        with self._transaction() as connection:
            for chunk in chunks:
                for record, event in zip(chunk.records, chunk.events, strict=True):
                    table = TABLES[type(event)]
                    try:
                        row = table.row(event)
                        new += connection.execute(table.insert, row).rowcount
                    except _ROW_ERRORS as error:
                        refused.append(Refusal(chunk.partition, record, f"SQLite refuses it: {error}"))
                    else:
                        rows[type(event)].append(row)
            found = self._clashes(connection, rows, new)
        self._count(rows, new, found)
        return refused

    def _clashes(self, connection: sqlite3.Connection, rows: Rows, new: int) -> list[tuple[str, int]]:
        """Numbers that are stored with another content; looked up only if something may have come before."""
        rising = [self._numbers.rise(kind, map(_number, rows[kind])) for kind in NUMBERED if kind in rows]
        if all(rising) and new == sum(map(len, rows.values())):
            return []
        return [one for kind, at in NUMBERED.items() if kind in rows for one in clashes(connection, *at, rows[kind])]

    def _count(self, rows: Rows, new: int, found: Sequence[tuple[str, int]]) -> None:
        self.rows += new
        self.repeats += sum(map(len, rows.values())) - new
        self._conflicts.found(found)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            if connection.in_transaction:  # some failures have rolled it back already
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._file != _identity(self.path):
            log.warning("%s was moved away or deleted: beginning a new one", self.path)
            self._disconnect()
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=self._busy_limit_s, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection, self._file = connection, _identity(self.path)
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        _check_version(connection, self.path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            reason = "this file system does not allow SQLite's WAL mode: set MDSTREAM_DATA_DIR to a local disk"
            raise SinkError(self.name, self.path, reason, retriable=False)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
        connection.execute("BEGIN IMMEDIATE")  # another worker may be creating it right now
        version = _check_version(connection, self.path)
        steps = [SCHEMA] if version == 0 else [UPGRADES[older] for older in range(version, SCHEMA_VERSION)]
        for statement in chain.from_iterable(steps):
            connection.execute(statement)
        connection.execute("COMMIT")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _check_version(connection: sqlite3.Connection, path: Path) -> int:
    """The schema's version, 0 in a new file. Raises SinkError for a file that is not ours to write."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise SinkError(
            SqliteSink.name,
            path,
            f"a newer mdstream wrote it (schema {version}, this one knows {SCHEMA_VERSION}): "
            "upgrade mdstream or set MDSTREAM_DATA_DIR to another folder",
            retriable=False,
        )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version == 0 and tables:
        reason = "it is another program's database: move it away or set MDSTREAM_DATA_DIR to another folder"
        raise SinkError(SqliteSink.name, path, reason, retriable=False)
    return int(version)


def _is_transient(error: sqlite3.Error) -> bool:
    """Whether it may pass by itself; the low byte of SQLite's extended code is the primary one."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _TRANSIENT


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
