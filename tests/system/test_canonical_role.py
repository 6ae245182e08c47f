"""The canonical role alone, on a real broker: a fault that no input of the whole system can bring about."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from servers import read_topic

from mdstream import kafka
from mdstream.config import Settings, load
from mdstream.records import Partition
from mdstream.roles import canonical
from mdstream.roles.canonical import CanonicalRole
from mdstream.roles.state_log import StateLog
from mdstream.stream.rules import Policy, Rules
from mdstream.transport.batch import Batch
from topics import Topics

pytestmark = pytest.mark.system

T0_MS = 1_767_625_200_000


class Raw(NamedTuple):
    """A record of the raw topic."""

    offset: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp: int = T0_MS


class FaultyRules(Rules):
    """Rules with a fault that only one instrument meets."""

    def of(self, symbol: str) -> Policy:
        if symbol == "ETHUSDT":
            raise KeyError(symbol)
        return super().of(symbol)


def trade(offset: int, symbol: str) -> Raw:
    ms = T0_MS + offset
    data = {"e": "trade", "E": ms, "s": symbol, "t": offset, "p": "1.5", "q": "2", "T": ms, "m": True}
    frame = json.dumps({"stream": f"{symbol.lower()}@trade", "data": data}, separators=(",", ":")).encode()
    headers = [("p", b"binance"), ("t", (ms * 1_000_000).to_bytes(8, "big")), ("k", b"trade"), ("via", b"ws")]
    return Raw(offset, symbol.encode(), frame, headers)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[CanonicalRole]:
    state = StateLog(settings.bootstrap_servers, Topics(settings).state.name)
    role = CanonicalRole(settings, state, overtaken=lambda _: None)
    await state.start()
    await role.start()
    try:
        yield role
    finally:
        await role.stop()
        await state.stop()


def test_batch_that_fails_halfway_is_in_no_checkpoint(env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours ends the worker, which releases its partitions: the next owner processes the whole batch.

    A state with half of the batch would make repeats of trades that nobody has published.
    """
    settings = load(
        bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"],
        topic_prefix=env["MDSTREAM_TOPIC_PREFIX"],
        partitions=1,
        data_dir=Path(env["MDSTREAM_DATA_DIR"]),
    )
    topics = Topics(settings)
    partition = Partition(topics.raw["crypto"].name, 0)
    log = [trade(0, "BTCUSDT"), trade(1, "BTCUSDT"), trade(2, "ETHUSDT"), trade(3, "BTCUSDT")]
    acknowledged: list[int] = []

    def batch(first: int, following: int) -> Batch:
        return Batch(
            partition,
            log[first:following],
            first=first,
            next_offset=following,
            on_take=lambda: True,
            acknowledge=acknowledged.append,
        )

    async def fail_then_continue() -> list[str]:
        await kafka.create_topics(settings.bootstrap_servers, topics)
        with monkeypatch.context() as faulty:
            faulty.setattr(canonical, "rules_of", lambda _: FaultyRules(Policy(("binance",))))
            async with running(settings) as role:
                await role.restore({partition: 0})
                await role.process(batch(0, 1))
                with pytest.raises(KeyError, match="ETHUSDT"):
                    await role.process(batch(1, 4))
                await role.release([partition])
        async with running(settings) as role:
            start = (await role.restore({partition: 0}))[partition]
            await role.process(batch(start, 4))
            await role.release([partition])
        published = await read_topic(settings.bootstrap_servers, topics.trades.name, quiet_s=0.5)
        return sorted({json.loads(record.value or b"")["trade_id"] for record in published})

    assert asyncio.run(fail_then_continue()) == ["0", "1", "2", "3"]
    assert acknowledged == [4]
