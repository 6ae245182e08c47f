"""Databases for the tests of what writes there, and what they hold."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
from psycopg import sql

from mdstream.config import load
from mdstream.db import migrate
from mdstream.embedded.postgres import EmbeddedPostgres


def empty(running: EmbeddedPostgres) -> str:
    """The address of a new and empty database."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(running.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return running.url_of(name)


def fresh(running: EmbeddedPostgres) -> str:
    """The address of a new database with our tables."""
    url = empty(running)
    migrate.upgrade(load(database_url=url))
    return url


def ask(url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """The answer to a query, or to the last of several."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query, values or None)
        while cursor.nextset():
            pass
        return [] if cursor.description is None else cursor.fetchall()


def cut_all(url: str) -> None:
    """End every other session in the database."""
    ask(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
    )
