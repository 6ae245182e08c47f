"""The timescale sink by itself, on a real server: what it stores, what it refuses, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal

import databases
import psycopg
import pytest
from canonical import T0
from databases import ask
from sink_builders import chunk, trade

from mdstream.embedded.postgres import EmbeddedPostgres
from mdstream.errors import DatabaseError, MdstreamError, TooSlowError
from mdstream.events import Bar, BookL2, Event, FeedStatus, Gap, Heartbeat, Quote, Trade
from mdstream.sinks import timescale
from mdstream.sinks.session import CLEAN_GROUPS, Session
from mdstream.sinks.timescale import TimescaleSink

pytestmark = pytest.mark.system

LOCK_S, WRITE_S = 0.3, 5.0


@pytest.fixture
def url(postgres: EmbeddedPostgres) -> str:
    """A database of the test's own."""
    return databases.fresh(postgres)


@pytest.fixture
async def sink(url: str) -> AsyncIterator[TimescaleSink]:
    made = TimescaleSink(url, write_limit_s=WRITE_S, lock_limit_s=LOCK_S)
    await made.open()
    yield made
    await made.close()


def bar(revision: int, close: float) -> Bar:
    return Bar("BTCUSDT", "1m", T0, 1.0, 2.0, 0.5, close, 10.0, 15.0, 3, revision)


async def refused_of(sink: TimescaleSink, *made: Event) -> dict[int, str]:
    """Reasons by offset."""
    return {refusal.record.offset: refusal.reason for refusal in await sink.write([chunk(*made)])}


# -------------------------------------------------------------------------------------------------------------- stored


async def test_every_kind_of_event_is_stored_with_all_that_it_says(sink: TimescaleSink, url: str) -> None:
    """To the last digit, and a null stays a null."""
    gap = Gap("BTCUSDT", "okx", "5", "9", "lost", T0 + 2, 5, took_ns=17, reason="gone")
    status = FeedStatus("BTCUSDT", "okx", "switched", "silent", T0 + 1, previous="binance")
    odd = trade(1, price=0.1 + 0.2, side=None, count=3, conditions=("@", "ü"), ts_exchange=None, venue="NYSE")
    quote = Quote("BTCUSDT", 7, "okx", 1.0, 2.0, None, None, None, T0 + 5)
    await sink.write([chunk(trade(), odd, quote, bar(0, 1.5), status, Heartbeat("__system__", "okx", T0, T0), gap)])
    query = (
        "SELECT exchange, source, trade_id, price, side, seq, ts_exchange_ns, extra FROM market_data_ticks ORDER BY seq"
    )
    assert ask(url, query) == [
        ("binance", "binance", "0", 93741.2, "sell", 1000, T0, None),
        ("NYSE", "binance", "1", 0.30000000000000004, None, 1001, None, {"count": 3, "conditions": ["@", "ü"]}),
    ]
    assert ask(url, "SELECT symbol, seq, source, bid, ask, ts_recv_ns FROM market_data_quotes") == [
        ("BTCUSDT", 7, "okx", 1.0, None, T0 + 5)
    ]
    assert ask(url, "SELECT exchange, interval, close, trades, revision FROM market_data_ohlcv") == [
        ("mdstream", "1m", 1.5, 3, 0)
    ]
    columns = "type, source, state, previous, last_id, took_ns, silent_since_ns"
    assert ask(url, f"SELECT {columns} FROM market_data_feed_events ORDER BY type") == [
        ("gap", "okx", "lost", None, "9", 17, None),
        ("heartbeat", "okx", None, None, None, None, T0),
        ("status", "okx", "switched", "binance", None, None, None),
    ]
    query = "SELECT extract(epoch FROM timestamp) * 1000000 = %s FROM market_data_ticks WHERE seq = 1000"
    assert ask(url, query, T0 // 1000) == [(True,)]


async def test_writing_again_changes_nothing(sink: TimescaleSink, url: str) -> None:
    """As a crash before the acknowledgement makes it come: whole, in part, and doubled within one group."""
    group = chunk(*(trade(n) for n in range(100)), Heartbeat("__system__", "okx", None, T0))
    await sink.write([group])
    await sink.write([group, chunk(*(trade(n) for n in range(50, 150)))])
    assert ask(url, "SELECT count(*) FROM market_data_ticks") == [(150,)]
    assert ask(url, "SELECT count(*) FROM market_data_feed_events") == [(1,)]
    assert (sink.rows, sink.repeats) == (151, 151)


async def test_repeats_are_dropped_also_where_groups_are_copied_straight(sink: TimescaleSink, url: str) -> None:
    """Groups without repeats go straight into the tables: then one repeat fails the copy, and the group is staged."""
    for n in range(CLEAN_GROUPS + 2):
        await sink.write([chunk(trade(n), bar(n, 1.0))])
    await sink.write([chunk(*(trade(n) for n in range(100)))])
    assert ask(url, "SELECT count(*), count(DISTINCT seq) FROM market_data_ticks") == [(100, 100)]
    assert (sink.rows, sink.repeats, sink.connections) == (100 + CLEAN_GROUPS + 2, CLEAN_GROUPS + 2, 1)


async def test_poison_is_found_also_where_groups_are_copied_straight(sink: TimescaleSink, url: str) -> None:
    for n in range(CLEAN_GROUPS + 1):
        await sink.write([chunk(trade(n))])
    assert list(await refused_of(sink, trade(50), trade(51, ts_recv=1 << 70), trade(52))) == [1]
    assert ask(url, "SELECT count(*) FROM market_data_ticks") == [(CLEAN_GROUPS + 3,)]


async def test_of_a_bar_the_highest_revision_stays_in_whatever_order_they_come(sink: TimescaleSink, url: str) -> None:
    await sink.write([chunk(bar(1, 1.1), bar(3, 1.3), bar(2, 1.2))])
    await sink.write([chunk(bar(0, 1.0))])
    assert ask(url, "SELECT revision, close FROM market_data_ohlcv") == [(3, 1.3)]
    await sink.write([chunk(bar(4, 1.4), bar(4, 1.4))])
    assert ask(url, "SELECT revision, close FROM market_data_ohlcv") == [(4, 1.4)]


async def test_what_is_acknowledged_outlives_a_crash_whatever_the_databases_default(url: str) -> None:
    """With synchronous_commit off a commit would be acknowledged before it is on the disk."""
    name = url.rpartition("/")[2]
    ask(url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    session = await Session.begin(url, write_limit_s=WRITE_S, lock_limit_s=LOCK_S)
    found = await (await session._connection.execute("SHOW synchronous_commit")).fetchone()
    await session.close()
    assert found == ("on",)


async def test_what_is_there_already_is_left_out_before_the_insert(sink: TimescaleSink, url: str) -> None:
    """In a compressed chunk of TimescaleDB an insert of a row that is there unpacks a thousand rows, and a bar's
    writes them back, whether or not it changes anything. A trigger sees each row that is tried."""
    quote = Quote("BTCUSDT", 7, "okx", 1.0, 2.0, None, None, None, T0 + 5)
    old = trade(1, ts_exchange=T0 - 86_400_000_000_000)
    await sink.write([chunk(trade(), old, quote, bar(3, 1.3), Heartbeat("__system__", "okx", None, T0))])
    tables = ("market_data_ticks", "market_data_quotes", "market_data_ohlcv", "market_data_feed_events")
    ask(
        url,
        """CREATE TABLE tried (name text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO tried VALUES (TG_TABLE_NAME); RETURN NEW; END $$;"""
        + "".join(f"CREATE TRIGGER note BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION note();" for t in tables),
    )
    repeated = (trade(), old, quote, bar(3, 1.3), bar(2, 1.2), Heartbeat("__system__", "okx", None, T0))
    await sink.write([chunk(*repeated, trade(2), bar(4, 1.4))])
    assert ask(url, "SELECT name FROM tried ORDER BY name") == [("market_data_ohlcv",), ("market_data_ticks",)]
    assert ask(url, "SELECT revision, close FROM market_data_ohlcv") == [(4, 1.4)]
    assert (sink.rows, sink.repeats) == (7, 6)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("timescaledb.max_tuples_decompressed_per_dml_transaction", "0"),
        ("enable_nestloop", "off"),
        ("enable_mergejoin", "off"),
    ],
)
async def test_a_session_has_what_compressed_chunks_need(url: str, setting: str, value: str) -> None:
    """A hundred bars of compressed chunks would be refused for ever otherwise: more than 100,000 rows to unpack."""
    session = await Session.begin(url, write_limit_s=WRITE_S, lock_limit_s=LOCK_S)
    found = await (await session._connection.execute("SELECT current_setting(%s)", [setting])).fetchone()
    await session.close()
    assert found == (value,)


# ------------------------------------------------------------------------------------------------- numbers that clash


def same_number(case: str) -> tuple[Event, Event]:
    """Two events that have the same number, and only one of them may."""
    quote = Quote("BTCUSDT", 7, "okx", 1.0, 2.0, None, None, None, T0 + 5)
    pairs: dict[str, tuple[Event, Event]] = {
        "another price": (trade(), trade(price=1.0)),
        "another trade": (trade(), trade(9, seq=1000, ts_exchange=T0 + 30_000_000_000)),
        "another quote": (quote, Quote("BTCUSDT", 7, "okx", 1.5, 2.0, None, None, None, T0 + 5)),
        "a later quote": (quote, Quote("BTCUSDT", 7, "okx", 1.0, 2.0, None, None, None, T0 + 6_000)),
    }
    return pairs[case]


CASES = ("another price", "another trade", "another quote", "a later quote")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("groups_before", [0, CLEAN_GROUPS + 1], ids=["staged", "straight"])
async def test_a_number_that_is_stored_with_another_content_is_logged_and_counted(
    sink: TimescaleSink, caplog: pytest.LogCaptureFixture, case: str, groups_before: int
) -> None:
    """Also where groups are copied straight and the keys are not the same: two writers number one instrument."""
    first, second = same_number(case)
    await sink.write([chunk(first)])
    for n in range(groups_before):
        await sink.write([chunk(trade(100 + n))])
    assert sink.metrics()["seq_conflicts_total"] == 0
    await sink.write([chunk(second)])
    assert sink.metrics()["seq_conflicts_total"] == 1
    (message,) = caplog.messages
    assert message.startswith("timescale: BTCUSDT: 1 events have a number (seq) that is stored with another content")


@pytest.mark.parametrize("case", CASES)
async def test_two_events_of_a_number_clash_within_a_group_too(sink: TimescaleSink, case: str) -> None:
    await sink.write([chunk(*same_number(case))])
    assert sink.metrics()["seq_conflicts_total"] == 1


async def test_repeats_and_another_instruments_numbers_are_no_conflict(sink: TimescaleSink, url: str) -> None:
    """Nor is a number that comes a minute away from its own: it is not looked for there."""
    group = chunk(*(trade(n) for n in range(50)), trade(0, symbol="ETHUSDT"))
    for _ in range(CLEAN_GROUPS + 2):
        await sink.write([group])
    await sink.write([chunk(trade(77, seq=1000, ts_exchange=T0 + 200_000_000_000))])
    assert sink.metrics()["seq_conflicts_total"] == 0
    assert ask(url, "SELECT count(*) FROM market_data_ticks") == [(52,)]


# ------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (trade(7, symbol="BTC\x00USDT"), "0x00"),
        (trade(7, ts_recv=1 << 70), "int"),
        (trade(7, conditions=("\x00",)), "unsupported Unicode escape sequence"),
        (trade(7, symbol="".join(chr(500 + n * 7919 % 5000) for n in range(10_000))), "index row"),
        (Bar("BTCUSDT", "1m", 1 << 64, 1.0, 2.0, 0.5, 1.0, 1.0, 1.0, 1, 0), "1677 to 2262"),
        (BookL2("BTCUSDT", 1, "okx", [], [], None, T0), "there is no table for a BookL2"),
    ],
    ids=["nul", "bigint", "json", "index", "time", "book"],
)
async def test_a_row_that_can_never_be_stored_comes_back_and_its_neighbours_are_stored(
    sink: TimescaleSink, url: str, poison: Event, reason: str
) -> None:
    """Wherever it is found: before psycopg, by it, by COPY or by the index. The connection goes on."""
    good = [trade(n) for n in range(20) if n != 7]
    refused = await refused_of(sink, *good[:7], poison, *good[7:])
    assert list(refused) == [7]
    assert refused[7].startswith("the database refuses it: ")
    assert reason in refused[7]
    assert ask(url, "SELECT count(*) FROM market_data_ticks") == [(19,)]
    assert sink.connections == 1


async def test_what_a_constraint_of_the_operators_own_refuses_comes_back_alone(sink: TimescaleSink, url: str) -> None:
    ask(url, "ALTER TABLE market_data_ticks ADD CONSTRAINT sane CHECK (price < 1e6)")
    refused = await refused_of(sink, *(trade(n, price=1e7 if n in (3, 4, 90) else 1.0) for n in range(100)))
    assert sorted(refused) == [3, 4, 90]
    assert 'violates check constraint "sane"' in refused[3]
    assert ask(url, "SELECT count(*) FROM market_data_ticks") == [(97,)]


async def test_a_column_that_somebody_made_numeric_takes_the_same_rows(url: str) -> None:
    """Binary rows are of our types, and converted by the server: another type must not refuse them all."""
    ask(url, "ALTER TABLE market_data_ticks ALTER price TYPE numeric(20, 8)")
    sink = TimescaleSink(url, write_limit_s=WRITE_S)
    for n in range(CLEAN_GROUPS + 2):
        assert await refused_of(sink, trade(n)) == {}
    assert ask(url, "SELECT DISTINCT price FROM market_data_ticks") == [(Decimal("93741.20000000"),)]
    await sink.close()


# ----------------------------------------------------------------------------------------------------------- not now


async def failure(sink: TimescaleSink, *made: Event) -> DatabaseError:
    with pytest.raises(DatabaseError) as caught:
        await sink.write([chunk(*made)])
    return caught.value


async def test_a_lock_is_waited_for_so_long_and_then_it_is_logged(sink: TimescaleSink, url: str) -> None:
    """Shorter than the watchdog's patience: the role says that it holds before anybody takes it for stuck."""
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE market_data_ticks")
        error = await failure(sink, trade())
    assert error.retriable
    assert "lock" in error.reason
    assert await refused_of(sink, trade()) == {}
    assert ask(url, "SELECT count(*) FROM market_data_ticks") == [(1,)]


async def test_a_full_disk_is_no_fault_of_a_row(sink: TimescaleSink, url: str) -> None:
    """Nothing is refused and nothing is stored in part; when there is room again the same group goes in."""
    ask(
        url,
        """CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'cannot extend: No space left on device' USING ERRCODE = 'disk_full'; END $$""",
    )
    ask(
        url,
        "CREATE TRIGGER full_disk AFTER INSERT ON market_data_quotes FOR EACH STATEMENT EXECUTE FUNCTION full_disk()",
    )
    group = (trade(), Quote("BTCUSDT", 7, "okx", 1.0, 2.0, None, None, None, T0))
    error = await failure(sink, *group)
    assert error.retriable
    assert "No space left on device" in error.reason
    assert ask(url, "SELECT count(*) FROM market_data_ticks") == [(0,)]
    ask(url, "DROP TRIGGER full_disk ON market_data_quotes")
    assert await refused_of(sink, *group) == {}


def slow_rows(url: str, seconds: float) -> None:
    """Make every new tick take its time, as each takes that goes into a compressed chunk."""
    ask(
        url,
        f"""CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$;
        CREATE OR REPLACE TRIGGER slow BEFORE INSERT ON market_data_ticks FOR EACH ROW EXECUTE FUNCTION slow()""",
    )


async def stored_in_the_end(sink: TimescaleSink, group: Sequence[Trade]) -> list[DatabaseError]:
    """Try until it is stored, as the role does; the errors until then."""
    errors: list[DatabaseError] = []
    while len(errors) < 200:
        try:
            await refused_of(sink, *group)
            break
        except DatabaseError as error:
            errors.append(error)
    return errors


async def test_a_group_that_takes_too_long_is_halved_until_it_does_not(url: str) -> None:
    """Retried unchanged it would take as long each time, and the role would never make progress.

        64 events, 20 ms each, limit 0.4 s:  64 ✗   32 ✗   16 ✓ 16 ✓  and the others with the next attempt

    Each failure is reported, so that the role does not look stuck.
    """
    slow_rows(url, 0.02)
    sink = TimescaleSink(url, write_limit_s=0.4)
    errors = await stored_in_the_end(sink, [trade(n) for n in range(64)])
    assert ask(url, "SELECT count(*), count(DISTINCT seq) FROM market_data_ticks") == [(64, 64)]
    assert all("statement timeout" in error.reason for error in errors[:2])
    assert errors[-1].reason == "a group takes longer than 0.4 s: what is stored stays, the rest follows"
    assert all(error.retriable for error in errors)
    await sink.close()


async def test_rows_that_are_stored_already_are_no_reason_to_write_more_at_once(url: str) -> None:
    """Else those behind them are tried at twice the size that is possible, at each attempt, and never go in."""
    sink, group = TimescaleSink(url, write_limit_s=0.4), [trade(n) for n in range(96)]
    assert await refused_of(sink, *group[:32]) == {}
    slow_rows(url, 0.02)
    await stored_in_the_end(sink, group)
    assert ask(url, "SELECT count(*), count(DISTINCT seq) FROM market_data_ticks") == [(96, 96)]
    await sink.close()


async def test_what_was_halved_grows_again_once_it_is_quick(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A server that was away or busy for a while must not cost the groups that come after."""
    slow_rows(url, 0.05)
    sink = TimescaleSink(url, write_limit_s=1.0)
    with pytest.raises(TooSlowError):
        await refused_of(sink, *(trade(n) for n in range(64)))
    assert "64 events at once are too many for " in caplog.text
    assert sink._at_once == 32
    slow_rows(url, 0)
    for n in range(20):
        assert await refused_of(sink, trade(1000 + n)) == {}
    assert sink._at_once > 1000
    await sink.close()


async def test_a_connection_that_was_cut_is_replaced_with_the_next_attempt(sink: TimescaleSink, url: str) -> None:
    databases.cut_all(url)
    assert (await failure(sink, trade())).retriable
    assert await refused_of(sink, trade()) == {}
    assert sink.connections == 2


async def test_a_server_that_gives_no_answer_is_given_up_within_the_limit(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that swallows everything looks like this: no error ever comes."""
    monkeypatch.setattr(timescale, "GRACE_S", 0.2)
    sink = TimescaleSink(url, write_limit_s=1.0)
    await sink.open()
    assert sink._session is not None
    backend = sink._session._connection.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    try:
        error = await failure(sink, trade())
    finally:
        os.kill(backend, signal.SIGCONT)
    assert (error.retriable, error.reason) == (True, "no answer for 1 s")
    assert await refused_of(sink, trade()) == {}
    await sink.close()


async def test_a_write_that_is_cancelled_leaves_nothing_behind(sink: TimescaleSink, url: str) -> None:
    """A worker that is stopped in the middle of it: no row, no lock."""
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE market_data_ticks")
        write = asyncio.create_task(sink.write([chunk(trade())]))
        await asyncio.sleep(LOCK_S / 3)
        write.cancel()
        await asyncio.wait([write])
    assert write.cancelled()
    held = "SELECT count(*) FROM pg_locks JOIN pg_class ON relation = pg_class.oid WHERE relname = 'market_data_ticks'"
    assert ask(url, held) == [(0,)]
    assert ask(url, "SELECT count(*) FROM market_data_ticks") == [(0,)]


@pytest.mark.parametrize(
    "statement", ["DROP TABLE market_data_ticks CASCADE", "REVOKE INSERT ON market_data_ticks FROM writer"]
)
async def test_what_an_operator_has_to_fix_is_not_retriable_at_the_start(
    postgres: EmbeddedPostgres, url: str, statement: str
) -> None:
    """And no text of ours shows the password."""
    name = url.rpartition("/")[2]
    ask(
        url,
        f"""DO $$ BEGIN CREATE ROLE writer LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
        GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO writer; {statement}""",
    )
    sink = TimescaleSink(
        postgres.url_of(name, user="writer").replace("writer@", "writer:sesame@"), write_limit_s=WRITE_S
    )
    with pytest.raises(MdstreamError) as caught:
        await sink.open()
    await sink.close()
    assert not caught.value.retriable
    assert "\n" not in str(caught.value)
    assert f"writer@127.0.0.1:{postgres.port}/{name}" in str(caught.value)
    assert "sesame" not in "".join(traceback.format_exception(caught.value))
