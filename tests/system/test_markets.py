"""A market is the instrument's: one provider writes to several raw topics, and all that follows keeps them apart."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from processes import free_port
from pydantic import SecretStr
from servers import read_topic
from websockets.asyncio.server import ServerConnection, serve

from mdstream import config, kafka
from mdstream.config import Settings
from mdstream.errors import BrokerError
from mdstream.ingest.plan import Wanted
from mdstream.ingest.process import Options, ingest
from mdstream.ingest.selection import Groups, Selection
from mdstream.repair.rawlog import RawLog
from mdstream.replay.capture import Frame, Writer
from mdstream.replay.reprocess import EVERYTHING, Reprocess
from mdstream.tools.replay import Pace, Replay
from mdstream.venues.feed import TRADE
from mdstream.venues.okx.feed import Okx
from mdstream.venues.providers import PROVIDERS
from topics import Topics

pytestmark = pytest.mark.system

NOW_NS = 1_767_625_200_000_000_000
PARTITIONS = 4


class Both(Okx):
    """OKX, if it had instruments of two markets."""

    def market_of(self, symbol: str) -> str:
        return "equities" if symbol == "ETHUSDT" else self.market


@pytest.fixture
def settings(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(PROVIDERS, "okx", Both)
    return config.load()


class Chosen(Selection):
    """Its two instruments."""

    def __init__(self) -> None:
        super().__init__("okx", None)

    async def plan(self, groups: Groups, addresses: Mapping[str, str]) -> list[Wanted]:
        return [Wanted(Both(), ("BTCUSDT", "ETHUSDT"))]


def trade(venue_id: str, number: int) -> str:
    fill = {"tradeId": str(number), "px": "1", "sz": "1", "side": "buy", "ts": str(NOW_NS // 10**6)}
    return json.dumps({"arg": {"channel": "trades", "instId": venue_id}, "data": [fill]}, separators=(",", ":"))


async def venue(client: ServerConnection) -> None:
    """A trade of each market, and silence."""
    await client.recv()
    for venue_id in ("BTC-USDT", "ETH-USDT"):
        await client.send(trade(venue_id, 7))
    await client.wait_closed()


@asynccontextmanager
async def ingesting(settings: Settings) -> AsyncIterator[None]:
    """An ingestor of both instruments."""
    async with serve(venue, "127.0.0.1", 0) as server:
        address = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        addresses = settings.addresses.model_copy(update={"OKX_WS_URL": SecretStr(address)})
        there = settings.model_copy(update={"addresses": addresses})
        running = asyncio.create_task(ingest(Chosen(), there, Options(free_port())))
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def raw(settings: Settings, market: str) -> list[Any]:
    return await read_topic(settings.bootstrap_servers, Topics(settings).raw_of(market).name)


def keys(records: list[Any], kind: bytes) -> Counter[bytes]:
    return Counter(record.key for record in records if dict(record.headers)["k"] == kind)


async def test_ingestor_writes_each_instrument_and_every_sign_of_life_to_the_markets_topics(
    settings: Settings, prefix: str
) -> None:
    """Frames by their instrument's market; heartbeats and status in every partition of both topics.

    The core publishes the feed's status once all the same, and the trades of both.
    """
    async with ingesting(settings), asyncio.timeout(60):
        while not await _arrived(settings):
            pass
    for market, symbol in (("crypto", b"BTCUSDT"), ("equities", b"ETHUSDT")):
        records = await raw(settings, market)
        assert keys(records, b"trade") == {symbol: 1}
        for kind in (b"heartbeat", b"status"):
            assert {r.partition for r in records if dict(r.headers)["k"] == kind} == set(range(PARTITIONS))
    again = Reprocess(settings, f"{prefix}x", EVERYTHING)
    await again.prepare(replace=False)
    await again.run(lambda _: None)
    topics = Topics(settings.model_copy(update={"topic_prefix": f"{prefix}x"}))
    trades = await read_topic(settings.bootstrap_servers, topics.trades.name)
    reported = [json.loads(record.value) for record in await read_topic(settings.bootstrap_servers, topics.status.name)]
    assert sorted(record.key for record in trades) == [b"BTCUSDT", b"ETHUSDT"]
    assert [each["state"] for each in reported if each["type"] == "status"] == ["connected"]


async def _arrived(settings: Settings) -> bool:
    with suppress(BrokerError):
        records = [*await raw(settings, "crypto"), *await raw(settings, "equities")]
        heartbeats = {(r.topic, r.partition) for r in records if dict(r.headers)["k"] == b"heartbeat"}
        return len(heartbeats) == 2 * PARTITIONS and keys(records, b"trade").total() == 2
    return False


async def test_replay_and_repair_write_to_the_instruments_market(settings: Settings, tmp_path: Path) -> None:
    """As the ingestor does: what is replayed or repaired stands in the log of the live frames."""
    await kafka.create_topics(settings.bootstrap_servers, Topics(settings).raw.values(), replication=1)
    with Writer(tmp_path / "both.jsonl") as writer:
        for frame in (trade("BTC-USDT", 1), trade("ETH-USDT", 1), "pong"):
            writer.write(Frame(NOW_NS, "okx", frame.encode()))
    assert await Replay(settings, Pace(speed=None, now=False)).run(tmp_path / "both.jsonl", loop=False)
    raw_log = RawLog(settings)
    await raw_log.start()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        await raw_log.frame("okx", symbol, TRADE, b"x", recv_ns=NOW_NS)
    await raw_log.stop()
    crypto, equities = await raw(settings, "crypto"), await raw(settings, "equities")
    assert (keys(crypto, b"trade"), keys(crypto, b"other")) == ({b"BTCUSDT": 2}, {b"okx": 1})
    assert (keys(equities, b"trade"), keys(equities, b"other")) == ({b"ETHUSDT": 2}, {})
