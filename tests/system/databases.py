"""PostgreSQL servers for the tests of what writes there: one for all, or one of the test's own to be stopped."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from mdstream.config import load
from mdstream.db import migrate
from mdstream.db.embedded import EmbeddedPostgres
from mdstream.testing import free_port


@contextmanager
def server() -> Iterator[EmbeddedPostgres]:
    """A server without tables."""
    with EmbeddedPostgres(free_port()) as running:
        yield running


def fresh(running: EmbeddedPostgres) -> str:
    """The address of a new database with our tables."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(running.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = running.url_of(name)
    migrate.upgrade(load(database_url=url))
    return url


def ask(url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """The answer to a query."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query, values or None)
        return [] if cursor.description is None else cursor.fetchall()


def cut_all(url: str) -> None:
    """End every other session in the database."""
    ask(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
    )
