"""Hypertables, columnstore and retention, for servers with TimescaleDB (2.19 or newer).

    plain tables of the migrations ──> make_hypertables ──> set_policies(settings)       repeated, changes what differs

Names and arguments are those of the 2.19 API, docs.tigerdata.com/api/latest (hypertable, hypercore, data-retention).
"""

from __future__ import annotations

import logging
import re
from typing import NamedTuple

from sqlalchemy import Connection, TextClause, text

from mdstream.config import Settings
from mdstream.db.engine import place_of
from mdstream.errors import DatabaseError

log = logging.getLogger(__name__)


class Hypertable(NamedTuple):
    """`chunk`: the time that one chunk spans; `segment_by`: what rows are grouped by in the columnstore.

    The chunk being written should fit into memory with its indexes: a day of ticks or quotes, a week of the rest.
    """

    chunk: str
    segment_by: str
    keep_days: str
    """The field of `settings.database` for how long its rows are kept."""


HYPERTABLES = {
    "market_data_ticks": Hypertable("1 day", "symbol", "keep_ticks_days"),
    "market_data_quotes": Hypertable("1 day", "symbol", "keep_quotes_days"),
    "market_data_ohlcv": Hypertable("7 days", "symbol, interval", "keep_ohlcv_days"),
    "market_data_feed_events": Hypertable("7 days", "symbol", "keep_feed_events_days"),
}

# No index on the time alone (create_default_indexes): no query uses it, and it would slow down every write.
MAKE_HYPERTABLE = text("""SELECT create_hypertable(
    CAST(:table AS regclass), by_range('timestamp', CAST(:chunk AS interval)),
    create_default_indexes => FALSE, if_not_exists => TRUE, migrate_data => TRUE)""")
ENABLE_COLUMNSTORE = """ALTER TABLE {table} SET (timescaledb.enable_columnstore,
    timescaledb.segmentby = '{segment_by}', timescaledb.orderby = 'timestamp DESC')"""
_OF_TABLE = "CAST(quote_ident(hypertable_schema) || '.' || quote_ident(hypertable_name) AS regclass)"
HAS_COLUMNSTORE = text(
    f"SELECT compression_enabled FROM timescaledb_information.hypertables WHERE {_OF_TABLE} = CAST(:table AS regclass)"  # noqa: S608  our own
)
FIND_POLICY = text(
    "SELECT job_id, CAST(config ->> :age AS interval) = make_interval(days => :days) "  # noqa: S608  our own
    f"FROM timescaledb_information.jobs WHERE {_OF_TABLE} = CAST(:table AS regclass) AND proc_name = :proc"
)
CHANGE_POLICY = text("""SELECT alter_job(job_id, config => jsonb_set(config, ARRAY[CAST(:age AS text)],
    to_jsonb(CAST(make_interval(days => :days) AS text)))) FROM timescaledb_information.jobs WHERE job_id = :job""")


class Policy(NamedTuple):
    """A background job of a table: `proc` is what it runs, `age` the key of its age in the job's configuration."""

    proc: str
    age: str
    add: TextClause
    remove: TextClause


COMPRESS = Policy(
    "policy_compression",
    "compress_after",
    add=text("CALL add_columnstore_policy(CAST(:table AS regclass), after => make_interval(days => :days))"),
    remove=text("CALL remove_columnstore_policy(CAST(:table AS regclass))"),
)
DELETE = Policy(
    "policy_retention",
    "drop_after",
    add=text("SELECT add_retention_policy(CAST(:table AS regclass), drop_after => make_interval(days => :days))"),
    remove=text("SELECT remove_retention_policy(CAST(:table AS regclass))"),
)

VERSIONS = "SELECT installed_version, default_version FROM pg_available_extensions WHERE name = 'timescaledb'"
"""The version in this database (null: none) and the one on the server; no row without the extension."""
LEAST = (2, 19)

FAILED_JOBS = f"""SELECT job_id || ' (' || proc_name || ' of ' || s.hypertable_name || '): ' || coalesce((
        SELECT err_message FROM timescaledb_information.job_errors e WHERE e.job_id = s.job_id
        ORDER BY finish_time DESC LIMIT 1), 'no reason given')
    FROM timescaledb_information.job_stats s JOIN timescaledb_information.jobs USING (job_id)
    WHERE last_run_status = 'Failed' AND to_regclass(quote_ident(s.hypertable_schema) || '.' || quote_ident(
        s.hypertable_name)) = ANY(ARRAY['{"', '".join(HYPERTABLES)}']::regclass[]) ORDER BY job_id"""  # noqa: S608  our own
"""Background jobs of our tables whose last run failed, with their error."""


def judge_version(installed: str | None, available: str, where: str) -> None:
    """Return if the extension has the interface used here. Raises DatabaseError that says what to do."""
    if _is_new_enough(installed or available):
        return
    wanted = ".".join(map(str, LEAST))
    if not _is_new_enough(available):
        raise DatabaseError(where, f"its server has TimescaleDB {available}: install {wanted} or newer there")
    raise DatabaseError(
        where,
        f"its TimescaleDB is {installed}, and {wanted} or newer is needed: the server has {available}, run "
        '`psql -X -c "ALTER EXTENSION timescaledb UPDATE"`',
    )


def _is_new_enough(version: str) -> bool:
    return tuple(map(int, re.findall(r"\d+", version)[:2])) >= LEAST


def offered(connection: Connection) -> bool:
    """Whether the server has the extension, created in this database or not."""
    found = connection.execute(text("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"))
    return found.first() is not None


def settle(connection: Connection, settings: Settings) -> None:
    """Set up hypertables and policies according to the settings; warn if there is no TimescaleDB."""
    if offered(connection):
        make_hypertables(connection)
        set_policies(connection, settings)
    else:
        log.warning(
            "this PostgreSQL has no TimescaleDB: the tables are plain ones, nothing is compressed or deleted; "
            "once it is installed, run `mdstream db upgrade` again"
        )


def make_hypertables(connection: Connection) -> None:
    """Make our tables hypertables, moving their rows into chunks. Raises DatabaseError if TimescaleDB is too old."""
    for installed, available in connection.execute(text(VERSIONS)):
        judge_version(installed, available, place_of(connection))
    connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    for table, wanted in HYPERTABLES.items():
        connection.execute(MAKE_HYPERTABLE, {"table": table, "chunk": wanted.chunk})


def set_policies(connection: Connection, settings: Settings) -> None:
    """Set the compression and retention policies to the settings."""
    if connection.scalar(text("SELECT current_setting('timescaledb.license')")) == "apache":
        log.warning("TimescaleDB's Apache edition has no columnstore and no policies: nothing is compressed or deleted")
        return
    for table, wanted in HYPERTABLES.items():
        if settings.database.compress_after_days and not connection.scalar(HAS_COLUMNSTORE, {"table": table}):
            connection.execute(text(ENABLE_COLUMNSTORE.format(table=table, segment_by=wanted.segment_by)))
        _set_policy(connection, table, COMPRESS, settings.database.compress_after_days)
        _set_policy(connection, table, DELETE, getattr(settings.database, wanted.keep_days))


def _set_policy(connection: Connection, table: str, policy: Policy, days: int) -> None:
    """Change only what differs: a policy that is removed and added again runs at once and loses its schedule."""
    given = {"table": table, "days": days}
    found = connection.execute(FIND_POLICY, given | {"proc": policy.proc, "age": policy.age}).first()
    if found is None:
        if days:
            connection.execute(policy.add, given)
    elif not days:
        connection.execute(policy.remove, {"table": table})
    elif found[1] is False:  # None: an age of another kind, set by an operator
        connection.execute(CHANGE_POLICY, {"job": found[0], "age": policy.age, "days": days})
