"""The revisions of the schema, as they ship inside the package."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
from click.testing import CliRunner

from mdstream.config import load
from mdstream.db import migrate, schema
from mdstream.db.timescale import HYPERTABLES
from mdstream.errors import SettingsError
from mdstream.tools.db import command

PROJECT = Path(__file__).resolve().parents[2]


def test_schema_names_every_revision_in_order() -> None:
    """What the version table may hold is what the migrations make."""
    assert tuple(revision.name for revision in migrate.history()) == schema.REVISIONS
    assert schema.REVISIONS[-1] == schema.HEAD


def test_alembic_ini_points_at_the_migrations_of_the_package() -> None:
    """`cd infra && alembic upgrade head` and `mdstream db upgrade` run the same files."""
    parser = configparser.ConfigParser()
    parser.read(PROJECT / "infra" / "alembic.ini")
    location = parser.get("alembic", "script_location", vars={"here": str(PROJECT / "infra")})
    assert Path(location).resolve() == migrate.MIGRATIONS


@pytest.mark.parametrize("table", schema.TABLES, ids=lambda table: table.name)
def test_every_table_has_its_key_and_is_a_hypertable(table: schema.Table) -> None:
    """A key's columns hold no nulls, `timestamp` among them, as a hypertable wants it."""
    null = {column.name: column.null for column in table.columns}
    assert not any(null[name] for name in table.key)
    assert "timestamp" in table.key
    assert table.name in HYPERTABLES


def test_trade_id_is_used_where_the_venue_gives_none() -> None:
    """Two trades without an id stay two; an empty one is left to the rows of the older service."""
    assert [schema.trade_id("7", 1), schema.trade_id("", 1), schema.trade_id("", 2)] == ["7", "#1", "#2"]


def test_event_id_is_the_same_for_the_same_bytes_alone() -> None:
    """So that a repeat is distinguished from another event in the same microsecond."""
    assert schema.event_id(b'{"a":1}') == schema.event_id(b'{"a":1}') != schema.event_id(b'{"a":2}')
    assert len(schema.event_id(b"")) == 32


def test_db_history_lists_the_revisions_without_a_database() -> None:
    """Oldest first, the newest marked."""
    result = CliRunner().invoke(command, ["history"])
    assert result.exit_code == 0
    assert result.output.splitlines()[-1].startswith(f"{schema.HEAD}  ")
    assert result.output.rstrip().endswith("(newest)")


def test_db_downgrade_asks_before_it_drops_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is a no: nothing is connected to."""
    monkeypatch.setenv("MARKET_DATA_DATABASE_URL", "postgresql://md:s3cr3t@127.0.0.1:1/ticks")
    result = CliRunner().invoke(command, ["downgrade", "base"], input="n\n")
    assert result.exit_code == 1
    assert "Drop what is newer than base in database md@127.0.0.1:1/ticks, rows included?" in result.output


def test_db_needs_the_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It has no default: tables are not made in whatever database happens to be near."""
    monkeypatch.delenv("MARKET_DATA_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="MARKET_DATA_DATABASE_URL is not set"):
        migrate.upgrade(load())
