"""The client: live events from a real broker, each once and in order, from where its user wants, until it stops."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np
import pytest
from canonical import Event, made_settings, publish
from processes import free_port
from servers import chosen_broker

from mdstream import client, events, kafka
from mdstream.client import Hole, HoleError, start
from mdstream.config import Settings, load
from mdstream.errors import BrokerError, MdstreamError, RecordError, SettingsError
from mdstream.events import Bar, BookL2, Quote, Trade
from topics import Topics

pytestmark = pytest.mark.system


@pytest.fixture
def settings(env: Mapping[str, str]) -> Settings:
    return made_settings(env)


def trade(seq: int, symbol: str = "BTCUSDT") -> Trade:
    return Trade(symbol, seq, "binance", str(seq), 1.5, 2.0, "buy", seq, seq + 1)


def trades(seqs: Iterable[int], symbol: str = "BTCUSDT") -> list[Event]:
    return [("trades", symbol.encode(), events.encode(trade(seq, symbol))) for seq in seqs]


def seqs(read: Iterable[Trade]) -> list[int]:
    return [each.seq for each in read]


# ------------------------------------------------------------------------------------------------------ each event once


def test_events_come_typed_in_order_and_only_those_of_the_symbol(settings: Settings) -> None:
    """In whatever case it is given."""
    publish(settings, [*trades(range(50)), *trades(range(30), "ETHUSDT")])
    read = list(client.trades("btcusdt", start="earliest", follow=False, settings=settings))
    assert read == [trade(seq) for seq in range(50)]


def test_without_a_symbol_all_are_read(settings: Settings) -> None:
    publish(settings, [*trades(range(5)), *trades(range(5), "ETHUSDT")])
    read = list(client.trades(start="earliest", follow=False, settings=settings))
    assert len(read) == 10
    for symbol in ("BTCUSDT", "ETHUSDT"):
        assert [each for each in read if each.symbol == symbol] == [trade(seq, symbol) for seq in range(5)]


def test_the_other_kinds_are_read_the_same_way(settings: Settings) -> None:
    quote = Quote("BTCUSDT", 7, "okx", 1.0, 2.0, None, None, None, 5)
    book = BookL2("BTCUSDT", 8, "okx", [(1.0, 2.0)], [], None, 5)
    kept = [Bar("BTCUSDT", "1m", 60, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 3, revision) for revision in (0, 1)]
    other = Bar("BTCUSDT", "5m", 0, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 3, 0)
    made = [("quotes", quote), ("books", book), *(("bars", bar) for bar in (kept[0], other, *kept, kept[0]))]
    publish(settings, [(kind, b"BTCUSDT", events.encode(event)) for kind, event in made])
    assert list(client.quotes("BTCUSDT", start="earliest", follow=False, settings=settings)) == [quote]
    assert list(client.books("BTCUSDT", start="earliest", follow=False, settings=settings)) == [book]
    read = client.bars("BTCUSDT", interval="1m", start="earliest", follow=False, settings=settings)
    assert list(read) == kept, "each revision once"


def test_what_a_crashed_worker_wrote_twice_comes_once(settings: Settings) -> None:
    publish(settings, trades([*range(20), *range(10, 25)]))
    assert seqs(client.trades("BTCUSDT", start="earliest", follow=False, settings=settings)) == list(range(25))


def test_a_hole_is_raised_where_it_is_and_reading_can_go_on_behind_it(settings: Settings) -> None:
    publish(settings, trades([*range(5), *range(9, 12)]))
    read = iter(client.trades("BTCUSDT", start="earliest", follow=False, settings=settings))
    assert seqs(islice(read, 5)) == list(range(5)), "all that is before it"
    with pytest.raises(HoleError) as raised:
        next(read)
    hole = raised.value
    assert (hole.kind, hole.symbol, hole.first, hole.last) == ("trades", "BTCUSDT", 5, 8)
    rest = client.trades("BTCUSDT", start=hole.last + 1, follow=False, settings=settings)
    assert seqs(rest) == [9, 10, 11]


def test_holes_can_be_reported_instead(settings: Settings) -> None:
    publish(settings, [*trades([1, 2, 5, 4, 6, 9]), *trades([1, 3], "ETHUSDT")])
    holes: list[Hole] = []
    read = client.trades("BTCUSDT", "ETHUSDT", start="earliest", follow=False, on_hole=holes.append, settings=settings)
    assert sorted(seqs(read)) == [1, 1, 2, 3, 5, 6, 9]
    assert sorted(holes) == [Hole("BTCUSDT", 3, 4), Hole("BTCUSDT", 7, 8), Hole("ETHUSDT", 2, 2)]


def test_a_record_that_is_no_event_is_named_and_what_is_added_one_day_is_skipped(settings: Settings) -> None:
    """docs/events.md: events of an unknown type, and unknown fields, are ignored."""
    newer = events.encode(trade(0)).replace(b'"seq"', b'"added":1,"seq"')
    made = [("trades", b"BTCUSDT", value) for value in (newer, b'{"type":"auction"}', b"{not JSON")]
    publish(settings, made)
    read = iter(client.trades("BTCUSDT", start="earliest", follow=False, settings=settings))
    assert next(read).seq == 0
    with pytest.raises(RecordError) as raised:
        next(read)
    assert (raised.value.topic, raised.value.offset) == (Topics(settings).trades.name, 2)


# --------------------------------------------------------------------------------------------------- where it begins


async def test_from_now_on_means_only_what_is_written_afterwards(settings: Settings) -> None:
    await asyncio.to_thread(publish, settings, trades(range(10)))
    read = aiter(client.trades("BTCUSDT", settings=settings))
    first = asyncio.ensure_future(anext(read))
    at = 10
    while not first.done():  # it does not say when it has begun
        await asyncio.to_thread(publish, settings, trades([at]))
        at += 1
        await asyncio.wait([first], timeout=0.5)
    assert first.result().seq >= 10


def test_from_a_time_means_all_that_is_written_since(settings: Settings) -> None:
    publish(settings, trades(range(10)))
    time.sleep(0.05)  # the log's own clock has milliseconds
    between = datetime.now(UTC)
    time.sleep(0.05)
    publish(settings, trades(range(10, 20)))
    for given in (between, between.isoformat()):
        assert seqs(client.trades("BTCUSDT", start=given, follow=False, settings=settings)) == list(range(10, 20))
    assert seqs(client.trades("BTCUSDT", start="1h", follow=False, settings=settings)) == list(range(20))


def test_from_a_number_means_that_event_and_all_after_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is in the log, among other instruments and repeats."""
    monkeypatch.setattr(start, "NEAR", 4)  # search, even so short a log
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT")
    rounds = [(n, symbol) for n in range(100, 140, 10) for symbol in symbols]
    made = [trades([*range(n, n + 10), *range(n + 5, n + 10)], symbol) for n, symbol in rounds]
    publish(settings, [each for some in made for each in some])
    for symbol, seq in (("BTCUSDT", 100), ("BTCUSDT", 117), ("DOGEUSDT", 126), ("DOGEUSDT", 139)):
        read = client.trades(symbol, start=seq, follow=False, settings=settings)
        assert seqs(read) == list(range(seq, 140))


def test_a_number_or_a_time_may_be_numpys(settings: Settings) -> None:
    """As from a frame of history: where that ends, the stream goes on."""
    publish(settings, trades(range(10)))
    for given, expected in ((np.int64(7), [7, 8, 9]), (np.datetime64("2026-01-05T15:00"), list(range(10)))):
        read = client.trades("BTCUSDT", start=given, follow=False, settings=settings)  # type: ignore[arg-type]
        assert seqs(read) == expected


def test_from_a_number_that_is_gone_there_is_a_hole(settings: Settings) -> None:
    """The events up to the oldest one that is left."""
    publish(settings, trades(range(10, 20)))
    holes: list[Hole] = []
    read = client.trades("BTCUSDT", start=7, follow=False, on_hole=holes.append, settings=settings)
    assert (seqs(read), holes) == (list(range(10, 20)), [Hole("BTCUSDT", 7, 9)])


@pytest.mark.parametrize(
    ("symbols", "given", "complaint"),
    [
        (("BTCUSDT",), "yesterday", "'yesterday' is not a time"),
        (("BTCUSDT",), "9999-01-01", "start=9999-01-01 is in the future: a time without a zone is UTC"),
        (("BTCUSDT",), 1_767_625_200_000_000_000, "is no seq, which is below 2\\^53: give a time as a datetime"),
        (("BTCUSDT", "ETHUSDT"), 5, "start=5 is the seq of one symbol, and there are 2"),
        ((), 5, "start=5 is the seq of one symbol, and there are all"),
        (("BTCUSDT",), None, "'None' is not a time"),
        (("BTCUSDT",), 1.5, "'1.5' is not a time"),
        (
            (["BTCUSDT", "ETHUSDT"],),
            "latest",
            r"\['BTCUSDT', 'ETHUSDT'\] is no symbol: expected one like 'BTCUSDT', each",
        ),
        (("",), "latest", "'' is no symbol"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(symbols: Any, given: Any, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        client.trades(*symbols, start=given)


def test_bars_have_no_numbers_to_start_at() -> None:
    with pytest.raises(SettingsError, match="bars have no seq, give a time"):
        client.bars("BTCUSDT", start=5)  # type: ignore[arg-type]


def test_an_interval_that_no_bar_has_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match="'1min' is no interval of bars: expected one like 1s, 5m, 1h or 1d"):
        client.bars("BTCUSDT", interval="1min")


# ----------------------------------------------------------------------------------------------------------- its end


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mdstream-client"]


def test_a_loop_that_is_left_leaves_nothing_behind(settings: Settings) -> None:
    publish(settings, trades(range(10)))
    for each in client.trades("BTCUSDT", start="earliest", settings=settings):
        if each.seq == 3:
            break
    assert client_threads() == []


@pytest.mark.parametrize("end", ["", "sys.exit()", "os.fork() or sys.exit(); os.wait()"])
def test_a_program_ends_with_its_loop_unfinished(settings: Settings, end: str) -> None:
    """Its iterator is a global, so it is collected when Python's other threads no longer run; so it is in a fork."""
    publish(settings, trades(range(3)))
    program = f"""
import os, sys
from mdstream import client
read = iter(client.trades("BTCUSDT", start="earliest"))
print(next(read).seq, flush=True)
{end}
"""
    env = {"KAFKA_BOOTSTRAP_SERVERS": str(settings.bootstrap_servers), "MDSTREAM_TOPIC_PREFIX": settings.topic_prefix}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_a_loop_does_not_go_on_in_a_fork(settings: Settings) -> None:
    """Its thread is the parent's, whose loop goes on; in the child, waiting for it would have no end."""
    publish(settings, trades(range(6_000)))  # more than a chunk
    read = iter(client.trades("BTCUSDT", start="earliest", follow=False, settings=settings))
    next(read)

    def child() -> None:
        with pytest.raises(MdstreamError, match="this loop began before a fork"):
            list(read)
        assert len(list(client.trades("BTCUSDT", start="earliest", follow=False, settings=settings))) == 6_000

    forked = multiprocessing.get_context("fork").Process(target=child)
    forked.start()
    forked.join(120)
    forked.kill()
    assert (forked.exitcode, len(list(read))) == (0, 5_999)


def test_a_loop_may_be_collected_in_its_own_thread(settings: Settings) -> None:
    """The garbage collector runs in any thread. Were it to wait there, no garbage of the program would be collected."""
    publish(settings, trades(range(3)))
    read = iter(client.trades("BTCUSDT", start="earliest", settings=settings))
    assert next(read).seq == 0
    (thread,) = client_threads()
    thread._target.__self__._loop.call_soon_threadsafe(read.close)  # type: ignore[attr-defined]
    thread.join(120)
    assert client_threads() == []


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_a_loop_that_waits(settings: Settings) -> None:
    read = iter(client.trades("BTCUSDT", start="earliest", settings=settings))
    publish(settings, trades(range(3)))
    assert seqs(islice(read, 3)) == [0, 1, 2]
    interrupt = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        next(read)
    interrupt.join()
    assert client_threads() == []


async def test_a_plain_loop_works_where_a_loop_runs_already(settings: Settings) -> None:
    """As in a notebook."""
    await asyncio.to_thread(publish, settings, trades(range(3)))
    assert seqs(client.trades("BTCUSDT", start="earliest", follow=False, settings=settings)) == [0, 1, 2]


async def test_the_asynchronous_twin_gives_the_same_and_can_be_closed(settings: Settings) -> None:
    await asyncio.to_thread(publish, settings, trades([*range(20), *range(10, 25)]))
    stream = client.trades("BTCUSDT", start="earliest", settings=settings)
    for _ in range(2):  # each iteration begins at the start
        read = []
        async with aclosing(aiter(stream)) as each_of:
            async for each in each_of:
                read.append(each.seq)
                if each.seq == 24:
                    break
        assert read == list(range(25))


def test_a_broker_that_goes_away_is_waited_for(prefix: str) -> None:
    """The embedded one comes back empty: its offsets begin anew, which is as if all had been deleted."""
    with chosen_broker() as server:
        settings = load(bootstrap_servers=server.bootstrap, topic_prefix=prefix, partitions=1)
        asyncio.run(kafka.create_topics(settings.bootstrap_servers, Topics(settings)))
        publish(settings, trades(range(20)))
        read = iter(client.trades("BTCUSDT", start="earliest", settings=settings))
        assert seqs(islice(read, 20)) == list(range(20))
        server.stop()
        server.start()
        asyncio.run(kafka.create_topics(settings.bootstrap_servers, Topics(settings)))
        publish(settings, trades(range(20, 25)))
        assert seqs(islice(read, 5)) == list(range(20, 25))


def test_a_program_without_logging_hears_nothing_of_the_attempts_to_reach_a_broker() -> None:
    """Python prints warnings that nobody handles, and there would be some a second."""
    program = "import logging, mdstream.client; logging.getLogger('aiokafka.conn').warning('not reached')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == ""


def test_without_a_broker_the_error_says_what_to_do() -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerError, match=f"no Kafka broker answers at {nowhere}.*start one with `mdstream broker`"):
        next(iter(client.trades("BTCUSDT", settings=load(bootstrap_servers=nowhere))))
    assert client_threads() == []


def test_without_the_topic_the_error_names_it(broker: str, prefix: str) -> None:
    with pytest.raises(BrokerError, match=f"there is no topic {prefix}.trades at {broker}"):
        next(iter(client.trades("BTCUSDT", settings=load(bootstrap_servers=broker, topic_prefix=prefix))))
