"""Processes that are stuck end themselves and say why; those that wait on purpose, or for Kafka, do not.

The limits are short here. A worker's are longer by the time between two checkpoints, a second.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pages import page
from processes import BIN, LIMIT_S, Process, Processes, free_port, wait_until
from servers import Broker, apache_kafka, chosen_broker, on_apache_kafka

from mdstream import config, kafka
from mdstream.embedded.broker import answers
from mdstream.events import Trade, encode
from mdstream.kafka.publisher import Publisher
from mdstream.records import ProducerRecord
from mdstream.watchdog.guard import EXIT_STUCK
from topics import Topics

pytestmark = pytest.mark.system

SHORT = {"MDSTREAM_STUCK_READY_S": "2", "MDSTREAM_STUCK_EXIT_S": "5"}


def post(port: int, path: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", method="POST"), timeout=10):
        pass


def metric(port: int, name: str) -> float:
    """The sum of a metric's series."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}[{{ ]", line))


def publish(env: Mapping[str, str], topic: str, values: list[bytes]) -> None:
    """Records for partition 0 of one of the test's topics, which are declared before."""
    settings = config.load(
        bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"],
        topic_prefix=env["MDSTREAM_TOPIC_PREFIX"],
        partitions=int(env["MDSTREAM_PARTITIONS"]),
    )

    async def send() -> None:
        await kafka.create_topics(settings.bootstrap_servers, Topics(settings))
        publisher = Publisher(settings.bootstrap_servers, client_id="test-watchdog")
        await publisher.start()
        records: list[ProducerRecord] = [(b"BTCUSDT", value, 1767625200_000, []) for value in values]
        await asyncio.gather(*await publisher.send(f"{settings.topic_prefix}.{topic}", 0, records))
        await publisher.stop()

    asyncio.run(send())


def last_words(process: Process) -> str:
    """The one line that a process ended with."""
    (line,) = [line for line in process.output().splitlines() if f"exit {EXIT_STUCK}" in line]
    return line


# ------------------------------------------------------------------------------------------------------------ workers


def worker(processes: Processes, fault: str, env: Mapping[str, str] = SHORT) -> tuple[Process, int]:
    """A worker with that fault, and the port of its pages."""
    port = free_port()
    process = processes.spawn(
        [BIN / "faust", "-A", "watchdog_worker", "-L", "uvloop", "worker", "-l", "info", "--web-port", port],
        name=f"worker-{fault}",
        env={"WATCHDOG_FAULT": fault, "PYTHONPATH": str(Path(__file__).parent), **env},
    )
    return process, port


def test_worker_that_acknowledges_nothing_ends_and_says_what_waits(processes: Processes, env: dict[str, str]) -> None:
    """Ready without input; then not ready, not live, and gone with 75; its last line has the partition and number."""
    publish(env, "raw.crypto", [])
    process, port = worker(processes, "keep")
    wait_until(lambda: page(port, "/ready") == (200, {"ready": True, "problems": []}), what="readiness")
    assert page(port, "/live") == (200, {"live": True, "problems": []})
    publish(env, "raw.crypto", [b"frame"] * 7)
    wait_until(lambda: page(port, "/ready")[0] == 503, what="the stall to be seen", every_s=0.05)
    name = f"{env['MDSTREAM_TOPIC_PREFIX']}.raw.crypto"
    status, health = page(port, "/health")
    assert (status, health["status"], health["waiting"]) == (503, "stuck", {f"{name}/0": 7})
    wait_until(lambda: page(port, "/live")[0] in (503, 0), what="the end to be announced", every_s=0.05)
    assert process.wait() == EXIT_STUCK
    line = last_words(process)
    assert f"stuck: {name}[0] is at offset 0 with 7 records waiting, for " in line
    assert "nothing is lost: the next worker goes on at the last checkpoint" in line
    assert "Traceback" not in process.output()


def test_worker_whose_event_loop_is_blocked_ends_and_says_where(processes: Processes, env: dict[str, str]) -> None:
    """No page answers any more, and no signal is handled: the watchdog has a thread of its own."""
    publish(env, "raw.crypto", [b"frame"])
    process, _ = worker(processes, "freeze")
    assert process.wait() == EXIT_STUCK
    line = last_words(process)
    assert "stuck: the event loop has not turned for " in line
    assert re.search(r"the event loop is at /.+watchdog_worker.py:\d+, work_on", line)


def test_stuck_process_ends_although_nobody_reads_its_log() -> None:
    """A full pipe blocks the last line, and must not block the exit."""
    code = "from mdstream.watchdog.guard import exit_stuck; exit_stuck(lambda: 'x' * (1 << 20))"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        assert process.wait(LIMIT_S) == EXIT_STUCK


@contextmanager
def outage(broker: Broker) -> Iterator[None]:
    """The broker does not answer, and goes on where it was afterwards."""
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def test_worker_holds_while_kafka_is_away_and_goes_on_afterwards(processes: Processes, env: dict[str, str]) -> None:
    """For several times the grace: live, not ready, and it says why. A restart would find the broker away as well."""
    with chosen_broker() as own:
        env["KAFKA_BOOTSTRAP_SERVERS"] = own.bootstrap
        publish(env, "raw.crypto", [b"frame"] * 3)
        process, port = worker(processes, "none")
        wait_until(lambda: page(port, "/ready")[0] == 200, what="readiness")
        with outage(own):
            wait_until(lambda: metric(port, "mdstream_kafka_unanswered_seconds") > 15, what="three times the grace")
            assert process.running
            assert page(port, "/live")[0] == 200
            status, message = page(port, "/ready")
            assert status == 503
            assert any(text.startswith("holding: Kafka has not answered for ") for text in message["problems"])
        wait_until(lambda: page(port, "/ready")[0] == 200, what="readiness again")
        publish(env, "raw.crypto", [b"frame"] * 2)
        place = f"{env['MDSTREAM_TOPIC_PREFIX']}.raw.crypto/0"
        wait_until(lambda: page(port, "/health")[1]["partitions"].get(place) == 5, what="the later records")
        assert process.stop() == 0


def test_sink_that_holds_its_offsets_is_not_ready_and_not_ended(processes: Processes, env: dict[str, str]) -> None:
    """Its database is locked for longer than the grace; once free, everything is stored and the sink is ready."""
    port = free_port()
    process = processes.worker("files", port=port, env=SHORT)
    trades = [encode(Trade("BTCUSDT", n, "binance", str(n), 1.5, 2.0, "buy", n, n + 1)) for n in range(20)]
    publish(env, "trades", trades[:10])
    wait_until(lambda: page(port, "/ready")[0] == 200, what="readiness")
    place = f"{env['MDSTREAM_TOPIC_PREFIX']}.trades/0"
    wait_until(lambda: page(port, "/health")[1]["partitions"].get(place) == 10, what="the first trades")
    with closing(sqlite3.connect(Path(env["MDSTREAM_DATA_DIR"]) / "market_data.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        publish(env, "trades", trades[10:])
        wait_until(lambda: page(port, "/health")[1]["status"] == "holding", what="the sink to say that it holds")
        asyncio.run(asyncio.sleep(12))  # twice the grace: nothing may happen in it, so there is nothing to wait for
        assert process.running
        assert page(port, "/live")[0] == 200
        status, message = page(port, "/ready")
        assert (status, "database is locked" in message["problems"][0]) == (503, True)
    wait_until(lambda: page(port, "/ready")[0] == 200, what="readiness again")
    wait_until(lambda: page(port, "/health")[1]["partitions"].get(place) == 20, what="the other trades")
    assert process.stop() == 0


# ----------------------------------------------------------------------------------------------------------- ingestors


def ingestor(processes: Processes, provider: str, venues: Process, env: Mapping[str, str]) -> tuple[Process, int]:
    """An ingestor of a simulated venue, connected, and its port."""
    lines = (line.removeprefix("export ") for line in venues.output().splitlines() if line.startswith("export "))
    urls = dict(line.split("=", 1) for line in lines)
    port = free_port()
    args = ("--provider", provider, "--symbols", "BTCUSDT,ETHUSDT", "--port", port)
    process = processes.mdstream("ingest", *args, env={**urls, **env})
    process.wait_for(f"{provider} connected")
    return process, port


def simulator(processes: Processes) -> tuple[Process, int]:
    """Simulated venues, and the port of their control endpoint."""
    port = free_port()
    process = processes.mdstream("simulate", "--port", port, "--venues", "binance,coinbase,okx", "--rate", 500)
    process.wait_for("export COINBASE_WS_URL=")
    return process, port


def okx(port: int) -> Any:
    """What /health says of the feed."""
    return page(port, "/health")[1]["feeds"]["okx"]


def test_connection_without_data_is_replaced_although_heartbeats_flow(processes: Processes) -> None:
    """The simulated OKX answers each ping while its market is stopped: stale, logged, and reconnected."""
    venues, control = simulator(processes)
    process, port = ingestor(processes, "okx", venues, {"MDSTREAM_DATA_SILENCE_S": "4"})

    wait_until(lambda: okx(port)["data"][0]["stale_after_s"], what="an expected interval, after some seconds of data")
    assert {symbol: sorted(kinds) for symbol, kinds in okx(port)["silent_s"].items()} == {
        symbol: ["book", "quote", "trade"] for symbol in ("BTCUSDT", "ETHUSDT")
    }
    assert page(port, "/ready") == (200, {"ready": True, "problems": [], "stale": {"okx": {}}})
    post(control, "/pause")
    wait_until(lambda: metric(port, "mdstream_ingest_data_silences_total") >= 1, what="the reconnect")
    assert metric(port, "mdstream_ingest_silences_total") == 0
    wait_until(lambda: page(port, "/ready")[1]["stale"]["okx"].get("BTCUSDT"), what="the stale channels")
    status, message = page(port, "/ready")
    assert (status, page(port, "/live")[0]) == (503, 200)
    assert any(problem.startswith("okx: ") for problem in message["problems"])
    assert metric(port, "mdstream_ingest_stale_channels") >= 2
    post(control, "/resume")
    wait_until(lambda: page(port, "/ready")[0] == 200, what="readiness again")
    assert process.stop() == 0
    output = process.output()
    assert re.search(r"okx lost: no data for \d+ s, where \d+ s was the longest silence", output)
    assert re.search(r"okx, stale: BTCUSDT \w+ \(silent \d+ s, longest \d+ s\)", output)
    assert "okx, no longer stale: " in output
    assert venues.stop() == 0


def test_symbol_that_a_venue_acknowledges_and_never_serves_is_reported(processes: Processes) -> None:
    """The simulated Binance acknowledges while its market is stopped: the log, /health and /metrics say who is mute."""
    venues, control = simulator(processes)
    post(control, "/pause")
    process, port = ingestor(processes, "binance", venues, {"MDSTREAM_DATA_SILENCE_S": "2"})
    process.wait_for("binance, mute: no data for BTCUSDT, ETHUSDT in ")
    feed = page(port, "/health")[1]["feeds"]["binance"]
    assert (feed["mute"], feed["missing"], feed["rejected"]) == (["BTCUSDT", "ETHUSDT"], [], [])
    assert metric(port, "mdstream_ingest_mute_symbols") == 2
    post(control, "/resume")
    wait_until(lambda: not metric(port, "mdstream_ingest_mute_symbols"), what="the end of it")
    assert process.stop() == 0


class DiscardingProxy:
    """A proxy to the broker that discards produce requests while `discards` is set, and passes all others."""

    PRODUCE = 0

    def __init__(self, port: int, behind: int) -> None:
        self.port, self._behind = port, behind
        self.discards = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", self.port):
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._behind)
        forth = asyncio.create_task(self._forth(reader, to_broker))
        try:
            while data := await from_broker.read(1 << 16):
                writer.write(data)
        except ConnectionError:
            pass  # one side has gone; the other is closed below
        finally:
            forth.cancel()
            await asyncio.wait([forth])
            to_broker.close()
            writer.close()

    async def _forth(self, reader: asyncio.StreamReader, to_broker: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = await reader.readexactly(4)
                request = await reader.readexactly(struct.unpack(">i", size)[0])
                if not (self.discards and struct.unpack(">h", request[:2])[0] == self.PRODUCE):
                    to_broker.write(size + request)
        except (asyncio.IncompleteReadError, ConnectionError):
            to_broker.close()


@contextmanager
def broker_behind(processes: Processes, advertised: int) -> Iterator[int]:
    """A broker that advertises another port; its own one."""
    if on_apache_kafka():
        with apache_kafka({"advertised.listeners": f"PLAINTEXT://127.0.0.1:{advertised}"}) as kafka:
            yield int(kafka.bootstrap.rpartition(":")[2])
        return
    port = free_port()
    command = [sys.executable, "-m", "mdstream.broker", str(port), "--advertise", str(advertised)]
    broker = processes.spawn(command, name="broker")
    wait_until(lambda: answers(port), what="an answer of the broker")
    yield port
    broker.kill()


async def test_ingestor_that_cannot_write_to_a_reachable_kafka_ends_and_leaves_its_records_in_the_spool(
    processes: Processes, env: dict[str, str]
) -> None:
    """Every other request is answered, so waiting would be in vain: 75; the next start sends them."""
    venues, _ = await asyncio.to_thread(simulator, processes)
    proxy_port = free_port()
    with broker_behind(processes, proxy_port) as behind:
        proxy = DiscardingProxy(proxy_port, behind)
        env["KAFKA_BOOTSTRAP_SERVERS"] = f"127.0.0.1:{proxy_port}"
        async with proxy.running():
            process, port = await asyncio.to_thread(ingestor, processes, "binance", venues, SHORT)
            await asyncio.to_thread(wait_until, lambda: page(port, "/ready")[0] == 200, what="readiness")
            proxy.discards = True
            await asyncio.to_thread(wait_until, lambda: page(port, "/ready")[0] == 503, what="the stall")
            assert await asyncio.to_thread(process.wait) == EXIT_STUCK
    line = last_words(process)
    assert re.search(r"stuck: \S+\.raw\.crypto\[\d\] does not move with \d+ records waiting, for \d+ s", line)
    assert re.search(r"what waited for Kafka is in the spool, except for \d+ records", line)
