"""What the other workers of the group answer, by the table routing: each owns some partitions, and pages show all."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from mdstream.app import App

PEER_LIMIT_S = 3.0


async def ask_peers(app: App, path: str, field: str) -> tuple[dict[str, Any], list[str]]:
    """The `field` of every other worker's answer to `path`, merged, and those that did not answer."""
    found: dict[str, Any] = {}
    missing: list[str] = []
    peers = [url for url in app.router.tables_metadata() if _address(url) != _address(app.conf.canonical_url)]
    for url, answer in zip(peers, await asyncio.gather(*(_ask(app, url, path) for url in peers)), strict=True):
        if answer is None or not isinstance(answer.get(field), dict):
            missing.append(str(url))
        else:
            found |= answer[field]
    return found, missing


async def _ask(app: App, url: Any, path: str) -> dict[str, Any] | None:
    try:
        async with asyncio.timeout(PEER_LIMIT_S), app.http_client.get(f"{str(url).rstrip('/')}{path}") as response:
            answer: dict[str, Any] = await response.json()
            return answer
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None


def _address(url: Any) -> str:
    return str(url).rstrip("/").rpartition("//")[2]
