"""The address of the database: read, and shown without its password."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream import config
from mdstream.db.connection import judge, options, place, url_of
from mdstream.db.schema import HEAD
from mdstream.errors import SchemaError, SettingsError

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://md:s3cr3t@db.example:6432/ticks", "md@db.example:6432/ticks"),
        ("postgres://md:s3cr3t@db.example/ticks", "md@db.example:5432/ticks"),
        ("postgresql+asyncpg://md:s3cr3t@db.example/ticks", "md@db.example:5432/ticks"),
        ("postgresql+psycopg2://md:s3cr3t@db.example/ticks", "md@db.example:5432/ticks"),
        ("host=db.example user=md password=s3cr3t dbname=ticks", "md@db.example:5432/ticks"),
        (
            "postgresql://md:s3cr3t@one:5432,two:5433/ticks?target_session_attrs=read-write",
            "md@one,two:5432,5433/ticks",
        ),
        ("postgresql:///ticks", "@localhost:5432/ticks"),
        ("postgresql://md@[::1]/", "md@::1:5432/md"),
    ],
)
def test_place_shows_where_the_database_is_without_the_password(url: str, shown: str) -> None:
    """USER@HOST:PORT/DATABASE, for URLs with any driver and for libpq's own form."""
    assert place(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://md:s3cr3t@more@db.example/ticks",
        "postgresql://md:s3cr3t/more@db.example/ticks",
        "postgresql://md:s3cr3t%zz@db.example/ticks",
        "mysql://md:s3cr3t@db.example/ticks",
        "s3cr3t",
        "host=db.example password='s3cr3t",
        "postgresql://md:s3cr3t@db.example/ticks?ssl=s3cr3t",
    ],
)
def test_options_refuse_what_they_cannot_read_without_showing_it(url: str) -> None:
    """A password that was not percent-encoded would end up in the host, and be shown with the next failure."""
    with pytest.raises(SettingsError) as caught:
        options(url)
    assert SECRET not in str(caught.value)
    assert str(caught.value).startswith("MARKET_DATA_DATABASE_URL cannot be read: expected postgresql://USER:PASSWORD@")


@given(password=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_options_hold_any_password_that_is_percent_encoded(password: str) -> None:
    """Whatever it is made of, and the place is the same."""
    url = f"postgresql://md:{quote(password, safe='')}@db.example/ticks"
    assert options(url)["password"] == password
    assert place(url) == "md@db.example:5432/ticks"


def test_settings_keep_the_password_to_themselves() -> None:
    """Neither their text nor the message about another bad setting has it."""
    settings = config.load(database_url=f"postgresql://md:{SECRET}@db.example/ticks")
    assert SECRET not in f"{settings} {settings!r}"
    assert url_of(settings) == f"postgresql://md:{SECRET}@db.example/ticks"


@pytest.mark.parametrize("given", ["", "  "])
def test_url_of_names_the_variable_that_is_not_set(given: str) -> None:
    """And what is expected in it."""
    with pytest.raises(SettingsError, match=r"MARKET_DATA_DATABASE_URL is not set: expected postgresql://"):
        url_of(config.load(database_url=given))


@pytest.mark.parametrize(
    ("revision", "says"),
    [
        (None, "it has no tables of mdstream: run `mdstream db upgrade`"),
        ("9999", f"its schema 9999 is newer than mdstream (this mdstream needs {HEAD}): upgrade mdstream"),
    ],
)
def test_judge_says_which_side_is_behind(revision: str | None, says: str) -> None:
    """One line: the database, what it has, what is needed, what to run."""
    with pytest.raises(SchemaError) as caught:
        judge(revision, "md@db.example:5432/ticks")
    assert str(caught.value) == f"database md@db.example:5432/ticks: {says}"
    assert not caught.value.retriable


def test_judge_asks_for_an_upgrade_of_an_old_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every revision but the newest is too old."""
    monkeypatch.setattr("mdstream.db.schema.REVISIONS", ("0001", "0002"))
    monkeypatch.setattr("mdstream.db.schema.HEAD", "0002")
    with pytest.raises(
        SchemaError, match=r"its schema 0001 is too old .this mdstream needs 0002.: run `mdstream db upgrade`"
    ):
        judge("0001", "ticks")
    judge("0002", "ticks")
