"""PostgreSQL's errors as a DatabaseError: retriable or not, and what to do about it."""

from __future__ import annotations

import re
from typing import NamedTuple

import psycopg

from mdstream.errors import DatabaseError, SchemaError, TooSlowError


class Advice(NamedTuple):
    """What to do, and whether the failure may pass by itself."""

    text: str
    retriable: bool = False
    error: type[DatabaseError] = DatabaseError


_URL = "check MARKET_DATA_DATABASE_URL"
_TLS = Advice("check sslmode, sslrootcert, sslcert and sslkey in MARKET_DATA_DATABASE_URL, or PGSSLMODE and its like")
_AWAY = Advice("is it running, and is MARKET_DATA_DATABASE_URL right?", retriable=True)
_PASSES = Advice("it passes by itself, as a rule", retriable=True)
_UPGRADE = Advice("run `mdstream db upgrade`", error=SchemaError)

# By SQLSTATE, or the class that it begins with: postgresql.org/docs/current/errcodes-appendix.html.
BY_STATE = {
    "08": _AWAY,
    "25006": Advice("it is read-only, a standby perhaps", retriable=True),
    "28": Advice(f"{_URL}, or the server's pg_hba.conf"),
    "3D000": Advice(f"create it (`createdb`), or {_URL}"),
    "3F": Advice(f"create the schema, or {_URL} (search_path)"),
    "40": _PASSES,
    "42501": Advice("let the owner of the tables GRANT it"),
    "42P01": _UPGRADE,
    "42703": _UPGRADE,
    "53": Advice("free space, memory or connections on the server", retriable=True),
    "53400": Advice("raise that limit on the server", retriable=True),
    "55P03": Advice("another session holds a lock: stop what uses the tables, then try again", retriable=True),
    "57": Advice("the server stopped it, or is restarting", retriable=True),
    "57014": Advice("it took too long, or was cancelled", retriable=True, error=TooSlowError),
    "58": Advice("look at the server's log", retriable=True),
}

# For a failed connection libpq gives no SQLSTATE, only a message.
BY_WORDS = (
    (r'database ".*" does not exist', BY_STATE["3D000"]),
    # Not every mention of SSL: a TLS connection that is cut says "SSL SYSCALL error" and the like.
    (r"certificate|private key|SSL was required|no encryption| alert |wrong version number|sslmode", _TLS),
    (r"password|role \".*\" does not exist|pg_hba\.conf|authentication", BY_STATE["28"]),
    (r"starting up|shutting down|recovery|too many|connection slots", _PASSES),
)
_OTHER = Advice("look at the server's log")
_OWNER = Advice("run this as the owner of the tables, or as who may create them: docs/database.md, Privileges")


def explain(error: psycopg.Error, where: str, *, owner: bool = False) -> DatabaseError:
    """The failure as one line: what the server said, and what to do. `where` names the database.

    `owner`: the operation needs the tables' owner, and no GRANT allows it.
    """
    advice = _OWNER if owner and error.sqlstate == "42501" else _advice(error)
    return advice.error(where, f"{_words(error)} ({advice.text})", retriable=advice.retriable)


def _advice(error: psycopg.Error) -> Advice:
    state = error.sqlstate
    if state is not None:
        return BY_STATE.get(state) or BY_STATE.get(state[:2]) or _OTHER
    if not isinstance(error, psycopg.OperationalError):
        return _OTHER  # raised by psycopg itself for wrong arguments
    message = str(error)
    return next((advice for pattern, advice in BY_WORDS if re.search(pattern, message)), _AWAY)


def _words(error: psycopg.Error) -> str:
    """The server's message with its hint, or libpq's last one, without the addresses it tried before."""
    if error.diag.message_primary:
        hint = (error.diag.message_hint or "").split("\n")[0]
        return f"{error.diag.message_primary}. {hint}" if hint else error.diag.message_primary
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("\t")] or [
        "no reason given"
    ]
    attempts = [line for line in lines if " failed: " in line]  # libpq may add a hint below
    return re.sub(r"^(.* failed: |connection is bad: )?(FATAL: +)?", "", (attempts or lines)[-1]).strip()
