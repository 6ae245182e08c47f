"""The tables of the database on a real PostgreSQL: made, upgraded, taken over from the older service, and checked."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import databases
import psycopg
import pytest
from databases import ask
from processes import BIN, LIMIT_S, PROJECT, Processes, run_mdstream
from servers import embedded_postgres

from mdstream import config
from mdstream.db import engine, migrate, schema
from mdstream.embedded import postgres as embedded
from mdstream.embedded.postgres import EmbeddedPostgres
from mdstream.errors import DatabaseError

pytestmark = pytest.mark.system

Row = tuple[Any, ...]

WARNING = "WARNING mdstream.db.timescale: this PostgreSQL has no TimescaleDB"

OLDER_SERVICE = """
CREATE TABLE market_data_ticks (
    exchange varchar(32) NOT NULL, symbol varchar(32) NOT NULL, timestamp timestamptz NOT NULL,
    source varchar(32) NOT NULL, price numeric(20, 8) NOT NULL, volume numeric(20, 8), side varchar(8),
    extra json, created_at timestamp DEFAULT '2025-01-01',
    PRIMARY KEY (exchange, symbol, timestamp, source));
CREATE INDEX market_data_ticks_symbol_time ON market_data_ticks (symbol, timestamp);
INSERT INTO market_data_ticks VALUES
    ('binance', 'BTCUSDT', '2025-03-01 12:00:00.123456Z', 'binance', 93741.25, 0.0015, 'buy', '{"a": 1}'),
    ('binance', 'BTCUSDT', '2025-03-01 12:00:00.123457Z', 'binance', 93741.5, NULL, NULL, NULL),
    ('nasdaq', 'BRK.B', '1969-12-31 23:59:59Z', 'iqfeed', 480, 100, 'sell', '{}');
CREATE TABLE market_data_ohlcv (
    exchange text, symbol text, interval text, timestamp timestamp, open numeric, high numeric, low numeric,
    close numeric, volume numeric, quote_volume numeric, trades integer, extra jsonb,
    PRIMARY KEY (exchange, symbol, interval, timestamp));
INSERT INTO market_data_ohlcv VALUES
    ('binance', 'BTCUSDT', '1m', '2025-03-01 12:00', 1, 3, 0.5, 2, 10, 20, 7, NULL);
"""
"""Tables as the older service has them: ticks keyed without a trade id, decimals, columns that ours have not."""


@pytest.fixture
def url(postgres: EmbeddedPostgres) -> str:
    """The address of a new and empty database."""
    return databases.empty(postgres)


def mdstream(url: str, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run an `mdstream db` command, from a folder that is no checkout."""
    return run_mdstream("db", *args, env={"MARKET_DATA_DATABASE_URL": url, **more}, cwd=Path("/"))


def succeed(url: str, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    done = mdstream(url, *args, **more)
    assert done.returncode == 0, done.stderr
    return done


def alembic(url: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run `alembic` as in a checkout."""
    return subprocess.run(
        [str(BIN / "alembic"), *args],
        cwd=PROJECT / "infra",
        env={"MARKET_DATA_DATABASE_URL": url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def tables(url: str) -> dict[str, tuple[tuple[schema.Column, ...], tuple[str, ...]]]:
    """Columns and key of every table of ours that is there."""
    columns = ask(
        url,
        "SELECT table_name, column_name, data_type, is_nullable = 'YES' FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name LIKE 'market_data_%' ORDER BY table_name, ordinal_position",
    )
    keys = ask(
        url,
        "SELECT conrelid::regclass::text, array_agg(attname::text ORDER BY array_position(conkey, attnum)) "
        "FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey) "
        "WHERE contype = 'p' GROUP BY conrelid",
    )
    of_key = {table: tuple(names) for table, names in keys}
    grouped = itertools.groupby(columns, key=lambda row: row[0])
    return {table: (tuple(schema.Column(*row[1:]) for row in rows), of_key[table]) for table, rows in grouped}


CONTRACT = {table.name: (table.columns, table.key) for table in schema.TABLES}


# ------------------------------------------------------------------------------------------------------- up and down


def test_upgrade_makes_the_tables_of_the_contract_and_keeps_their_rows(url: str) -> None:
    """Without TimescaleDB they are plain tables, which one warning says; run again, it changes nothing."""
    first = succeed(url, "upgrade")
    assert first.stderr.count("WARNING") == first.stderr.count(WARNING) == 1
    assert first.stdout == f"database {shown(url)}: schema {schema.HEAD}, the newest\n"
    assert tables(url) == CONTRACT

    tick = "('binance', 'BTCUSDT', '2026-01-05 15:00:00.122Z', 'binance', '5', 93741.2, 0.0015, 'sell', 1, 2, 3, '{}')"
    ask(url, f"INSERT INTO market_data_ticks VALUES {tick}")
    succeed(url, "upgrade")
    assert ask(url, "SELECT trade_id, price, size FROM market_data_ticks") == [("5", 93741.2, 0.0015)]
    assert "PostgreSQL 18, without TimescaleDB" in succeed(url, "current").stdout


def test_alembic_in_a_checkout_runs_the_same_migrations_up_and_down(url: str) -> None:
    """`cd infra && alembic upgrade head`; `downgrade base` leaves nothing of ours but an empty version table."""
    up = alembic(url, "upgrade", "head")
    assert (up.returncode, up.stderr.count(WARNING)) == (0, 1), up.stderr
    assert tables(url) == CONTRACT
    assert alembic(url, "current").stdout.strip() == f"{schema.HEAD} (head)"
    assert alembic(url, "downgrade", "base").returncode == 0
    assert tables(url) == {}
    assert mdstream(url, "current").stderr.endswith("it has no tables of mdstream: run `mdstream db upgrade`\n")
    offline = alembic(url, "upgrade", "head", "--sql")
    assert offline.returncode != 0
    assert "FAILED: the migrations inspect the existing tables" in offline.stdout + offline.stderr
    succeed(url, "upgrade")
    assert tables(url) == CONTRACT


def test_downgrade_names_the_revisions_where_it_is_given_none_of_them(url: str) -> None:
    """And drops nothing."""
    succeed(url, "upgrade")
    done = mdstream(url, "downgrade", "0815", "--yes")
    assert done.returncode == 2
    assert f"expected base or one of {', '.join(schema.REVISIONS)}" in done.stderr
    assert tables(url) == CONTRACT


INDEXES = """SELECT indexdef FROM pg_indexes WHERE tablename IN ('market_data_ticks', 'market_data_quotes')
    AND (indexdef LIKE '%brin%' OR indexdef LIKE '%quotes%DESC%') ORDER BY indexname"""


def test_revision_0002_brings_indexes_for_the_last_quotes_and_for_time(url: str) -> None:
    """And takes them away again; rows stay both ways."""
    succeed(url, "upgrade")
    ask(
        url,
        "INSERT INTO market_data_quotes SELECT 'S', now(), n, 'x', 'x', 1, 1, 1, 1, 1, 1 FROM generate_series(1, 9) n",
    )
    made = [
        (
            "CREATE INDEX market_data_quotes_symbol_time ON public.market_data_quotes USING btree "
            '(symbol, "timestamp" DESC)'
        ),
        (
            'CREATE INDEX market_data_quotes_time ON public.market_data_quotes USING brin ("timestamp") '
            "WITH (autosummarize='on')"
        ),
        (
            'CREATE INDEX market_data_ticks_time ON public.market_data_ticks USING brin ("timestamp") '
            "WITH (autosummarize='on')"
        ),
    ]
    assert [definition for (definition,) in ask(url, INDEXES)] == made
    down = succeed(url, "downgrade", "0001", "--yes")
    assert "schema 0001, it was 0002" in down.stderr
    assert ask(url, INDEXES) == []
    assert "its schema 0001 is too old (this mdstream needs 0002)" in fails(url, "current")
    succeed(url, "upgrade")
    assert [definition for (definition,) in ask(url, INDEXES)] == made
    assert ask(url, "SELECT count(*) FROM market_data_quotes") == [(9,)]


def test_two_upgrades_at_once_take_turns(url: str, tmp_path: Path) -> None:
    """As when several machines start with a new version: one makes the tables, the other finds them."""
    with Processes(tmp_path, env={"MARKET_DATA_DATABASE_URL": url}) as processes:
        both = [processes.mdstream("db", "upgrade") for _ in range(2)]
        assert [process.wait() for process in both] == [0, 0], [process.output() for process in both]
    assert tables(url) == CONTRACT


def test_upgrade_gives_up_on_a_lock_and_changes_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting on, it would make every reader wait behind it."""
    ask(url, OLDER_SERVICE)
    monkeypatch.setattr(engine, "LOCK_LIMIT", "100ms")
    with psycopg.connect(url) as reader:
        reader.execute("SELECT * FROM market_data_ticks")
        with pytest.raises(DatabaseError, match="another session holds a lock: stop what uses the tables") as caught:
            migrate.upgrade(config.load(database_url=url))
    assert caught.value.retriable
    assert ask(url, "SELECT to_regclass('market_data_quotes'), count(*) FROM market_data_ticks") == [(None, 3)]


# ------------------------------------------------------------------------------------------------- the older service


def test_upgrade_takes_over_every_row_of_the_older_service(url: str) -> None:
    """With an empty trade id; what ours have no column for goes into `extra`; the old tables are kept beside."""
    ask(url, OLDER_SERVICE)
    done = succeed(url, "upgrade")
    assert "market_data_ticks: took over 3 rows of the older service" in done.stderr
    assert tables(url) == CONTRACT
    assert ask(
        url,
        "SELECT exchange, symbol, extract(epoch FROM timestamp)::text, source, trade_id, price, size, side, seq, "
        "ts_recv_ns, extra FROM market_data_ticks ORDER BY timestamp",
    ) == [
        ("nasdaq", "BRK.B", "-1.000000", "iqfeed", "", 480.0, 100.0, "sell", None, None, extra()),
        ("binance", "BTCUSDT", "1740830400.123456", "binance", "", 93741.25, 0.0015, "buy", None, None, extra(a=1)),
        ("binance", "BTCUSDT", "1740830400.123457", "binance", "", 93741.5, None, None, None, None, extra()),
    ]
    assert ask(
        url,
        "SELECT extract(epoch FROM timestamp)::int, open, high, low, close, volume, quote_volume, trades, revision, "
        "extra FROM market_data_ohlcv",
    ) == [(1740830400, 1.0, 3.0, 0.5, 2.0, 10.0, 20.0, 7, 0, None)]


def extra(**given: int) -> dict[str, Any]:
    return {**given, "created_at": "2025-01-01T00:00:00"}


def test_two_trades_of_a_microsecond_fit_beside_a_row_of_the_older_service(url: str) -> None:
    """The key holds the trade id now; repeats are still recognised."""
    ask(url, OLDER_SERVICE)
    succeed(url, "upgrade")
    at = "'2025-03-01 12:00:00.123456Z'"
    for trade_id in ("7", "8", "8"):
        row = f"'binance', 'BTCUSDT', {at}, 'binance', '{trade_id}'"
        ask(url, f"INSERT INTO market_data_ticks VALUES ({row}) ON CONFLICT DO NOTHING")
    found = ask(url, f"SELECT trade_id FROM market_data_ticks WHERE timestamp = {at} ORDER BY trade_id")
    assert found == [("",), ("7",), ("8",)]


def test_downgrade_gives_the_older_service_its_tables_back(url: str) -> None:
    """As they were at the upgrade: rows, types, key and indexes."""
    everything = (
        "SELECT (SELECT json_agg(t ORDER BY timestamp) FROM market_data_ticks t)::text, "
        "(SELECT json_agg(o) FROM market_data_ohlcv o)::text, "
        "(SELECT json_agg(indexdef ORDER BY indexname) FROM pg_indexes WHERE tablename LIKE 'market_data%')::text"
    )
    ask(url, OLDER_SERVICE)
    before = ask(url, everything)
    succeed(url, "upgrade")
    succeed(url, "downgrade", "base", "--yes")
    assert ask(url, everything) == before
    assert ask(url, "SELECT to_regnamespace('mdstream_legacy')") == [(None,)]
    succeed(url, "upgrade")
    assert ask(url, "SELECT count(*) FROM market_data_ticks") == [(3,)]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("CREATE TABLE market_data_ticks (id int)", "it has no column exchange, price, source, symbol, timestamp"),
        ("CREATE TABLE market_data_quotes (id int)", "which had none of that name"),
        (
            "CREATE TABLE market_data_ticks (exchange text, symbol text, timestamp bigint, source text, price float8)",
            "its timestamp is of type bigint",
        ),
    ],
)
def test_upgrade_leaves_another_programs_table_alone(url: str, statement: str, reason: str) -> None:
    """It says which table, why it is not known, and what to run; nothing is made or moved."""
    ask(url, f"{statement}; CREATE TABLE market_data_ohlcv AS SELECT 1 AS open")
    done = mdstream(url, "upgrade")
    assert done.returncode == 1
    assert f"is neither mdstream's nor the older service's ({reason}): rename it (ALTER TABLE " in done.stderr
    left = ask(url, "SELECT schemaname::text FROM pg_tables WHERE tablename LIKE 'market_data_%'")
    assert left == [("public",), ("public",)]


# ------------------------------------------------------------------------------------------------------- TimescaleDB


STAND_IN = """
CREATE TABLE calls (call text);
CREATE FUNCTION by_range(column_name name, partition_interval anyelement = NULL::bigint,
    partition_func regproc = NULL) RETURNS text LANGUAGE sql AS $$ SELECT column_name || ' ' || partition_interval $$;
CREATE FUNCTION create_hypertable(relation regclass, dimension text, create_default_indexes boolean = TRUE,
    if_not_exists boolean = FALSE, migrate_data boolean = FALSE) RETURNS void LANGUAGE sql
    AS $$ INSERT INTO calls VALUES (relation || ' by ' || dimension) $$;
CREATE SCHEMA timescaledb_information;
CREATE TABLE timescaledb_information.jobs (job_id serial, proc_name name, hypertable_schema name, hypertable_name name,
    schedule_interval interval, config jsonb);
CREATE TABLE timescaledb_information.job_stats (job_id int, hypertable_schema name, hypertable_name name,
    last_run_status text);
CREATE TABLE timescaledb_information.job_errors (job_id int, finish_time timestamptz, err_message text);
CREATE FUNCTION remove_retention_policy(relation regclass, if_exists bool = FALSE) RETURNS void LANGUAGE sql
    AS $$ DELETE FROM timescaledb_information.jobs WHERE hypertable_name = relation::name $$;
CREATE FUNCTION alter_job(job_id int, schedule_interval interval = NULL, config jsonb = NULL) RETURNS int LANGUAGE sql
    AS $$ UPDATE timescaledb_information.jobs j SET config = coalesce($3, j.config),
    schedule_interval = coalesce($2, j.schedule_interval) WHERE j.job_id = $1 RETURNING 1 $$;
CREATE FUNCTION add_retention_policy(relation regclass, drop_after anyelement = NULL, if_not_exists bool = FALSE,
    schedule_interval interval = NULL, initial_start timestamptz = NULL, timezone text = NULL,
    drop_created_before interval = NULL) RETURNS integer LANGUAGE sql
    AS $$ INSERT INTO timescaledb_information.jobs (proc_name, hypertable_schema, hypertable_name, schedule_interval,
    config) VALUES ('policy_retention', 'public', relation::name, '1 day', jsonb_build_object('drop_after',
    drop_after::text)) RETURNING job_id $$;
"""
"""What TimescaleDB 2.19 declares (sql/ddl_api.sql, policy_api.sql, job_api.sql, views.sql), writing down its calls.

Its jobs are rows that nobody runs.
"""


@pytest.fixture
def offer() -> Iterator[dict[str, str]]:
    """Settings of a server that offers TimescaleDB. It stands in for the real one, which has no package that a test
    could install: the same names and arguments, without the effect."""
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which the server's user may not enter
        extension = Path(folder) / "extension"
        extension.mkdir()
        (extension / "timescaledb.control").write_text("default_version = '2.19.3'\nrelocatable = true\n")
        (extension / "timescaledb--2.19.3.sql").write_text(STAND_IN)
        Path(folder).chmod(0o755)
        yield {"extension_control_path": f"{folder}:$system", "timescaledb.license": "timescale"}


def test_upgrade_takes_the_path_of_timescaledb_where_the_server_offers_it(offer: dict[str, str]) -> None:
    """Extension created, every table a hypertable before it gets rows, policies as the settings say at each upgrade."""
    with embedded_postgres(offer) as server:
        ask(server.url, OLDER_SERVICE)
        settings = {"MDSTREAM_DB_COMPRESS_AFTER_DAYS": "0", "MDSTREAM_DB_KEEP_QUOTES_DAYS": "30"}
        done = succeed(server.url, "upgrade", **settings)
        assert "WARNING" not in done.stderr
        calls = {call for (call,) in ask(server.url, "SELECT call FROM calls")}
        assert calls == {
            "market_data_ticks by timestamp 1 day",
            "market_data_quotes by timestamp 1 day",
            "market_data_ohlcv by timestamp 7 days",
            "market_data_feed_events by timestamp 7 days",
        }
        assert ask(server.url, "SELECT count(*) FROM market_data_ticks") == [(3,)]
        assert "TimescaleDB 2.19.3" in succeed(server.url, "current").stdout
        keeping_ticks = {**settings, "MDSTREAM_DB_KEEP_TICKS_DAYS": "365"}
        succeed(server.url, "upgrade", **keeping_ticks)
        assert jobs(server.url) == [
            ("market_data_quotes", 1, DAY, "30 days"),
            ("market_data_ticks", 2, DAY, "365 days"),
        ]

        ask(
            server.url,
            "SELECT alter_job(1, schedule_interval => '7 days'), alter_job(2, schedule_interval => '7 days')",
        )
        succeed(server.url, "upgrade", **{**keeping_ticks, "MDSTREAM_DB_KEEP_QUOTES_DAYS": "60"})
        week = 7 * DAY
        assert jobs(server.url) == [
            ("market_data_quotes", 1, week, "60 days"),
            ("market_data_ticks", 2, week, "365 days"),
        ]
        succeed(server.url, "upgrade", **settings)
        assert jobs(server.url) == [("market_data_quotes", 1, week, "30 days")]

        ask(server.url, STATS_OF_A_FAILURE)
        assert fails(server.url, "current") == (
            f"database {shown(server.url)}: background jobs failed: 1 (policy_retention of market_data_quotes): late "
            "(TimescaleDB tries them again; `CALL run_job(ID)` does so at once)"
        )


STATS_OF_A_FAILURE = """
INSERT INTO timescaledb_information.job_stats VALUES (1, 'public', 'market_data_quotes', 'Failed');
INSERT INTO timescaledb_information.job_errors VALUES (1, '2026-01-05', 'late'), (1, '2026-01-04', 'one before')"""
DAY = timedelta(days=1)


def jobs(url: str) -> list[Row]:
    """Table, id, schedule and age of each background job."""
    columns = "hypertable_name::text, job_id, schedule_interval, config ->> 'drop_after'"
    return ask(url, f"SELECT {columns} FROM timescaledb_information.jobs ORDER BY 1")


def test_upgrade_says_what_has_changed_only_when_it_has(offer: dict[str, str]) -> None:
    """Here the policies fail, after the tables were made: everything is as before, and nothing claims to be newer."""
    with embedded_postgres(offer) as server:
        ask(server.url, "CREATE EXTENSION timescaledb; ALTER FUNCTION add_retention_policy RENAME TO gone")
        done = mdstream(server.url, "upgrade", MDSTREAM_DB_COMPRESS_AFTER_DAYS="0", MDSTREAM_DB_KEEP_TICKS_DAYS="1")
        assert done.returncode == 1
        assert "function add_retention_policy" in done.stderr
        assert "schema 00" not in done.stderr
        assert tables(server.url) == {}


def test_upgrade_refuses_an_extension_that_is_too_old(offer: dict[str, str]) -> None:
    """In one line that says what to do, and nothing is made."""
    folder = Path(offer["extension_control_path"].partition(":")[0]) / "extension"
    (folder / "timescaledb.control").write_text("default_version = '2.18.2'\n")
    with embedded_postgres(offer) as server:
        message = f"database {shown(server.url)}: its server has TimescaleDB 2.18.2: install 2.19 or newer there"
        assert fails(server.url, "upgrade") == message
        assert tables(server.url) == {}


# ------------------------------------------------------------------------------------------------------------ failures


def shown(url: str) -> str:
    return url.removeprefix("postgresql://")


def fails(url: str, *args: str, status: int = 1) -> str:
    """What a command says about the database, in one line, without the password."""
    done = mdstream(url, *args)
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert "s3cr3t" not in done.stdout + done.stderr
    return line.removeprefix("mdstream: ")


@pytest.mark.parametrize("command", ["current", "upgrade"])
def test_a_database_that_cannot_be_reached_is_reported_in_one_line(postgres: EmbeddedPostgres, command: str) -> None:
    """Wrong address, wrong user, no such database, no server: what it is, and what to do."""
    at = f"127.0.0.1:{postgres.port}"
    assert fails(f"postgresql://mdstream:s3cr3t@{at}/nothing", command) == (
        f'database mdstream@{at}/nothing: database "nothing" does not exist '
        "(create it (`createdb`), or check MARKET_DATA_DATABASE_URL)"
    )
    assert fails(f"postgresql://nobody:s3cr3t@{at}/market_data", command) == (
        f'database nobody@{at}/market_data: role "nobody" does not exist '
        "(check MARKET_DATA_DATABASE_URL, or the server's pg_hba.conf)"
    )
    assert fails("postgresql://md:s3cr3t@127.0.0.1:1/market_data", command) == (
        "database md@127.0.0.1:1/market_data: Connection refused "
        "(is it running, and is MARKET_DATA_DATABASE_URL right?)"
    )
    assert fails(f"postgresql://md:s3cr3t/@{at}/market_data", command, status=2).startswith(
        "MARKET_DATA_DATABASE_URL cannot be read: expected postgresql://"
    )


def test_missing_privileges_are_reported_with_the_statements_that_give_them(
    postgres: EmbeddedPostgres, url: str
) -> None:
    """Run by the owner, they are enough."""
    database = url.rpartition("/")[2]
    ask(url, f'CREATE ROLE "sink-{database}" LOGIN; REVOKE ALL ON DATABASE {database} FROM PUBLIC')
    ask(url, f'GRANT CONNECT ON DATABASE {database} TO "sink-{database}"')
    as_sink = postgres.url_of(database, user=f"sink-{database}")
    assert fails(as_sink, "upgrade") == (
        f"database {shown(as_sink)}: permission denied for schema public "
        "(run this as the owner of the tables, or as who may create them: docs/database.md, Privileges)"
    )
    succeed(url, "upgrade")
    while (done := mdstream(as_sink, "current")).returncode:
        before, _, grants = done.stderr.partition("missing privileges: let the owner of the tables run: ")
        assert grants, before
        ask(url, grants)
    privileges = ask(
        as_sink,
        "SELECT privilege_type::text FROM information_schema.table_privileges "
        "WHERE grantee = current_user AND table_name = 'market_data_ticks' ORDER BY 1",
    )
    assert privileges == [("INSERT",), ("SELECT",), ("UPDATE",)]


def test_a_schema_of_another_version_is_reported_with_the_side_that_is_behind(url: str) -> None:
    """No tables: upgrade them; tables of a newer mdstream: upgrade mdstream, and leave them alone."""
    assert fails(url, "current") == f"database {shown(url)}: it has no tables of mdstream: run `mdstream db upgrade`"
    succeed(url, "upgrade")
    ask(url, f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    newer = f"its schema 9999 is newer than mdstream (this mdstream needs {schema.HEAD}): upgrade mdstream"
    for command in (["current"], ["upgrade"], ["downgrade", "base", "--yes"]):
        assert fails(url, *command) == f"database {shown(url)}: {newer}"
    done = alembic(url, "upgrade", "head")
    assert (done.stdout, done.stderr) == (f"FAILED: database {shown(url)}: {newer}\n", "")
    assert tables(url) == CONTRACT


# ------------------------------------------------------------------------------------------------ the embedded server


def test_embedded_postgres_keeps_what_was_committed_through_stop_and_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill ends its sessions as well; the next start is on the same port, with the same rows.

    As when root has the packages where no other user may look: then the server runs from a copy.
    """
    monkeypatch.setattr(embedded, "_open_to_all", lambda _: False)
    with embedded_postgres() as server:
        url = server.url
        ask(url, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
        session = psycopg.connect(url, autocommit=True)
        server.kill()
        with pytest.raises(psycopg.OperationalError), session:
            session.execute("SELECT 1")
        server.start()
        ask(url, "INSERT INTO kept VALUES (2)")
        server.stop()
        assert not server.running
        server.start()
        assert server.url == url
        assert ask(url, "SELECT n FROM kept ORDER BY n") == [(1,), (2,)]
