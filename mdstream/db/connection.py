"""Connections to the database, the check of its schema, and its failures as one line that says what to do.

Everything shown or raised here names the database as USER@HOST:PORT/DATABASE, never with the password.
"""

from __future__ import annotations

import re
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict

from mdstream.config import Settings
from mdstream.db import schema
from mdstream.db.failures import explain
from mdstream.errors import DatabaseError, SchemaError, SettingsError

__all__ = ["check", "connect", "explain", "judge", "options", "place", "place_of", "url_of"]

CONNECT_LIMIT_S = 10
"""Limit of an attempt to connect, per address."""

_EXPECTED = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"


def url_of(settings: Settings) -> str:
    """MARKET_DATA_DATABASE_URL. Raises SettingsError if it is not set."""
    url = "" if settings.database.url is None else settings.database.url.get_secret_value().strip()
    if not url:
        raise SettingsError(f"MARKET_DATA_DATABASE_URL is not set: expected {_EXPECTED}")
    return url


def options(url: str) -> dict[str, Any]:
    """A URL, or libpq's `host=... dbname=...`, as psycopg takes it; a driver in it (postgresql+asyncpg://) is dropped.

    Raises SettingsError, without the text itself.
    """
    try:
        found: dict[str, Any] = dict(conninfo_to_dict(re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", url)))
    except psycopg.ProgrammingError:
        raise SettingsError(f"MARKET_DATA_DATABASE_URL cannot be read: expected {_EXPECTED}") from None
    misplaced = any("@" in str(found.get(name, "")) for name in ("user", "host", "dbname"))
    if misplaced or not re.fullmatch(r"[0-9,]*", str(found.get("port", ""))):
        # Part of the password was parsed as a host or port, and the next failure would show it.
        raise SettingsError(
            f"MARKET_DATA_DATABASE_URL cannot be read: expected {_EXPECTED}, "
            "with @ : / % of a user or password written as %40 %3A %2F %25"
        )
    return {"connect_timeout": CONNECT_LIMIT_S, "application_name": "mdstream", **found}


def place(url: str) -> str:
    """USER@HOST:PORT/DATABASE of a URL. Raises SettingsError."""
    found = options(url)
    where = f"{found.get('host', 'localhost')}:{found.get('port', '5432')}"
    user = found.get("user", "")
    return f"{user}@{where}/{found.get('dbname', user)}"


def place_of(connection: psycopg.Connection[Any] | AsyncConnection[Any]) -> str:
    """USER@HOST:PORT/DATABASE of a connection."""
    info = connection.info
    return f"{info.user}@{info.host}:{info.port}/{info.dbname}"


async def connect(url: str) -> AsyncConnection[Any]:
    """A new connection that commits each statement by itself. Raises SettingsError, DatabaseError."""
    try:
        return await AsyncConnection.connect(**options(url), autocommit=True)
    except psycopg.Error as error:
        raise explain(error, place(url)) from error


async def check(connection: AsyncConnection[Any], *, write: bool = True) -> None:
    """Return if the tables are those that this mdstream knows, and we may read them and (`write`) write to them.

    Raises SchemaError or DatabaseError that say what to run.
    """
    where = place_of(connection)
    try:
        if not await _column(connection, "SELECT to_regclass(%s)", schema.VERSION_TABLE):
            judge(None, where)
        if grants := await _missing_grants(connection, write=write):
            raise DatabaseError(where, f"missing privileges: let the owner of the tables run: {' '.join(grants)}")
        revisions = await _column(connection, f"SELECT version_num FROM {schema.VERSION_TABLE}")  # noqa: S608  our own
        judge(next(iter(revisions), None), where)
    except psycopg.Error as error:
        raise explain(error, where) from error


def judge(revision: str | None, where: str) -> None:
    """Return if the schema is the one that this mdstream writes. Raises SchemaError that says which side is behind.

    `revision`: what the version table holds, None if there is none.
    """
    if revision is None:
        raise SchemaError(where, "it has no tables of mdstream: run `mdstream db upgrade`")
    known = f"this mdstream needs {schema.HEAD}"
    if revision not in schema.REVISIONS:
        raise SchemaError(where, f"its schema {revision} is newer than mdstream ({known}): upgrade mdstream")
    if revision != schema.HEAD:
        raise SchemaError(where, f"its schema {revision} is too old ({known}): run `mdstream db upgrade`")


async def _missing_grants(connection: AsyncConnection[Any], *, write: bool) -> list[str]:
    """The statements that grant this user the missing privileges."""
    user, database = f'"{connection.info.user}"', connection.info.dbname
    wanted = ("SELECT", "INSERT", "UPDATE") if write else ("SELECT",)
    tables = [table.name for table in schema.TABLES]
    grants = []
    for some, privileges in ((tables, wanted), ([schema.VERSION_TABLE], ("SELECT",))):
        if lacking := await _column(connection, _LACKING, some, list(privileges)):
            grants.append(f"GRANT {', '.join(privileges)} ON {', '.join(lacking)} TO {user};")
    temporary = "SELECT 1 WHERE NOT has_database_privilege(%s, 'TEMPORARY')"
    if write and await _column(connection, temporary, database):  # batches go through a temporary table
        grants.append(f'GRANT TEMPORARY ON DATABASE "{database}" TO {user};')
    return grants


# Of these tables, in their order, those that lack one of these privileges.
_LACKING = """SELECT t FROM unnest(%s::text[]) WITH ORDINALITY wanted (t, n)
    WHERE EXISTS (SELECT FROM unnest(%s::text[]) p WHERE NOT has_table_privilege(to_regclass(t), p)) ORDER BY n"""


async def _column(connection: AsyncConnection[Any], query: LiteralString, *values: object) -> list[str]:
    """The first column of a query's rows, without nulls."""
    cursor = await connection.execute(query, values)
    return [str(row[0]) for row in await cursor.fetchall() if row[0] is not None]
