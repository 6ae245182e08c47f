"""Stored events as rows, in pieces: from the timescale role's database or the files role's SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import psycopg

from mdstream.client import queries
from mdstream.client.kinds import checked_interval, checked_symbol
from mdstream.client.queries import FIELDS, Request
from mdstream.client.start import time_ns
from mdstream.config import Settings
from mdstream.db import connection as db
from mdstream.errors import DatabaseError, SettingsError
from mdstream.records import LAST_NS
from mdstream.sinks.sqlite import FILE_NAME, SCHEMA_VERSION

Rows = list[tuple[Any, ...]]

ROWS_AT_ONCE = 50_000
STEPS_AT_ONCE = 1_000_000
"""Of SQLite's machine: some milliseconds."""
SOURCES = ("timescale", "sqlite")


def request_of(kind: str, symbol: str, begin: str | date, end: str | date, interval: str | None = None) -> Request:
    """A request from what a user gives; times as in `start.time_ns`. Raises SettingsError that names what is wrong."""
    if kind not in FIELDS:
        raise SettingsError(f"there is no history of {kind!r}: expected one of {', '.join(FIELDS)}")
    if interval is not None and kind != "bars":
        raise SettingsError(f"an interval, {interval}, is of bars, and {kind} have none")
    begin_ns, end_ns = (min(max(0, time_ns(given)), LAST_NS) // 1000 * 1000 for given in (begin, end))
    if begin_ns >= end_ns:
        raise SettingsError(f"the range from {begin} to {end} is empty")
    return Request(kind, checked_symbol(symbol), begin_ns, end_ns, checked_interval(interval) or "1m")


def read(settings: Settings, request: Request, source: str | None = None) -> Iterator[Rows]:
    """The rows in the order of their times, one snapshot. By default of the database if its address is set.

    Raises SettingsError or DatabaseError that says what to do.
    """
    if source not in (None, *SOURCES):
        raise SettingsError(f"source={source!r}: expected one of {', '.join(SOURCES)}")
    url = settings.database.url
    if source == "timescale" or (source is None and url is not None and url.get_secret_value().strip()):
        return _from_timescale(db.url_of(settings), request)
    return _from_sqlite(settings.data_dir / FILE_NAME, request)


def _from_timescale(url: str, request: Request) -> Iterator[Rows]:
    query, values = queries.timescale(request)
    try:
        with psycopg.connect(**db.options(url)) as connection, connection.cursor(name="mdstream_history") as cursor:
            cursor.execute(query, values)
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield rows
    except psycopg.Error as error:
        raise db.explain(error, db.place(url)) from error


def _from_sqlite(path: Path, request: Request) -> Iterator[Rows]:
    if not path.is_file():
        advice = "run `mdstream worker files`, or set MDSTREAM_DATA_DIR, or MARKET_DATA_DATABASE_URL for TimescaleDB"
        raise DatabaseError(str(path), f"there is no such file: {advice}")
    try:
        # Read only: the writer goes on meanwhile.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            _check_version(connection, path)
            # Python sees Ctrl-C when it runs, and SQLite may sort for minutes.
            connection.set_progress_handler(lambda: 0, STEPS_AT_ONCE)
            cursor = connection.execute(*queries.sqlite(request))
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield rows
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from None
        reason = str(error) if isinstance(error, sqlite3.OperationalError) else f"{error} (is it the files role's?)"
        raise DatabaseError(str(path), reason) from error


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise DatabaseError(str(path), "a newer mdstream wrote it: upgrade mdstream")
    if version < SCHEMA_VERSION:
        raise DatabaseError(str(path), "it is none of this mdstream's: `mdstream worker files` upgrades an older one")
