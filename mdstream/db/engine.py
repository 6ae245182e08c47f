"""The migrations' connection to the database: one transaction, one upgrade at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from mdstream.config import Settings
from mdstream.db.connection import options, place, url_of
from mdstream.db.failures import explain

ONE_AT_A_TIME = 0x6D_64_73_74_72_65_61_6D
"""Key of the advisory lock that an upgrade holds: the bytes of "mdstream"."""
LOCK_LIMIT = "30s"
"""How long to wait for other sessions: every later session that wants the tables queues up behind this one."""


@contextmanager
def transaction(settings: Settings) -> Iterator[Connection]:
    """A connection in a transaction, committed at the end. Raises SettingsError, DatabaseError."""
    url = url_of(settings)
    where = place(url)
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(**options(url)), poolclass=NullPool
    ).execution_options(place=where)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_LIMIT}'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ONE_AT_A_TIME})
            yield connection
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.Error):
            raise
        raise explain(error.orig, where, owner=True) from error


def place_of(connection: Connection) -> str:
    """USER@HOST:PORT/DATABASE."""
    return str(connection.get_execution_options()["place"])
