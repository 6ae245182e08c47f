"""What PostgreSQL says when it fails, in one line that says what to do."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from mdstream.db.failures import BY_STATE, BY_WORDS, explain
from mdstream.errors import SchemaError, TooSlowError

AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '
AWAY = "(is it running, and is MARKET_DATA_DATABASE_URL right?)"
TLS = "(check sslmode, sslrootcert, sslcert and sslkey in MARKET_DATA_DATABASE_URL, or PGSSLMODE and its like)"
WRONG = "(check MARKET_DATA_DATABASE_URL, or the server's pg_hba.conf)"


@pytest.mark.parametrize(
    ("message", "shown", "retriable"),
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
        (f"{AT}SSL error: certificate verify failed", f"SSL error: certificate verify failed {TLS}", False),
        ('connection is bad: invalid sslmode value: "on"', f'invalid sslmode value: "on" {TLS}', False),
        (f"{AT}SSL error: tlsv1 alert unknown ca", f"SSL error: tlsv1 alert unknown ca {TLS}", False),
        (
            f'{AT}root certificate file "/ca" does not exist\nEither provide the file, or change sslmode.',
            f'root certificate file "/ca" does not exist {TLS}',
            False,
        ),
        (f"{AT}SSL SYSCALL error: EOF detected", f"SSL SYSCALL error: EOF detected {AWAY}", True),
        (
            f"{AT}SSL connection has been closed unexpectedly",
            f"SSL connection has been closed unexpectedly {AWAY}",
            True,
        ),
        (
            "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally",
            f"server closed the connection unexpectedly {AWAY}",
            True,
        ),
    ],
)
def test_explain_makes_one_line_of_a_lost_connection(message: str, shown: str, retriable: bool) -> None:
    """libpq gives no code for these: its words decide, and what they leave open is tried again."""
    found = explain(psycopg.OperationalError(message), "md@db:5432/ticks")
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
def test_explain_distinguishes_what_passes_from_what_needs_an_operator(
    error: type[psycopg.Error], retriable: bool
) -> None:
    """A failover, a full disk and a lock pass; privileges, tables and addresses do not."""
    assert explain(error("words"), "ticks").retriable is retriable


def test_explain_promises_nothing_that_a_command_does_not_do() -> None:
    """A sink tries again, and its loop says so; `mdstream db` and the audit do not."""
    advice = [*BY_STATE.values(), *(advice for _, advice in BY_WORDS)]
    assert not [each.text for each in advice if "tried again" in each.text]


def test_explain_sends_what_no_grant_gives_to_the_owner() -> None:
    """An upgrade alters the tables; what is merely read or written can be granted."""
    error = errors.InsufficientPrivilege("must be owner of table market_data_ticks")
    assert str(explain(error, "ticks", owner=True)).endswith(
        "(run this as the owner of the tables, or as who may create them: docs/database.md, Privileges)"
    )
    assert str(explain(error, "ticks")).endswith("(let the owner of the tables GRANT it)")


def test_explain_distinguishes_what_is_too_slow_from_what_else_the_server_ends() -> None:
    """Less at once may do; a server that shuts down does not care how much it was."""
    assert isinstance(explain(errors.QueryCanceled("statement timeout"), "ticks"), TooSlowError)
    assert not isinstance(explain(errors.AdminShutdown("shutdown"), "ticks"), TooSlowError)


def test_explain_sends_a_missing_table_to_the_upgrade() -> None:
    """It is the schema's error, not the server's."""
    found = explain(errors.UndefinedTable('relation "market_data_ticks" does not exist'), "ticks")
    assert isinstance(found, SchemaError)
    assert str(found) == 'database ticks: relation "market_data_ticks" does not exist (run `mdstream db upgrade`)'
