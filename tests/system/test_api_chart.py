"""The page /chart without a browser: what it is made of is served, and what it asks for is answered."""

from __future__ import annotations

import re
import time
from hashlib import sha256

import aiohttp
import databases
import pytest
from alerts import start
from processes import Processes, run_mdstream

from mdstream.embedded.postgres import EmbeddedPostgres
from mdstream.web.pages import assets

pytestmark = pytest.mark.system

BARS = """INSERT INTO market_data_ohlcv SELECT 'mdstream', 'BTCUSDT', '1m', to_timestamp(%s + n * 60),
          1, 2, 0.5, 1.25, 10, 15, 3, 0 FROM generate_series(0, 9) n"""
STREAM = "?symbol=BTCUSDT&start=5s"
ASKED = {
    "udf/config": "",
    "udf/time": "",
    "udf/search": "?query=btc&limit=100",
    "udf/symbols": "?symbol=BTCUSDT",
    "udf/history": f"?symbol=BTCUSDT&resolution=1&to={int(time.time())}&countback=500",
    "v1/stream/bars": STREAM,
    "v1/stream/trades": STREAM,
}
"""The paths of the page's script, with parameters as it sends them."""


async def test_the_page_and_its_scripts_are_served_and_need_no_key(processes: Processes, env: dict[str, str]) -> None:
    """With their types, and a policy that lets in no script but ours, and lets the page ask nobody but us."""
    api = start(processes, MDSTREAM_API_KEYS=sha256(b"key").hexdigest())
    async with aiohttp.ClientSession(api.url) as session:
        async with session.get("/chart?symbol=BTCUSDT") as answer:
            text, policy = await answer.text(), answer.headers["Content-Security-Policy"]
            assert (answer.status, answer.content_type) == (200, "text/html")
        parts = dict(part.split(" ", 1) for part in policy.split("; "))
        assert (parts["default-src"], parts["script-src"], parts["connect-src"]) == ("'none'", "'self'", "'self'")
        assert "unsafe" not in policy
        loaded = re.findall(r'(?:src|href)="(chart/[^"]+)"', text)
        assert {name.removeprefix("chart/") for name in loaded} == assets("chart").keys()
        for path in loaded:
            async with session.get(f"/{path}") as answer:
                assert (answer.status, answer.headers["X-Content-Type-Options"]) == (200, "nosniff")
                assert answer.content_type == ("text/javascript" if path.endswith(".js") else "text/plain")
                assert len(await answer.read()) > 1000
        for name in ("none.js", "..%2Fchart.html", "../chart.html"):
            async with session.get(f"/chart/{name}") as answer:
                assert answer.status == 404


async def test_everything_that_the_page_asks_for_is_answered(
    processes: Processes, env: dict[str, str], postgres: EmbeddedPostgres
) -> None:
    """To who has the key that the page was given, in a header; to nobody without one."""
    script = assets("chart")["chart.js"].decode()
    assert "`v1/stream/${kind}?" in script
    streams = {f"v1/stream/{kind}" for kind in re.findall(r'stream\("(\w+)"', script)}
    used = streams.union(re.findall(r"\budf/\w+", script))
    assert used == ASKED.keys()
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    url = databases.fresh(postgres)
    databases.ask(url, BARS, int(time.time()) // 60 * 60 - 600)
    api = start(processes, MARKET_DATA_DATABASE_URL=url, MDSTREAM_API_KEYS=sha256(b"key").hexdigest())
    async with aiohttp.ClientSession(api.url) as session:
        for path, given in ASKED.items():
            async with session.get(f"/{path}{given}") as answer:
                assert answer.status == 401, path
            async with session.get(f"/{path}{given}", headers={"Authorization": "Bearer key"}) as answer:
                assert answer.status == 200, path
                assert b"error" not in await answer.content.read(1000)
