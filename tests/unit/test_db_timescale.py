"""What is sent to a server with TimescaleDB, statement by statement, as its 2.19 documentation has it."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest
from sqlalchemy import Connection

from mdstream import config
from mdstream.config import Settings
from mdstream.db import timescale

TICKS = "market_data_ticks"


class Server:
    """Writes down what it is sent. TimescaleDB itself has no package that tests could start."""

    def __init__(self, edition: str = "timescale") -> None:
        self.edition = edition
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def execute(self, statement: object, parameters: dict[str, Any] | None = None) -> Server:
        self.sent.append((" ".join(str(statement).split()), parameters or {}))
        return self

    def scalar(self, statement: object) -> str:
        assert str(statement) == "SELECT current_setting('timescaledb.license')"
        return self.edition

    def about_ticks(self) -> list[tuple[str, Any]]:
        """Each statement about the ticks, with its days or its chunk."""
        return [
            (statement.replace("CAST(:table AS regclass)", "TICKS"), given.get("days", given.get("chunk")))
            for statement, given in self.sent
            if TICKS in (given.get("table"), statement.split()[2])
        ]


def policies(settings: Settings, edition: str = "timescale") -> Server:
    server = Server(edition)
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
    """A policy that is there is removed first: TimescaleDB does not change one."""
    server = policies(config.load(db_compress_after_days=3, db_keep_ticks_days=90))
    enable = (
        "ALTER TABLE market_data_ticks SET (timescaledb.enable_columnstore, "
        "timescaledb.segmentby = 'symbol', timescaledb.orderby = 'timestamp DESC')"
    )
    assert server.about_ticks() == [
        (enable, None),
        ("CALL remove_columnstore_policy(TICKS, if_exists => TRUE)", None),
        ("CALL add_columnstore_policy(TICKS, after => make_interval(days => :days))", 3),
        ("SELECT remove_retention_policy(TICKS, if_exists => TRUE)", None),
        ("SELECT add_retention_policy(TICKS, drop_after => make_interval(days => :days))", 90),
    ]


def test_set_policies_deletes_nothing_by_default() -> None:
    """Rows are kept for ever unless somebody says how long."""
    assert not [statement for statement, _ in policies(config.load()).sent if "add_retention_policy" in statement]


def test_set_policies_only_removes_where_everything_is_to_stay_as_it_is() -> None:
    """With zeros there is neither compression nor deletion, also where there was."""
    server = policies(config.load(db_compress_after_days=0))
    assert [statement for statement, _ in server.about_ticks()] == [
        "CALL remove_columnstore_policy(TICKS, if_exists => TRUE)",
        "SELECT remove_retention_policy(TICKS, if_exists => TRUE)",
    ]


@pytest.mark.parametrize("table", timescale.HYPERTABLES)
def test_set_policies_reads_each_table_its_own_setting(table: str) -> None:
    """MDSTREAM_DB_KEEP_..._DAYS of one table leaves the others alone."""
    setting = timescale.HYPERTABLES[table].keep_days
    sent = policies(config.load(**{setting: 5})).sent
    assert [given for statement, given in sent if "add_retention" in statement] == [{"table": table, "days": 5}]


def test_set_policies_warns_of_the_apache_edition_and_sends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It has hypertables, and answers everything else with an error."""
    with caplog.at_level(logging.WARNING):
        assert not policies(config.load(db_keep_ticks_days=90), edition="apache").sent
    assert [record.levelname for record in caplog.records] == ["WARNING"]
