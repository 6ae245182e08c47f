"""History: what the sinks stored comes back as it was published, as a frame or in Parquet files."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import sys
import threading
from collections.abc import Generator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import click
import databases
import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from processes import run_mdstream
from sink_builders import T0, chunk, trade

from mdstream.cli.progress import Progress
from mdstream.client import history, parquet, queries, stored
from mdstream.client.parquet import export
from mdstream.config import Settings, load
from mdstream.embedded.postgres import EmbeddedPostgres
from mdstream.errors import DatabaseError, MdstreamError, SettingsError
from mdstream.events import HISTORY, Bar, BookL2, Event, Quote
from mdstream.sinks.base import Sink
from mdstream.sinks.sqlite import FILE_NAME, SqliteSink
from mdstream.sinks.timescale import TimescaleSink
from mdstream.tools.export import command

pytestmark = pytest.mark.system

DAY_NS = 86_400_000_000_000
MINUTE_NS = 60_000_000_000
BEGIN, END = "2026-01-05T15:00", "2026-01-05T16:00"
"""T0 is the beginning of it."""
HOUR_NS = 60 * MINUTE_NS


def bar(minute: int, interval: str = "1m", revision: int = 0) -> Bar:
    return Bar("BTCUSDT", interval, T0 + minute * MINUTE_NS, 1.0, 2.0, 0.5, 1.5, 0.1 + 0.2, 15.0, 3, revision)


def quote(seq: int, *, ts_exchange: int | None, ts_recv: int) -> Quote:
    return Quote("BTCUSDT", seq, "okx", 1.0, 2.0, None, None, ts_exchange, ts_recv)


TRADES: list[Event] = [
    trade(0),
    trade(1, ts_exchange=None, ts_recv=T0 + 1_000_000, side=None, trade_id=""),
    trade(
        2,
        ts_exchange=T0 + 2_000_000,
        ts_recv=T0 + HOUR_NS + 5,
        count=3,
        recovered=True,
        conditions=("@", "ü"),
        backfilled=True,
    ),
    trade(3, ts_exchange=T0 + HOUR_NS - 1, venue="NYSE", correction="cancel", corrects="0", corrects_price=0.1),
]
QUOTES: list[Event] = [
    quote(1, ts_exchange=None, ts_recv=T0),
    quote(2, ts_exchange=T0 + 5_000_000, ts_recv=T0 + HOUR_NS),
    quote(3, ts_exchange=T0 + HOUR_NS - 1, ts_recv=T0 + HOUR_NS - 1_000_000_000),
]
BARS: list[Event] = [
    bar(0),
    Bar("BTCUSDT", "1m", T0 + MINUTE_NS, 1.0, 2.0, 0.5, 1.5, 9.0, None, None, HISTORY, "okx", backfilled=True),
    bar(59),
]
WITHIN: dict[str, list[Event]] = {"trades": TRADES, "quotes": QUOTES, "bars": BARS}
"""In the order of their times, as they are to come back."""
BESIDE: list[Event] = [
    trade(-5, ts_exchange=T0 - 1),
    trade(5, ts_exchange=T0 + HOUR_NS, ts_recv=T0),
    trade(6, ts_exchange=None, ts_recv=T0 + HOUR_NS),
    trade(7, symbol="ETHUSDT"),
    quote(0, ts_exchange=T0 - 1, ts_recv=T0 + 1_000_000),
    quote(4, ts_exchange=T0 + HOUR_NS, ts_recv=T0 + 2_000_000),
    bar(-1),
    bar(60),
    bar(0, "5m"),
]
"""Outside the hour, or of something else."""


def store(sink: Sink, stored: Sequence[Event]) -> None:
    async def write() -> None:
        await sink.open()
        await sink.write([chunk(*stored)])
        await sink.close()

    asyncio.run(write())


@pytest.fixture
def sqlite(tmp_path: Path) -> Settings:
    """The settings of a folder with SQLite's file, with all of these events."""
    book = BookL2("BTCUSDT", 8, "okx", [(1.0, 2.0), (0.5, 1.0)], [], None, T0)
    store(SqliteSink(tmp_path), [*BESIDE, *reversed([*TRADES, *QUOTES, *BARS]), bar(0, revision=0), book])
    return load(data_dir=tmp_path)


@pytest.fixture(params=["sqlite", "timescale"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Both databases with the same events."""
    if request.param == "sqlite":
        found: Settings = request.getfixturevalue("sqlite")
        return found
    url = databases.fresh(request.getfixturevalue("postgres"))
    store(TimescaleSink(url, write_limit_s=30.0), [*BESIDE, *reversed([*TRADES, *QUOTES, *BARS])])
    return load(database_url=url, data_dir=tmp_path)


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """A table's rows, with times as integers."""
    plain = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in table.itercolumns()
    ]
    found: list[dict[str, Any]] = pa.table(plain, names=table.column_names).to_pylist()
    return found


def fields(event: Event) -> dict[str, Any]:
    """An event as a row has it."""
    given = msgspec.structs.asdict(event)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


@pytest.mark.parametrize("kind", ["trades", "quotes", "bars"])
def test_what_was_published_comes_back_to_the_last_digit(settings: Settings, kind: Any) -> None:
    """All of the hour, its end excluded, in the order of the events' times, from either database."""
    table = history("btcusdt", BEGIN, END, kind, into="arrow", settings=settings)
    assert rows(table) == [fields(event) for event in WITHIN[kind]]


@pytest.mark.parametrize("source", ["sqlite", "timescale"])
def test_events_of_one_microsecond_are_in_the_order_of_their_nanoseconds(
    source: Literal["sqlite", "timescale"], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As those of stock exchanges may be numbered by when they came; pandas' merge_asof asks for sorted times."""
    times = [T0 + 900, T0 + 100, T0 + 900]
    made: list[Event] = [trade(n, ts_exchange=at) for n, at in enumerate(times)]
    made += [quote(n, ts_exchange=at, ts_recv=T0 + n) for n, at in enumerate(times)]
    if source == "sqlite":
        store(SqliteSink(tmp_path), made)
        settings = load(data_dir=tmp_path)
    else:
        url = databases.fresh(request.getfixturevalue("postgres"))
        store(TimescaleSink(url, write_limit_s=30.0), made)
        settings = load(database_url=url)
    for kind, first in (("trades", 1000), ("quotes", 0)):
        table = history("BTCUSDT", BEGIN, END, kind, into="arrow", source=source, settings=settings)  # type: ignore[arg-type]
        assert table["seq"].to_pylist() == [first + n for n in (1, 0, 2)]


def test_times_are_given_as_dates_too(sqlite: Settings) -> None:
    begin, end = datetime(2026, 1, 5, 15, tzinfo=UTC), datetime(2026, 1, 5, 18, tzinfo=timezone(timedelta(hours=2)))
    assert history("BTCUSDT", begin, end, into="arrow", settings=sqlite).num_rows == len(TRADES)
    assert history("BTCUSDT", date(2026, 1, 5), date(2026, 1, 6), into="arrow", settings=sqlite).num_rows == 7


def test_books_come_from_sqlite_and_the_database_says_that_it_has_none(sqlite: Settings) -> None:
    (book,) = rows(history("BTCUSDT", BEGIN, END, "books", into="arrow", settings=sqlite))
    assert (book["bids"], book["asks"]) == ([[1.0, 2.0], [0.5, 1.0]], [])
    with pytest.raises(SettingsError, match="the database has no books: SQLite has"):
        history("BTCUSDT", BEGIN, END, "books", settings=load(database_url="postgresql://h/d"))


def test_bars_are_those_of_the_interval(sqlite: Settings) -> None:
    table = history("BTCUSDT", BEGIN, END, "bars", interval="5m", into="arrow", settings=sqlite)
    assert rows(table) == [fields(bar(0, "5m"))]


def test_frames_have_times_in_nanoseconds_utc(sqlite: Settings) -> None:
    frame = history("BTCUSDT", BEGIN, END, settings=sqlite)
    assert isinstance(frame, pd.DataFrame)
    assert str(frame["ts_exchange"].dtype) == "datetime64[ns, UTC]"
    assert frame["ts_exchange"].iloc[3] == pd.Timestamp(T0 + HOUR_NS - 1, unit="ns", tz="UTC")
    polars = history("BTCUSDT", BEGIN, END, into="polars", settings=sqlite)
    assert isinstance(polars, pl.DataFrame)
    assert polars.schema["ts_recv"] == pl.Datetime("ns", "UTC")
    assert polars["seq"].to_list() == frame["seq"].to_list() == [1000, 1001, 1002, 1003]


def test_a_span_may_be_longer_than_any_history(settings: Settings) -> None:
    """And than what the databases' integers hold."""
    table = history("BTCUSDT", "0001-01-01", "9999-12-31", into="arrow", settings=settings)
    assert table.num_rows == len(TRADES) + 3


def test_a_span_without_events_is_an_empty_frame_with_all_columns(settings: Settings) -> None:
    table = history("NOSUCH", BEGIN, END, into="arrow", settings=settings)
    assert (table.num_rows, table.column_names) == (0, list(TRADES[0].__struct_fields__))


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"kind": "ticks"}, "there is no history of 'ticks': expected one of trades, quotes, books, bars"),
        ({"start": "noon"}, "'noon' is not a time"),
        ({"start": END, "end": BEGIN}, "is empty"),
        ({"into": "numpy"}, "into='numpy': expected one of pandas, polars, arrow"),
        ({"source": "mysql"}, "source='mysql': expected one of timescale, sqlite"),
        ({"interval": "1m"}, "an interval, 1m, is of bars, and trades have none"),
        ({"kind": "bars", "interval": "1min"}, "'1min' is no interval of bars: expected one like 1s, 5m, 1h or 1d"),
        ({"source": "timescale"}, "MARKET_DATA_DATABASE_URL is not set"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(given: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=complaint):
        history(**{"symbol": "BTCUSDT", "start": BEGIN, "end": END, "settings": load(data_dir=tmp_path), **given})


@pytest.mark.parametrize("name", ["pyarrow", "pandas", "polars"])
def test_a_library_that_is_missing_is_named_with_how_to_install_it(
    name: str, sqlite: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here Python is told that it is not there, as import does for a module that is None."""
    monkeypatch.setitem(sys.modules, name, None)
    into: Any = "arrow" if name == "pyarrow" else name
    with pytest.raises(SettingsError, match=rf"this needs {name}: pip install 'mdstream\[{into}\]'"):
        history("BTCUSDT", BEGIN, END, into=into, settings=sqlite)


def test_without_the_file_the_error_says_what_would_write_it(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=f"{FILE_NAME}: there is no such file: run `mdstream worker files`"):
        history("BTCUSDT", BEGIN, END, settings=load(data_dir=tmp_path))


@pytest.mark.parametrize(
    ("version", "complaint"), [(99, "a newer mdstream wrote it"), (1, "`mdstream worker files` upgrades an older one")]
)
def test_a_file_of_another_version_is_refused(sqlite: Settings, version: int, complaint: str) -> None:
    connection = sqlite3.connect(sqlite.data_dir / FILE_NAME)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(DatabaseError, match=complaint):
        history("BTCUSDT", BEGIN, END, settings=sqlite)


def test_a_database_without_tables_is_one_clear_line(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(DatabaseError, match="run `mdstream db upgrade`"):
        history("BTCUSDT", BEGIN, END, settings=load(database_url=databases.empty(postgres)))


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_a_query(sqlite: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here one that has no end; a long sort is like it."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    monkeypatch.setattr(queries, "sqlite", lambda _: (endless, {}))
    interrupt = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        history("BTCUSDT", BEGIN, END, settings=sqlite)
    interrupt.join()


# --------------------------------------------------------------------------------------------------------------- export


def exported(settings: Settings, path: Path) -> Generator[int, None, None]:
    return export(settings, stored.request_of("trades", "BTCUSDT", BEGIN, END), path)


def environment(settings: Settings) -> dict[str, str]:
    """What makes a command use the same databases."""
    url = settings.database.url
    return {
        "MDSTREAM_DATA_DIR": str(settings.data_dir),
        "MARKET_DATA_DATABASE_URL": "" if url is None else url.get_secret_value(),
    }


def test_an_exported_file_holds_what_history_gives(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "out" / "btc.parquet"
    args = ("--symbol", "btcusdt", "--from", BEGIN, "--to", END)
    done = run_mdstream("export", "trades", *args, path, env=environment(settings))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"4 trades of BTCUSDT in {path}\n"
    assert pq.read_table(path) == history("BTCUSDT", BEGIN, END, into="arrow", settings=settings)
    assert [each.name for each in path.parent.iterdir()] == ["btc.parquet"]


def test_a_folder_gets_a_file_for_each_day(tmp_path: Path) -> None:
    """Also where a day ends within a piece of rows, and where a day has none."""
    days = [trade(n, ts_exchange=T0 + n * DAY_NS // 2) for n in range(6)] + [trade(20, ts_exchange=T0 + 10 * DAY_NS)]
    store(SqliteSink(tmp_path), days)
    args = ("--symbol", "BTCUSDT", "--from", "2026-01-01", "--to", "2026-02-01", tmp_path / "out")
    done = run_mdstream("export", "trades", *args, env=environment(load(data_dir=tmp_path)))
    assert done.returncode == 0, done.stderr
    found = {path.relative_to(tmp_path / "out"): pq.ParquetFile(path).read() for path in tmp_path.glob("out/*/*")}
    by_day = {"05": [1000], "06": [1001, 1002], "07": [1003, 1004], "08": [1005], "15": [1020]}
    assert {path.as_posix(): table["seq"].to_pylist() for path, table in found.items()} == {
        f"date=2026-01-{day}/BTCUSDT-trades.parquet": seqs for day, seqs in by_day.items()
    }
    assert pl.scan_parquet(tmp_path / "out").collect()["seq"].sort().to_list() == [
        seq for seqs in by_day.values() for seq in seqs
    ]


def test_a_folder_can_be_read_while_it_is_exported_to(sqlite: Settings, tmp_path: Path) -> None:
    """And after an export was killed: what is not whole is hidden."""
    request = stored.request_of("trades", "BTCUSDT", BEGIN, END)
    list(export(sqlite, request, tmp_path / "out"))
    pieces = export(sqlite, request, tmp_path / "out")
    next(pieces)
    assert len(list(tmp_path.glob("out/*/*.part"))) == 1
    assert len(pd.read_parquet(tmp_path / "out")) == len(TRADES)
    assert len(pl.scan_parquet(tmp_path / "out", hidden_file_prefix=".").collect()) == len(TRADES)
    assert len(pl.read_parquet(tmp_path / "out/**/*.parquet")) == len(TRADES)
    pieces.close()


def test_a_file_is_written_piece_by_piece_and_is_not_there_before_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that is stopped leaves the old file; a killed one .FILE.part too, which the next one replaces."""
    monkeypatch.setattr(stored, "ROWS_AT_ONCE", 10)
    store(SqliteSink(tmp_path), [trade(n) for n in range(95)])
    settings, path = load(data_dir=tmp_path), tmp_path / "btc.parquet"
    path.write_bytes(b"the old one")
    pieces = exported(settings, path)
    assert [next(pieces) for _ in range(3)] == [10, 10, 10]
    assert path.read_bytes() == b"the old one"
    pieces.close()
    assert {each.name: each.stat().st_size for each in tmp_path.glob("*btc*")} == {"btc.parquet": len("the old one")}
    (tmp_path / ".btc.parquet.part").write_bytes(b"half a row group")
    assert (sum(exported(settings, path)), list(tmp_path.glob("*.part"))) == (95, [])
    whole = pq.ParquetFile(path)
    assert (whole.metadata.num_rows, whole.num_row_groups) == (95, 10)


def test_memory_does_not_grow_with_what_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last pieces no more is held than after the first."""
    monkeypatch.setattr(stored, "ROWS_AT_ONCE", 1_000)
    store(SqliteSink(tmp_path), [trade(n) for n in range(20_000)])
    pool, settings = pa.default_memory_pool(), load(data_dir=tmp_path)
    held = [pool.bytes_allocated() for _ in exported(settings, tmp_path / "btc.parquet")]
    assert len(held) == 20
    assert max(held[10:]) <= 2 * max(held[:10])


def test_two_exports_to_one_file_do_not_mix(sqlite: Settings, tmp_path: Path) -> None:
    """The second is refused, and does no harm to the first."""
    path = tmp_path / "btc.parquet"
    first = exported(sqlite, path)
    next(first)
    with pytest.raises(MdstreamError, match=r"btc\.parquet\.part: another export writes it: wait for its end"):
        next(exported(sqlite, path))
    list(first)
    assert pq.read_table(path).num_rows == len(TRADES)


def test_a_file_that_its_writer_has_just_finished_is_not_written_again(sqlite: Settings, tmp_path: Path) -> None:
    """An export may open the other's FILE.part, and get the lock when it is FILE already."""
    path, part = tmp_path / "btc.parquet", tmp_path / ".btc.parquet.part"
    part.write_bytes(b"")
    with part.open("ab") as opened:
        list(exported(sqlite, path))
        assert path.stat().st_ino == os.fstat(opened.fileno()).st_ino
        assert not parquet._locked(opened, part)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """Here a file may not grow further, which a write finds out as late as with a full disk."""
    store(SqliteSink(tmp_path), [trade(n) for n in range(8_000)])
    path = tmp_path / "out" / "btc.parquet"
    path.parent.mkdir()
    path.write_bytes(b"the old one")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))  # enough for what SQLite needs for reading
    try:
        with pytest.raises(MdstreamError, match=r"btc\.parquet cannot be written: File too large"):
            list(exported(load(data_dir=tmp_path), path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [each.read_bytes() for each in path.parent.iterdir()] == [b"the old one"]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_the_middle_leaves_the_old_file_and_nothing_else(
    sqlite: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when the first rows are written."""
    path = tmp_path / "out" / "btc.parquet"
    path.parent.mkdir()
    path.write_bytes(b"the old one")
    for name, value in environment(sqlite).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Progress, "show", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    args = ["trades", "--symbol", "BTCUSDT", "--from", BEGIN, "--to", END, str(path)]
    with pytest.raises(click.Abort):
        command.main(args, standalone_mode=False)
    assert [each.read_bytes() for each in path.parent.iterdir()] == [b"the old one"]


def test_a_path_that_cannot_be_written_is_named(sqlite: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MdstreamError, match=r"file.* cannot be written: (Not a directory|File exists)"):
        list(exported(sqlite, tmp_path / "file" / "btc.parquet"))
    (tmp_path / "btc.parquet").mkdir()
    with pytest.raises(MdstreamError, match=r"btc\.parquet cannot be written: Is a directory"):
        list(exported(sqlite, tmp_path / "btc.parquet"))


def test_export_of_no_database_is_one_clear_line(tmp_path: Path) -> None:
    done = run_mdstream(
        "export", "trades", "--symbol", "X", "--from", "1h", tmp_path / "a.parquet",
        env={"MDSTREAM_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"mdstream: database {tmp_path / FILE_NAME}: there is no such file: run `mdstream worker files`, or set "
        "MDSTREAM_DATA_DIR, or MARKET_DATA_DATABASE_URL for TimescaleDB\n"
    )
