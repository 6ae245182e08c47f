"""Ten thousand requests to the webhook that must not get in, from many connections at a time."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import aiohttp
import pytest
from alerts import NEW, OLD, PATH, alert, post, signature, start, written
from processes import Processes

pytestmark = pytest.mark.system

EACH, CONNECTIONS = 2_000, 20
"""Requests of a kind; connections, each with its share of every kind."""
MINUTE_MS = 60_000
ERRORS = {
    400: "not an alert: ",
    401: "unauthorized",
    403: "its time is more than 120 s from ours: give the time at which it was sent as timenow",
    409: "already accepted",
    413: "more than 65536 bytes",
}
"""All that may be said; what follows at 400 only a sender with a right secret reads."""


class Bad(NamedTuple):
    """A request, and the status that it should get."""

    body: bytes
    headers: dict[str, str]
    status: int


def forged(accepted: bytes, seeded: random.Random) -> Bad:
    """Not signed, signed by another or for other bytes, or with one bit changed on the way."""
    body = alert(seeded.randrange(1 << 60))
    at, bit = seeded.randrange(len(body)), 1 << seeded.randrange(8)
    changed = body[:at] + bytes((body[at] ^ bit,)) + body[at + 1 :]
    return seeded.choice(
        (
            Bad(body, {}, 401),
            Bad(body, {"X-Signature": seeded.randbytes(32).hex()}, 401),
            Bad(body, signature(body, PATH), 401),
            Bad(body, signature(accepted), 401),
            Bad(changed, signature(body), 401),
        )
    )


def replayed(accepted: bytes, seeded: random.Random) -> Bad:
    """Accepted before, as it was or by the other secret with another price; or recorded long ago."""
    again = json.dumps(json.loads(accepted) | {"price": seeded.randrange(1, 1000)}).encode()
    away_ms = seeded.randrange(3 * MINUTE_MS, 10**9)
    old = alert(seeded.randrange(1 << 60), timenow=time.time_ns() // 1_000_000 - away_ms)
    return seeded.choice(
        (
            Bad(accepted, signature(accepted), 409),
            Bad(again, signature(again, OLD), 409),
            Bad(old, signature(old), 403),
        )
    )


def truncated(_accepted: bytes, seeded: random.Random) -> Bad:
    """Cut on the way, or by a sender that signed what was left."""
    body = alert(seeded.randrange(1 << 60))
    cut = body[: seeded.randrange(len(body))]
    return seeded.choice((Bad(cut, signature(body), 401), Bad(cut, signature(cut), 400)))


def oversize(_accepted: bytes, seeded: random.Random) -> Bad:
    """Whoever sends it: the secret is not even looked at."""
    body = alert(seeded.randrange(1 << 60), more="x" * (1 << 16))
    return seeded.choice((Bad(body, signature(body), 413), Bad(body, {}, 413)))


def malformed(_accepted: bytes, seeded: random.Random) -> Bad:
    """No alert, though of somebody with a secret; who has none does not hear that."""
    number = seeded.randrange(1 << 60)
    changes: list[dict[str, Any]] = [
        {"price": None},
        {"price": "NaN"},
        {"symbol": "a b"},
        {"symbol": "X" * 31},
        {"timenow": None},
        {"timenow": "yesterday"},
        {"id": "i" * 65},
        {"side": "hold"},
    ]
    others = [b"", b"null", b"[]", b"BTCUSDT crossed 1", b"[" * 10_000, seeded.randbytes(200)]
    body = seeded.choice([*(alert(number, **changed) for changed in changes), *others])
    return seeded.choice((Bad(body, signature(body), 400), Bad(body, {}, 401)))


KINDS: tuple[Callable[[bytes, random.Random], Bad], ...] = (forged, replayed, truncated, oversize, malformed)


async def test_of_ten_thousand_bad_requests_none_gets_in(processes: Processes, env: dict[str, str]) -> None:
    """Forged, replayed, truncated, oversize and malformed ones in equal parts: each has the right status and says no
    more than it should; the process remembers none, and takes a good alert afterwards."""
    api, accepted = start(processes), alert("original")
    wanted: Counter[int] = Counter()

    async def send(sender: int) -> None:
        seeded = random.Random(sender)
        kinds = [kind for kind in KINDS for _ in range(EACH // CONNECTIONS)]
        seeded.shuffle(kinds)
        async with aiohttp.ClientSession(api.url, connector=aiohttp.TCPConnector(limit=1)) as session:
            for kind in kinds:
                bad = kind(accepted, seeded)
                status, answer = await post(session, bad.body, bad.headers)
                assert status == bad.status, (kind.__name__, bad.body[:200], bad.headers, answer)
                assert answer.keys() == {"error"}
                said, allowed = answer["error"], ERRORS[status]
                assert said.startswith(allowed) if status == 400 else said == allowed
                wanted[status] += 1

    async with aiohttp.ClientSession(api.url) as session:
        assert (await post(session, accepted))[0] == 202
        async with asyncio.timeout(300):
            await asyncio.gather(*(send(sender) for sender in range(CONNECTIONS)))
        async with session.get("/metrics") as page:
            text = await page.text()
        assert (await post(session, alert("after")))[0] == 202
    assert wanted.total() == EACH * len(KINDS)
    for status, count in wanted.items():
        assert f'mdstream_api_webhook_requests_total{{status="{status}"}} {count:.1f}' in text
    assert [each["id"] for each in await written(env)] == ["aoriginal", "aafter"]
    assert not any(secret in api.process.output() for secret in (OLD, NEW, PATH))
