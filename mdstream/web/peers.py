"""Requests to the other workers of the group, by the table routing: each owns some partitions, and pages show all.

A worker is known by the address it advertises. If two advertise the same one (0.0.0.0 in two containers), some
partitions have no worker that could be asked: pages name them instead of silently omitting half of the instruments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from mdstream.app import App

PEER_LIMIT_S = 3.0
SHARED = "no worker has them at an address of its own: see NODE_CANONICAL_URL"


class Answer(NamedTuple):
    """A worker's answer: its JSON object, with the HTTP status."""

    status: int
    value: dict[str, Any]


class _Group(NamedTuple):
    """Which partitions of the tables we have, and which the others, by address."""

    owned: Collection[int]
    others: dict[str, set[int]]


async def ask_peers(app: App, path: str, field: str) -> tuple[dict[str, Any], list[str]]:
    """The `field` of every other worker's answer to `path`, merged, and what gave no answer: addresses, and partitions
    without an address."""
    found: dict[str, Any] = {}
    missing: list[str] = []
    group = _group(app)
    for url, answer in zip(
        group.others, await asyncio.gather(*(_ask(app, u, path) for u in group.others)), strict=True
    ):
        if answer is None or not isinstance(answer.value.get(field), dict):
            missing.append(url)
        else:
            found |= answer.value[field]
    if alone := set(range(app.settings.partitions)).difference(group.owned, *group.others.values()):
        missing.append(f"partitions {', '.join(map(str, sorted(alone)))}: {SHARED}")
    return found, missing


async def ask_owner(app: App, path: str, symbol: str, partition: int) -> Answer | None:
    """The answer to `path` of the worker that owns the symbol's partition; None if we own it."""
    group = _group(app)
    if partition in group.owned:
        return None
    url = next((url for url, theirs in group.others.items() if partition in theirs), None)
    if url is None:
        return Answer(503, {"error": f"no worker to ask about {symbol}: partition {partition}, {SHARED}"})
    answer = await _ask(app, url, f"{path}?{urlencode({'symbol': symbol, 'local': 1})}")
    return answer or Answer(503, {"error": f"the worker that owns {symbol} does not answer: {url}"})


def _group(app: App) -> _Group:
    owned = {tp.partition for tp in app.assignor.assigned_actives() if tp.topic in app.tables.changelog_topics}
    known = {str(url).rstrip("/"): topics for url, topics in app.router.tables_metadata().items()}
    others = {
        url: {number for numbers in topics.values() for number in numbers}
        for url, topics in known.items()
        if URL(url).authority != URL(str(app.conf.canonical_url)).authority
    }
    return _Group(owned, others)


async def _ask(app: App, url: str, path: str) -> Answer | None:
    try:
        async with asyncio.timeout(PEER_LIMIT_S), app.http_client.get(f"{url}{path}") as response:
            value = await response.json()
            return Answer(response.status, value) if isinstance(value, dict) else None
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
