"""The timescale role stores every canonical event once, whatever happens to it, its connection or its server."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Mapping
from functools import partial

import canonical
import databases
import psycopg
import pytest
from canonical import ROUNDS_A_BAR, SYMBOLS, load_of, made_settings, of_hop, publish, rounds, trades
from databases import ask
from pages import page
from processes import Process, Processes, free_port, run_mdstream, wait_until
from servers import embedded_postgres, on_apache_kafka, read_topic

from mdstream import events
from mdstream.config import Settings
from mdstream.embedded.postgres import EmbeddedPostgres
from mdstream.events import Trade
from topics import Topics

pytestmark = pytest.mark.system

SETTLE_S = 300.0
"""The load runs by the clock, so the slower the machine, the more is left to store at its end: it only ends a hang."""
TABLE = "PostgreSQL market_data_ticks"
"""The audit's name of it."""
KINDS = ("trades", "quotes", "bars", "status")
EVENTS_PER_S = 5_000
OUTAGE_S = float(os.environ.get("MDSTREAM_TEST_OUTAGE_S", "30" if on_apache_kafka() else "6"))
"""How long the server is away under load."""
SOAK_S = float(os.environ.get("MDSTREAM_TEST_SOAK_S", "60" if on_apache_kafka() else "15"))
"""For how long the sink is killed again and again; its connections are cut for a third of that."""


@pytest.fixture
def url(postgres: EmbeddedPostgres) -> str:
    """A database of the test's own."""
    return databases.fresh(postgres)


@pytest.fixture
def settings(env: Mapping[str, str]) -> Settings:
    return made_settings(env)


def worker(processes: Processes, url: str, port: int | None = None) -> Process:
    return processes.worker("timescale", port=port or free_port(), env={"MARKET_DATA_DATABASE_URL": url})


def stored(url: str) -> dict[str, int]:
    """Rows by kind."""
    tables = ("market_data_ticks", "market_data_quotes", "market_data_ohlcv", "market_data_feed_events")
    found = ask(url, "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in tables))[0]
    return dict(zip(KINDS, found, strict=True))


def more_than(url: str, heartbeats: int) -> bool:
    return stored(url)["status"] > heartbeats


def due(following: int) -> dict[str, int]:
    """Rows that the rounds [0, following) make."""
    each, bars = len(SYMBOLS) * following, len(SYMBOLS) * -(-following // ROUNDS_A_BAR)
    return {"trades": each, "quotes": each, "bars": bars, "status": following}


def assert_complete(url: str, following: int) -> None:
    """Rounds [0, following), each event once: the keys make it at most once, the numbers at least once."""
    assert stored(url) == due(following)
    whole = {(symbol, following, 0, following - 1) for symbol in SYMBOLS}
    for table in ("market_data_ticks", "market_data_quotes"):
        assert set(ask(url, f"SELECT symbol, count(DISTINCT seq), min(seq), max(seq) FROM {table} GROUP BY 1")) == whole
    bar, revision = divmod(following - 1, ROUNDS_A_BAR)
    opened = canonical.T0 // 1_000_000_000 + bar * 60
    query = "SELECT DISTINCT revision, trades FROM market_data_ohlcv WHERE timestamp = to_timestamp(%s)"
    assert ask(url, query, opened) == [(revision, following - 1)]


def committed(settings: Settings) -> int:
    return canonical.committed(settings, "timescale", *KINDS)


def test_every_event_is_stored_once_and_what_is_none_is_on_the_dead_letters_topic(
    settings: Settings, env: Mapping[str, str], url: str, processes: Processes
) -> None:
    """All four kinds, and neighbours of poison; the audit names what the database does not hold, and nothing else."""
    beyond = Trade(SYMBOLS[0], 7, "binance", "beyond", 1.5, 2.0, "buy", canonical.T0, 1 << 70)
    nul = Trade("S0\x00", 7, "binance", "nul", 1.5, 2.0, "buy", canonical.T0, canonical.T0)
    bad = [b"no json", b'{"type":"trade"}', events.encode(beyond), events.encode(nul)]
    publish(settings, [*rounds(0, 30), *(("trades", b"S0USDT", value) for value in bad), *rounds(30, 60)])
    total = len(list(rounds(0, 60))) + len(bad)
    running = worker(processes, url)
    wait_until(lambda: committed(settings) == total, what="all offsets committed")
    assert running.stop() == 0
    assert_complete(url, 60)
    topics = Topics(settings)
    letters = [json.loads(r.value) for r in asyncio.run(read_topic(settings.bootstrap_servers, topics.dead.name))]
    assert {letter["value"] for letter in letters} == {value.decode() for value in bad}
    assert sum("the database refuses it" in letter["error"] for letter in letters) == 2

    ask(url, "DELETE FROM market_data_ticks WHERE symbol = 'S3USDT' AND trade_id = '17'")
    # One of them says that it was received in the far future: only without an end it is asked for.
    found = of_hop(canonical.audit(env, "--to", "now", "--database", url), TABLE)
    assert {(one["kind"], one["before"], one["trade_id"]) for one in found} == {
        ("missing", topics.trades.name, trade_id) for trade_id in ("17", "beyond", "nul")
    }
    assert len(found) == 3


def test_nothing_is_lost_or_doubled_while_the_server_goes_connections_are_cut_and_the_sink_is_killed(
    settings: Settings, env: Mapping[str, str], processes: Processes
) -> None:
    """Under load all the time: an outage, a cut every second, SIGKILL at random."""
    rng = random.Random(5)
    with embedded_postgres() as server, load_of(settings, EVENTS_PER_S) as load:
        url = databases.fresh(server)
        port = free_port()
        running = worker(processes, url, port)
        wait_until(lambda: stored(url)["trades"], what="the first trades")

        server.stop()
        wait_until(lambda: "holding" in str(page(port, "/ready")), what="/ready to say that it holds")
        time.sleep(OUTAGE_S)
        server.start()
        behind = load.following
        wait_until(lambda: stored(url)["status"] >= behind, what="what came during the outage")
        assert running.running, running.output()
        wait_until(lambda: page(port, "/ready")[0] == 200, what="/ready to say that it goes on")

        for _ in range(round(SOAK_S / 3)):
            databases.cut_all(url)
            time.sleep(1)
        server.kill()  # a crash: what was acknowledged has to be on the disk
        server.start()

        ends = time.monotonic() + SOAK_S
        while time.monotonic() < ends:
            before = stored(url)["status"]
            wait_until(partial(more_than, url, before), what="new rows")
            time.sleep(rng.uniform(0, 3))
            running.kill()
            running = worker(processes, url)

        following = load.stop()
        total = len(list(rounds(0, 1))) * following
        wait_until(lambda: committed(settings) == total, what="all offsets committed", limit_s=SETTLE_S)
        running.wait_for(" is up: ")  # the last one may have found everything committed
        assert running.stop() == 0
        assert_complete(url, following)
        report = canonical.audit(env, "--database", url)
        hashes = {hop["name"]: (hop["trades"], hop["hash"], hop["doubled"]) for hop in report["hops"]}
        assert hashes[TABLE] == hashes[Topics(settings).trades.name]
        assert hashes[TABLE][0] == len(SYMBOLS) * following
        assert of_hop(report, TABLE, "totals") == []


def test_a_table_that_is_locked_holds_the_offsets_until_it_is_free(
    settings: Settings, url: str, processes: Processes
) -> None:
    """Not ready and not stuck, the reason in the log once, nothing acknowledged; then everything."""
    port = free_port()
    running = worker(processes, url, port)
    publish(settings, trades(0, 10))
    first, second = (sum(canonical.expected(n).values()) for n in (10, 20))
    wait_until(lambda: committed(settings) == first, what="the first offsets")
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE market_data_ticks")
        publish(settings, trades(10, 20))
        wait_until(lambda: "lock timeout" in str(page(port, "/ready")), what="/ready to name the lock")
        assert page(port, "/ready")[0] == 503
        assert committed(settings) == first
    wait_until(lambda: committed(settings) == second, what="the other offsets")
    wait_until(lambda: page(port, "/ready")[0] == 200, what="/ready")
    assert running.stop() == 0
    assert stored(url)["trades"] == second
    assert running.output().count("lock timeout") == 1
    assert "timescale works again after" in running.output()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "MARKET_DATA_DATABASE_URL is not set: expected postgresql://"),
        ("postgresql://u:sesame@[", "MARKET_DATA_DATABASE_URL cannot be read: expected postgresql://"),
        ("nosuch", 'database "nosuch" does not exist'),
        ("market_data", "run `mdstream db upgrade`"),
    ],
    ids=["unset", "unreadable", "no-database", "no-tables"],
)
def test_what_an_operator_has_to_fix_ends_the_start_with_one_clear_line(
    settings: Settings, env: Mapping[str, str], postgres: EmbeddedPostgres, given: str | None, says: str
) -> None:
    """It says what to do, and never the password."""
    value = given if given is None or "/" in given else postgres.url_of(given)
    port = free_port()
    given_env = {**env, "MARKET_DATA_DATABASE_URL": value or ""}
    done = run_mdstream("worker", "timescale", "--port", port, env=given_env)
    assert done.returncode == 1
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "sesame" not in done.stderr + done.stdout
