"""What PostgreSQL says when it fails, in one line that says what to do."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from mdstream.db.failures import explain
from mdstream.errors import SchemaError

AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '
AWAY = "(is it running, and is MARKET_DATA_DATABASE_URL right?)"
WRONG = "(check MARKET_DATA_DATABASE_URL, or the server's pg_hba.conf)"


@pytest.mark.parametrize(
    ("said", "shown", "retriable"),
    [
        (
            f"{AT}Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
            f"Connection refused {AWAY}",
            True,
        ),
        (
            f'{AT}FATAL:  database "no" does not exist',
            'database "no" does not exist (create it (`createdb`), or check MARKET_DATA_DATABASE_URL)',
            False,
        ),
        (
            f'{AT}FATAL:  password authentication failed for user "md"',
            f'password authentication failed for user "md" {WRONG}',
            False,
        ),
        (f'{AT}FATAL:  role "md" does not exist', f'role "md" does not exist {WRONG}', False),
        (f"{AT}fe_sendauth: no password supplied", f"fe_sendauth: no password supplied {WRONG}", False),
        (
            f"{AT}FATAL:  the database system is starting up",
            "the database system is starting up (it passes by itself, as a rule)",
            True,
        ),
        (
            f"Multiple connection attempts failed. All:\n- 'a': {AT}Connection refused\n- 'b': {AT}No route to host",
            f"No route to host {AWAY}",
            True,
        ),
        (
            "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally",
            f"server closed the connection unexpectedly {AWAY}",
            True,
        ),
    ],
)
def test_explain_makes_one_line_of_a_lost_connection(said: str, shown: str, retriable: bool) -> None:
    """libpq gives no code for these: its words decide, and what they leave open is tried again."""
    found = explain(psycopg.OperationalError(said), "md@db:5432/ticks")
    assert (str(found), found.retriable) == (f"database md@db:5432/ticks: {shown}", retriable)


@pytest.mark.parametrize(
    ("error", "retriable"),
    [
        (errors.DiskFull, True),
        (errors.TooManyConnections, True),
        (errors.AdminShutdown, True),
        (errors.CannotConnectNow, True),
        (errors.ReadOnlySqlTransaction, True),
        (errors.DeadlockDetected, True),
        (errors.SerializationFailure, True),
        (errors.LockNotAvailable, True),
        (errors.QueryCanceled, True),
        (errors.ConnectionFailure, True),
        (errors.IoError, True),
        (errors.InsufficientPrivilege, False),
        (errors.UndefinedTable, False),
        (errors.InvalidPassword, False),
        (errors.InvalidCatalogName, False),
        (errors.SyntaxError, False),
    ],
)
def test_explain_tells_what_passes_from_what_needs_somebody(error: type[psycopg.Error], retriable: bool) -> None:
    """A failover, a full disk and a lock pass; privileges, tables and addresses do not."""
    assert explain(error("words"), "ticks").retriable is retriable


def test_explain_sends_a_missing_table_to_the_upgrade() -> None:
    """It is the schema's error, not the server's."""
    found = explain(errors.UndefinedTable('relation "market_data_ticks" does not exist'), "ticks")
    assert isinstance(found, SchemaError)
    assert str(found) == 'database ticks: relation "market_data_ticks" does not exist (run `mdstream db upgrade`)'
