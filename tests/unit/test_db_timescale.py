"""What is sent to a server with TimescaleDB, statement by statement, as its 2.19 documentation has it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import pytest
from sqlalchemy import Connection

from mdstream import config
from mdstream.config import Settings
from mdstream.db import timescale
from mdstream.errors import DatabaseError

TICKS = "market_data_ticks"


class Server:
    """Records the statements that it gets. TimescaleDB itself has no package that tests could start.

    `policies`: the age of each that is there already, in days, by what it runs; every table has them, and with them the
    columnstore.
    """

    def __init__(self, edition: str = "timescale", policies: Mapping[str, int] | None = None) -> None:
        self.edition, self.policies = edition, policies or {}
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def execute(self, statement: object, parameters: dict[str, Any] | None = None) -> Answer:
        given = parameters or {}
        if statement is timescale.FIND_POLICY:
            found = self.policies.get(given["proc"])
            return Answer([] if found is None else [(1000, found == given["days"])])
        if str(statement) == timescale.VERSIONS:
            return Answer([(None, "2.19.3")])
        self.sent.append((" ".join(str(statement).split()), given))
        return Answer()

    def scalar(self, statement: object, parameters: dict[str, Any] | None = None) -> str | bool:
        if statement is timescale.HAS_COLUMNSTORE:
            return bool(self.policies)
        assert str(statement) == "SELECT current_setting('timescaledb.license')"
        return self.edition

    def get_execution_options(self) -> dict[str, str]:
        return {"place": "md@db:5432/ticks"}

    def about_ticks(self) -> list[tuple[str, Any]]:
        """Each statement about the ticks, with its days or its chunk."""
        return [
            (statement.replace("CAST(:table AS regclass)", "TICKS"), given.get("days", given.get("chunk")))
            for statement, given in self.sent
            if TICKS in (given.get("table"), statement.split()[2])
        ]


class Answer(list[Any]):
    """Rows."""

    def first(self) -> Any:
        return self[0] if self else None


def policies(settings: Settings, edition: str = "timescale", there: Mapping[str, int] | None = None) -> Server:
    server = Server(edition, there)
    timescale.set_policies(cast(Connection, server), settings)
    return server


def test_make_hypertables_partitions_every_table_by_its_timestamp() -> None:
    """create_hypertable with by_range, repeatable, with the rows that are there; days for ticks, weeks for bars."""
    server = Server()
    timescale.make_hypertables(cast(Connection, server))
    assert server.sent[0] == ("CREATE EXTENSION IF NOT EXISTS timescaledb", {})
    call = (
        "SELECT create_hypertable( TICKS, by_range('timestamp', CAST(:chunk AS interval)), "
        "create_default_indexes => FALSE, if_not_exists => TRUE, migrate_data => TRUE)"
    )
    assert server.about_ticks() == [(call, "1 day")]
    assert [(given["table"], given["chunk"]) for _, given in server.sent[2:]] == [
        ("market_data_quotes", "1 day"),
        ("market_data_ohlcv", "7 days"),
        ("market_data_feed_events", "7 days"),
    ]


def test_set_policies_compresses_by_symbol_and_deletes_as_the_settings_say() -> None:
    """Where there is nothing of it yet."""
    server = policies(config.load(db_compress_after_days=3, db_keep_ticks_days=90))
    enable = (
        "ALTER TABLE market_data_ticks SET (timescaledb.enable_columnstore, "
        "timescaledb.segmentby = 'symbol', timescaledb.orderby = 'timestamp DESC')"
    )
    assert server.about_ticks() == [
        (enable, None),
        ("CALL add_columnstore_policy(TICKS, after => make_interval(days => :days))", 3),
        ("SELECT add_retention_policy(TICKS, drop_after => make_interval(days => :days))", 90),
    ]


def test_set_policies_deletes_nothing_by_default() -> None:
    """Rows are kept forever unless a setting says how long."""
    assert not [statement for statement, _ in policies(config.load()).sent if "add_retention_policy" in statement]


THERE = {"policy_compression": 7, "policy_retention": 90}


def test_set_policies_only_removes_where_everything_is_to_stay_as_it_is() -> None:
    """With zeros there is neither compression nor deletion, also where there was."""
    settings = config.load(db_compress_after_days=0)
    assert [statement for statement, _ in policies(settings, there=THERE).about_ticks()] == [
        "CALL remove_columnstore_policy(TICKS)",
        "SELECT remove_retention_policy(TICKS)",
    ]
    assert policies(settings).sent == []


def test_set_policies_leaves_alone_what_is_as_the_settings_say() -> None:
    """A policy that is removed and added again runs at once, and on its default schedule."""
    keep = {f"db_{table.keep_days}": 90 for table in timescale.HYPERTABLES.values()}
    assert policies(config.load(db_compress_after_days=7, **keep), there=THERE).sent == []


def test_set_policies_changes_the_age_of_a_policy_and_nothing_else_of_it() -> None:
    """alter_job with one key of its configuration: schedule, retries and next start stay as an operator set them."""
    server = policies(config.load(db_compress_after_days=3, db_keep_ticks_days=90), there=THERE)
    change = (
        "SELECT alter_job(job_id, config => jsonb_set(config, ARRAY[CAST(:age AS text)], "
        "to_jsonb(CAST(make_interval(days => :days) AS text)))) FROM timescaledb_information.jobs WHERE job_id = :job"
    )
    given = {"job": 1000, "age": "compress_after", "days": 3}
    assert [sent for sent in server.sent if "alter_job" in sent[0]] == [(change, given)] * 4


@pytest.mark.parametrize(
    ("installed", "available", "says"),
    [
        (None, "2.18.2", "its server has TimescaleDB 2.18.2: install 2.19 or newer there"),
        ("2.11.1", "2.11.1", "its server has TimescaleDB 2.11.1: install 2.19 or newer there"),
        (
            "2.9.3",
            "2.20.0-dev",
            (
                "its TimescaleDB is 2.9.3, and 2.19 or newer is needed: the server has 2.20.0-dev, run "
                '`psql -X -c "ALTER EXTENSION timescaledb UPDATE"`'
            ),
        ),
    ],
)
def test_judge_version_says_what_to_install_or_to_run(installed: str | None, available: str, says: str) -> None:
    """In place of an unknown function in the middle of an upgrade."""
    with pytest.raises(DatabaseError) as caught:
        timescale.judge_version(installed, available, "ticks")
    assert str(caught.value) == f"database ticks: {says}"


@pytest.mark.parametrize(("installed", "available"), [(None, "2.19.0"), ("2.19.3", "2.23.0"), ("3.0.1", "2.9.0")])
def test_judge_version_takes_what_is_new_enough(installed: str | None, available: str) -> None:
    """What this database has counts, and where it has nothing yet what it would get."""
    timescale.judge_version(installed, available, "ticks")


@pytest.mark.parametrize("table", timescale.HYPERTABLES)
def test_set_policies_reads_each_table_its_own_setting(table: str) -> None:
    """MDSTREAM_DB_KEEP_..._DAYS of one table leaves the others alone."""
    setting = f"db_{timescale.HYPERTABLES[table].keep_days}"
    sent = policies(config.load(**{setting: 5})).sent
    assert [given for statement, given in sent if "add_retention" in statement] == [{"table": table, "days": 5}]


def test_set_policies_warns_of_the_apache_edition_and_sends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It has hypertables, and answers everything else with an error."""
    with caplog.at_level(logging.WARNING):
        assert not policies(config.load(db_keep_ticks_days=90), edition="apache").sent
    assert [record.levelname for record in caplog.records] == ["WARNING"]
