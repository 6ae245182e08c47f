"""The webhook under load while Kafka is killed and comes back: what was accepted is stored, once.

Part of the tests on Apache Kafka only (tests/conftest.py): the embedded broker's log does not outlive its process.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import databases
import pytest
from alerts import alert, post, start, written
from processes import Processes, free_port, run_mdstream, until
from servers import ApacheKafka, apache_kafka

from mdstream.embedded.postgres import EmbeddedPostgres

pytestmark = pytest.mark.system

ALERTS, CONNECTIONS, SYMBOLS = 8_000, 50, 20
BUSY_S = 300.0
"""The limit for what takes some ten seconds on an idle machine."""


@pytest.fixture
def own_kafka(env: dict[str, str]) -> Iterator[ApacheKafka]:
    """A broker of the test's own, which it may kill; it is back once the session of its former self has expired."""
    with apache_kafka(settings={"broker.session.timeout.ms": "9000"}) as kafka_broker:
        env["KAFKA_BOOTSTRAP_SERVERS"] = kafka_broker.bootstrap
        yield kafka_broker


@dataclass
class Sending:
    """What the senders have heard: the ids that were accepted, and how often each status came."""

    accepted: set[str] = field(default_factory=set)
    answers: Counter[int] = field(default_factory=Counter)

    async def send(self, url: str, sender: int) -> None:
        """A sender's share of the alerts, over one connection; again what got 503, as docs/api.md says."""
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=1)) as session:
            for number in range(sender, ALERTS, CONNECTIONS):
                body = alert(number, symbol=f"S{number % SYMBOLS}USDT")
                while (status := (await post(session, body))[0]) == 503:
                    self.answers[status] += 1
                    await asyncio.sleep(1.0)  # Retry-After
                self.answers[status] += 1
                if status in (202, 409):  # 409: written after the sender had heard 503
                    self.accepted.add(f"a{number}")


async def test_every_accepted_alert_is_stored_once_though_kafka_is_killed(
    own_kafka: ApacheKafka, env: dict[str, str], tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    """SIGKILL in the middle of alerts from many connections, and a start with the same log: senders hear 503 and send
    again; in the end each alert is on md.trades once, and in the database once, and nothing else is."""
    url = databases.fresh(postgres)
    env |= {"MARKET_DATA_DATABASE_URL": url, "TRADINGVIEW_WINDOW_S": "900"}
    assert (await asyncio.to_thread(run_mdstream, "topics", "--create", env=env)).returncode == 0
    with Processes(tmp_path, env) as processes:
        api = start(processes)
        workers = [processes.worker(role, port=free_port()) for role in ("core", "timescale")]
        for worker in workers:
            await asyncio.to_thread(worker.wait_for, " is up: ")
        sending = Sending()

        async def kill_and_start() -> None:
            await until(lambda: len(sending.accepted) > ALERTS // 4, "a quarter of the alerts", limit_s=BUSY_S)
            await asyncio.to_thread(own_kafka.kill)
            await until(lambda: sending.answers[503] >= CONNECTIONS, "every sender to be refused", limit_s=BUSY_S)
            await asyncio.to_thread(own_kafka.start)

        async with asyncio.timeout(BUSY_S):
            await asyncio.gather(kill_and_start(), *(sending.send(api.url, sender) for sender in range(CONNECTIONS)))
        assert set(sending.answers) <= {202, 409, 503}
        assert len(sending.accepted) == ALERTS

        def stored() -> int:
            return int(databases.ask(url, "SELECT count(DISTINCT trade_id) FROM market_data_ticks")[0][0])

        while await asyncio.to_thread(stored) < ALERTS:  # ended by the test's own limit
            assert all(worker.running for worker in workers)
            await asyncio.sleep(0.5)
        assert databases.ask(url, "SELECT count(*), count(DISTINCT trade_id) FROM market_data_ticks") == [
            (ALERTS, ALERTS)
        ]
        trades = Counter(trade["trade_id"] for trade in await written(env, "trades"))
        assert trades == Counter(sending.accepted)
        assert all(process.running for process in (api.process, *workers))
