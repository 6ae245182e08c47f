"""`mdstream db`: the tables of the database and their revisions."""

from __future__ import annotations

import asyncio
from typing import Any

import click
from psycopg import AsyncConnection

from mdstream.cli import set_up_logging
from mdstream.config import load
from mdstream.db import migrate
from mdstream.db.connection import check, connect, place, place_of, url_of
from mdstream.db.schema import HEAD
from mdstream.db.timescale import FAILED_JOBS, VERSIONS, judge_version
from mdstream.errors import DatabaseError


@click.group()
def command() -> None:
    """Create and upgrade the tables of the database: ticks, quotes, bars and feed events.

    The database is PostgreSQL, with TimescaleDB (2.19 or newer) where the server has it: then the tables are
    hypertables, compressed and deleted by age. Without it they are plain tables, and everything works.

    \b
    First time:    createdb market_data
                   export MARKET_DATA_DATABASE_URL=postgresql://USER:PASSWORD@localhost:5432/market_data
                   mdstream db upgrade
                   mdstream worker timescale
    Later:         mdstream db upgrade        for each new mdstream, with the timescale role stopped; may be repeated
    Check:         mdstream db current        exits with 1 and says what to run if something is wrong

    \b
    What `upgrade` sets in TimescaleDB; change a setting, then run it again:
      MDSTREAM_DB_COMPRESS_AFTER_DAYS    age of compression (7; 0: never)
      MDSTREAM_DB_KEEP_TICKS_DAYS        age of deletion (0: kept forever), of quotes, bars and feed events as well:
      MDSTREAM_DB_KEEP_QUOTES_DAYS, MDSTREAM_DB_KEEP_OHLCV_DAYS, MDSTREAM_DB_KEEP_FEED_EVENTS_DAYS
    What already matches is left alone, with any schedule that alter_job gave it.

    Tables of the older service (market_data_ticks without trade_id) are recognised: their rows are copied, and the old
    tables kept in the schema mdstream_legacy. More: docs/database.md.
    """
    set_up_logging()


@command.command()
def upgrade() -> None:
    """Upgrade the tables to the newest revision.

    It is one transaction: after a failure, or Ctrl-C, everything is as before. It needs the privilege to create tables,
    and the extension if the server offers TimescaleDB and this database does not have it yet.
    """
    settings = load()
    migrate.upgrade(settings)
    click.echo(f"database {place(url_of(settings))}: schema {HEAD}, the newest")


@command.command()
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def downgrade(revision: str, yes: bool) -> None:
    """Go back to an older REVISION; `base` drops all of mdstream's tables.

    Data that only the newer tables hold is lost. Tables of the older service are restored as they were at the upgrade.

    \b
    mdstream db history
    mdstream db downgrade base
    """
    settings = load()
    where = place(url_of(settings))
    if not yes:
        click.confirm(f"Drop what is newer than {revision} in database {where}, rows included?", abort=True, err=True)
    migrate.downgrade(settings, revision)
    click.echo(f"database {where}: went back to {revision}")


@command.command()
def current() -> None:
    """Check that the tables are those of this mdstream version, and that it may write to them.

    Also that TimescaleDB is new enough, and that its background jobs for these tables succeed.
    """
    where, server = asyncio.run(_check(url_of(load())))
    click.echo(f"database {where}: schema {HEAD}, the newest; {server}")


async def _check(url: str) -> tuple[str, str]:
    """The database, and what it runs on. Raises DatabaseError if it is not as it should be."""
    async with await connect(url) as connection:
        await check(connection)
        where = place_of(connection)
        version = connection.info.server_version // 10_000
        extension = await _extension(connection, where)
        return where, f"PostgreSQL {version}, {f'TimescaleDB {extension}' if extension else 'without TimescaleDB'}"


async def _extension(connection: AsyncConnection[Any], where: str) -> str | None:
    """The version of TimescaleDB in this database. Raises DatabaseError if it is too old or its jobs fail."""
    versions = await (await connection.execute(VERSIONS)).fetchone()
    if versions is None or versions[0] is None:
        return None
    judge_version(versions[0], versions[1], where)
    failed = await (await connection.execute(FAILED_JOBS)).fetchall()
    if failed:
        jobs = "; ".join(str(job) for (job,) in failed)
        reason = f"background jobs failed: {jobs} (TimescaleDB tries them again; `CALL run_job(ID)` does so at once)"
        raise DatabaseError(where, reason)
    return str(versions[0])


@command.command()
def history() -> None:
    """List all revisions, oldest first, without a database."""
    for name, text in migrate.history():
        click.echo(f"{name}  {text}{'  (newest)' if name == HEAD else ''}")
