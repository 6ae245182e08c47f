"""`mdstream tail` prints events as lines, and ends without a word when it should."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping

import pytest
from processes import BIN, Processes, free_port, run_mdstream, wait_until

from mdstream import events, kafka
from mdstream.config import load
from mdstream.config.cluster import Brokers
from mdstream.events import Trade
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.records import ProducerRecord
from topics import Topics

pytestmark = pytest.mark.system

PIPE_BYTES = 60_000
"""Nearly what a pipe holds on Linux: whoever writes more than the rest of it at once has to wait."""
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@pytest.fixture
def trades(env: Mapping[str, str]) -> Topics:
    """The topics of the test, with 60 trades on md.trades: 20 of each symbol."""
    settings = load(bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"], topic_prefix=env["MDSTREAM_TOPIC_PREFIX"],
                    partitions=int(env["MDSTREAM_PARTITIONS"]))  # fmt: skip
    made = Topics(settings)
    asyncio.run(_create(settings.bootstrap_servers, made))
    publish(env, 0, 20)
    return made


async def _create(bootstrap: Brokers, made: Topics) -> None:
    await kafka.create_topics(bootstrap, made)


def publish(env: Mapping[str, str], first: int, following: int) -> None:
    """Trades number [first, following) of each symbol, to the partition of their symbol."""
    asyncio.run(_publish(env, first, following))


async def _publish(env: Mapping[str, str], first: int, following: int) -> None:
    publisher = Publisher(env["KAFKA_BOOTSTRAP_SERVERS"], client_id="test-tail")
    await publisher.start()
    partitioner = Partitioner(int(env["MDSTREAM_PARTITIONS"]))
    for symbol in SYMBOLS:
        key = symbol.encode()
        made = (Trade(symbol, n, "binance", str(n), 1.5, 2.0, None, n, n) for n in range(first, following))
        records: list[ProducerRecord] = [(key, events.encode(trade), 1, []) for trade in made]
        topic = f"{env['MDSTREAM_TOPIC_PREFIX']}.trades"
        await asyncio.gather(*await publisher.send(topic, partitioner(key), records))
    await publisher.stop()


def test_every_event_is_a_line_in_its_symbol_s_order(trades: Topics, env: Mapping[str, str]) -> None:
    done = run_mdstream("tail", "trades", "--from-beginning", "--count", 60, env=env)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    for symbol in SYMBOLS:
        assert [event["seq"] for event in found if event["symbol"] == symbol] == list(range(20))


def test_a_symbol_s_events_and_one_in_n_of_them_can_be_had_alone(trades: Topics, env: Mapping[str, str]) -> None:
    """In whatever case the symbol is given."""
    done = run_mdstream(
        "tail", "trades", "--symbol", "ethusdt", "--sample", "1/5", "--from-beginning", "--count", 4, env=env
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(event["symbol"], event["seq"]) for event in found] == [("ETHUSDT", n) for n in (0, 5, 10, 15)]


def test_without_from_beginning_new_events_are_printed(
    trades: Topics, env: Mapping[str, str], processes: Processes
) -> None:
    """And Ctrl-C ends it with status 0 and without a word."""
    process = processes.mdstream("tail", "trades")
    at = 20

    def printed() -> list[int]:
        nonlocal at
        publish(env, at, at + 1)  # it does not say when it has begun
        at += 1
        return [json.loads(line)["seq"] for line in process.output().splitlines() if line.endswith("}")]

    found = wait_until(printed, what="a new trade on stdout")
    assert 0 not in found, "what was there before is not printed"
    process.signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert all(line.startswith("{") for line in process.output().splitlines())


def test_a_reader_that_goes_away_ends_it(trades: Topics, env: Mapping[str, str]) -> None:
    """`| head` takes what it wants; a closed pipe is no error."""
    with subprocess.Popen(
        [BIN / "mdstream", "tail", "trades", "--from-beginning"],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        def ended() -> bool:
            publish(env, 20, 40)
            return process.poll() is not None

        wait_until(ended, what="the end of tail")
        assert (process.returncode, process.stderr.read()) == (0, b"")


def test_a_reader_that_stops_reading_does_not_keep_it_from_ending(trades: Topics, env: Mapping[str, str]) -> None:
    """The pipe is full and nobody reads: SIGTERM still ends it at once."""
    publish(env, 20, 5_000)
    read_end, write_end = os.pipe()
    with (
        os.fdopen(read_end, "rb"),
        subprocess.Popen(
            [BIN / "mdstream", "tail", "trades", "--from-beginning"],
            env={**os.environ, **env},
            stdout=write_end,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process,
    ):
        os.close(write_end)
        assert process.stderr is not None
        wait_until(lambda: _waiting_bytes(read_end) >= PIPE_BYTES, what="a pipe that is full")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr.read() == b""


def _waiting_bytes(pipe: int) -> int:
    (waiting,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(waiting)


def test_a_topic_that_is_missing_is_one_clear_line(broker: str, env: Mapping[str, str]) -> None:
    done = run_mdstream("tail", "quotes", env=env)
    name = f"{env['MDSTREAM_TOPIC_PREFIX']}.quotes"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"mdstream: there is no topic {name} at {broker}: run `mdstream topics --create`, "
        "or check MDSTREAM_TOPIC_PREFIX and KAFKA_BOOTSTRAP_SERVERS\n"
    )


def test_a_broker_that_is_not_there_is_one_clear_line() -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    done = run_mdstream("tail", "trades", env={"KAFKA_BOOTSTRAP_SERVERS": nowhere})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"mdstream: no Kafka broker answers at {nowhere}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("ticks",), "'ticks' is not one of 'trades', 'quotes'"),
        (("trades", "--sample", "10"), "'10' is not of the form 1/N, like 1/100"),
        (("trades", "--sample", "1/0"), "'1/0' is not of the form 1/N"),
        (("trades", "--count", "0"), "0 is not in the range"),
        (("dead", "--symbol", "BTCUSDT"), "dead letters have no symbol"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(args: tuple[str, ...], complaint: str) -> None:
    done = run_mdstream("tail", *args)
    assert done.returncode == 2
    assert complaint in done.stderr
