"""Alerts for the tests of the webhook: a running `mdstream api`, what senders send, and what is in Kafka of it."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import aiohttp
from processes import LIMIT_S, Process, Processes, free_port
from servers import read_topic

OLD, NEW, PATH = "the-old-secret", "the-new-secret", "a-secret-of-some-length"
SETTINGS = {
    "TRADINGVIEW_HMAC_SECRET": f"{NEW},{OLD}",
    "TRADINGVIEW_PATH_SECRET": PATH,
    "TRADINGVIEW_ADDRESSES": "127.0.0.1",
    "MDSTREAM_API_REQUESTS_PER_S": "100000",
}
HOOK = "/webhooks/tradingview"
SYMBOL = "BINANCE:BTCUSDT.TV"


class Api(NamedTuple):
    """A running process and where it answers."""

    process: Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def start(processes: Processes, **settings: str) -> Api:
    port = free_port()
    process = processes.mdstream("api", "--port", port, env=SETTINGS | settings)
    process.wait_for("/docs shows what there is")
    return Api(process, port)


async def until_shown(port: int, line: str) -> None:
    """Wait until the process's metrics have the line."""
    async with asyncio.timeout(LIMIT_S), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        while True:
            async with session.get("/metrics") as answer:
                if line in await answer.text():
                    return
            await asyncio.sleep(0.1)


def alert(number: object, **changed: Any) -> bytes:
    sent_ms = time.time_ns() // 1_000_000
    return json.dumps(
        {"symbol": "BINANCE:BTCUSDT", "price": 93741.2, "timenow": sent_ms, "id": f"a{number}", **changed}
    ).encode()


def signature(body: bytes, secret: str = NEW) -> dict[str, str]:
    return {"X-Signature": hmac.new(secret.encode(), body, sha256).hexdigest()}


async def post(
    session: aiohttp.ClientSession, body: bytes, headers: Mapping[str, str] | None = None, path: str = HOOK
) -> tuple[int, dict[str, Any]]:
    """Status and answer; by default the body is signed."""
    async with session.post(path, data=body, headers=signature(body) if headers is None else headers) as answer:
        return answer.status, await answer.json()


async def written(env: Mapping[str, str], topic: str = "raw.crypto") -> list[dict[str, Any]]:
    name = f"{env['MDSTREAM_TOPIC_PREFIX']}.{topic}"
    return [json.loads(r.value) for r in await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], name)]
