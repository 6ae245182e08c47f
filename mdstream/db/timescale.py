"""Hypertables, columnstore and retention: all that is done where the server has TimescaleDB (2.19 or newer).

    plain tables of the migrations ──> make_hypertables ──> set_policies(settings)       may be repeated

Names and arguments are those of the 2.19 API, docs.tigerdata.com/api/latest (hypertable, hypercore, data-retention).
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from sqlalchemy import Connection, TextClause, text

from mdstream.config import Settings

log = logging.getLogger(__name__)


class Hypertable(NamedTuple):
    """`chunk`: the time that one chunk spans; `segment_by`: what rows are grouped by in the columnstore.

    The chunk being written should fit into memory with its indexes: a day of ticks or quotes, a week of what is fewer.
    """

    chunk: str
    segment_by: str
    keep_days: str
    """The setting that says how long its rows are kept."""


HYPERTABLES = {
    "market_data_ticks": Hypertable("1 day", "symbol", "db_keep_ticks_days"),
    "market_data_quotes": Hypertable("1 day", "symbol", "db_keep_quotes_days"),
    "market_data_ohlcv": Hypertable("7 days", "symbol, interval", "db_keep_ohlcv_days"),
    "market_data_feed_events": Hypertable("7 days", "symbol", "db_keep_feed_events_days"),
}

# No index on the time alone (create_default_indexes): nobody asks for it, and every row written would pay.
MAKE_HYPERTABLE = text("""SELECT create_hypertable(
    CAST(:table AS regclass), by_range('timestamp', CAST(:chunk AS interval)),
    create_default_indexes => FALSE, if_not_exists => TRUE, migrate_data => TRUE)""")
ENABLE_COLUMNSTORE = """ALTER TABLE {table} SET (timescaledb.enable_columnstore,
    timescaledb.segmentby = '{segment_by}', timescaledb.orderby = 'timestamp DESC')"""
STOP_COMPRESSING = text("CALL remove_columnstore_policy(CAST(:table AS regclass), if_exists => TRUE)")
COMPRESS = text("CALL add_columnstore_policy(CAST(:table AS regclass), after => make_interval(days => :days))")
STOP_DELETING = text("SELECT remove_retention_policy(CAST(:table AS regclass), if_exists => TRUE)")
DELETE = text("SELECT add_retention_policy(CAST(:table AS regclass), drop_after => make_interval(days => :days))")


def offered(connection: Connection) -> bool:
    """Whether the server has the extension, created in this database or not."""
    found = connection.execute(text("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"))
    return found.first() is not None


def settle(connection: Connection, settings: Settings) -> None:
    """Give the tables what TimescaleDB has for them, as the settings say now; warn where there is none."""
    if offered(connection):
        make_hypertables(connection)
        set_policies(connection, settings)
    else:
        log.warning(
            "this PostgreSQL has no TimescaleDB: the tables are plain ones, nothing is compressed or deleted; "
            "once it is installed, run `mdstream db upgrade` again"
        )


def make_hypertables(connection: Connection) -> None:
    """Make our tables hypertables, moving what rows they have into chunks."""
    connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    for table, wanted in HYPERTABLES.items():
        connection.execute(MAKE_HYPERTABLE, {"table": table, "chunk": wanted.chunk})


def set_policies(connection: Connection, settings: Settings) -> None:
    """Set what is compressed and what is deleted, and when, to what the settings say now."""
    if connection.scalar(text("SELECT current_setting('timescaledb.license')")) == "apache":
        log.warning("TimescaleDB's Apache edition has no columnstore and no policies: nothing is compressed or deleted")
        return
    for table, wanted in HYPERTABLES.items():
        if settings.db_compress_after_days:
            connection.execute(text(ENABLE_COLUMNSTORE.format(table=table, segment_by=wanted.segment_by)))
        _set_policy(connection, table, STOP_COMPRESSING, COMPRESS, settings.db_compress_after_days)
        _set_policy(connection, table, STOP_DELETING, DELETE, getattr(settings, wanted.keep_days))


def _set_policy(connection: Connection, table: str, remove: TextClause, add: TextClause, days: int) -> None:
    connection.execute(remove, {"table": table})  # a policy is not changed, but removed and added again
    if days:
        connection.execute(add, {"table": table, "days": days})
