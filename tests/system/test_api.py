"""`mdstream api` as users run it: a real process, a real broker, real sockets.

sender ─ POST, signed or by a secret path ─> mdstream api ─> md.raw.crypto ─> core worker ─> md.trades
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import databases
import pyarrow.ipc
import pytest
from alerts import HOOK, NEW, OLD, PATH, SYMBOL, alert, post, signature, start, written
from processes import Processes, free_port, run_mdstream, wait_until

from mdstream.embedded.postgres import EmbeddedPostgres

pytestmark = pytest.mark.system

# ----------------------------------------------------------------------------------------------------------- accepted


async def test_an_accepted_alert_is_a_trade_of_the_canonical_topic(processes: Processes, env: dict[str, str]) -> None:
    """Signed by either secret, or by the secret path from a listed address; each once."""
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    api = start(processes)
    processes.worker("core", port=free_port()).wait_for(" is up: ")
    async with aiohttp.ClientSession(api.url) as session:
        first, second, third = alert(1), alert(2, price="93741.3"), alert(3, side="buy", size=0.5)
        assert await post(session, first) == (202, {"symbol": SYMBOL, "id": "a1"})
        assert await post(session, second, signature(second, OLD)) == (202, {"symbol": SYMBOL, "id": "a2"})
        assert await post(session, third, {}, f"{HOOK}/{PATH}") == (202, {"symbol": SYMBOL, "id": "a3"})
        assert await post(session, first) == (409, {"error": "already accepted"})

    def trades() -> list[dict[str, Any]]:
        return asyncio.run(written(env, "trades"))

    found = await asyncio.to_thread(wait_until, lambda: trades() if len(trades()) == 3 else None, what="the trades")
    assert [(t["trade_id"], t["price"], t["size"], t["side"], t["provider"], t["venue"]) for t in found or ()] == [
        ("a1", 93741.2, 0.0, None, "tradingview", "BINANCE"),
        ("a2", 93741.3, 0.0, None, "tradingview", "BINANCE"),
        ("a3", 93741.2, 0.5, "buy", "tradingview", "BINANCE"),
    ]
    assert {t["symbol"] for t in found or ()} == {SYMBOL}


async def test_an_alert_is_accepted_only_when_kafka_has_it(
    own_embedded_broker: int, env: dict[str, str], tmp_path: Path
) -> None:
    """While the broker stands still the sender hears 503, and afterwards that its alert is in; it is there once."""
    with Processes(tmp_path, env) as processes:
        api = start(processes)
        async with aiohttp.ClientSession(api.url) as session:
            body = alert("late")
            os.kill(own_embedded_broker, signal.SIGSTOP)
            answers = [await post(session, body) for _ in range(2)]
            assert [status for status, _ in answers] == [503, 503]
            os.kill(own_embedded_broker, signal.SIGCONT)
            async with asyncio.timeout(60):
                status = 503
                while status == 503:  # each waits for Kafka
                    status, _ = await post(session, body)
            assert await post(session, body) == (409, {"error": "already accepted"})
        assert [each["id"] for each in await written(env)] == ["alate"]


async def test_every_accepted_alert_is_in_the_log_though_the_broker_stands_still(
    own_embedded_broker: int, env: dict[str, str], tmp_path: Path
) -> None:
    """Of many senders at a time; and nothing of what was not sent."""
    with Processes(tmp_path, env) as processes:
        api = start(processes)
        answers: dict[str, int] = {}

        async def send(session: aiohttp.ClientSession, numbers: range) -> None:
            for number in numbers:
                body = alert(number, symbol=f"S{number % 7}USDT")
                status, _ = await post(session, body)
                while status == 503:
                    await asyncio.sleep(0.2)
                    status, _ = await post(session, body)
                answers[f"a{number}"] = status

        async def disturb() -> None:
            for _ in range(3):
                await asyncio.sleep(0.3)
                os.kill(own_embedded_broker, signal.SIGSTOP)
                await asyncio.sleep(1.0)
                os.kill(own_embedded_broker, signal.SIGCONT)

        async with aiohttp.ClientSession(api.url) as session, asyncio.timeout(120):
            await asyncio.gather(*(send(session, range(n, 2_000, 40)) for n in range(40)), disturb())
        assert set(answers.values()) <= {202, 409}  # 409: written after the sender had heard 503
        ids = Counter(each["id"] for each in await written(env))
        assert ids.keys() == answers.keys()


async def test_an_alert_whose_broker_is_killed_is_not_accepted(
    own_embedded_broker: int, env: dict[str, str], tmp_path: Path
) -> None:
    """Between the request and the answer. The sender hears 503, as do all who come later, and the process can be
    stopped though it still holds what it could not write."""
    with Processes(tmp_path, env) as processes:
        api = start(processes)
        async with aiohttp.ClientSession(api.url) as session:
            assert (await post(session, alert("before")))[0] == 202
            os.kill(own_embedded_broker, signal.SIGSTOP)
            waiting = asyncio.create_task(post(session, alert("lost")))
            await asyncio.sleep(0.2)
            os.kill(own_embedded_broker, signal.SIGKILL)
            assert await waiting == (503, {"error": "not acknowledged yet"})
            assert (await post(session, alert("later")))[0] == 503
            async with session.get("/live") as live:
                assert live.status == 200
        assert await asyncio.to_thread(api.process.stop) == 0


async def test_requests_under_way_are_answered_when_it_is_stopped(
    own_embedded_broker: int, env: dict[str, str], tmp_path: Path
) -> None:
    """One that waits for Kafka gets its answer; then it is ended, and takes no more."""
    with Processes(tmp_path, env) as processes:
        api = start(processes)
        async with aiohttp.ClientSession(api.url) as session:
            os.kill(own_embedded_broker, signal.SIGSTOP)
            waiting = asyncio.create_task(post(session, alert("waiting")))
            await asyncio.sleep(0.2)
            stopped = asyncio.create_task(asyncio.to_thread(api.process.stop))
            assert await waiting == (503, {"error": "not acknowledged yet"})
            assert await stopped == 0
            with pytest.raises(aiohttp.ClientConnectionError):
                await post(session, alert("after"))


async def test_what_was_accepted_before_it_was_stopped_is_in_the_log(processes: Processes, env: dict[str, str]) -> None:
    """Stopped under load: senders get 202, or no answer at all; and each 202 was true."""
    api = start(processes)
    accepted: set[str] = set()

    async def send(session: aiohttp.ClientSession, sender: int) -> None:
        for number in range(100_000):
            try:
                status, answer = await post(session, alert(f"{sender}-{number}"))
            except aiohttp.ClientError:
                return
            assert status == 202
            accepted.add(answer["id"])

    async with aiohttp.ClientSession(api.url) as session, asyncio.timeout(60):
        sending = asyncio.gather(*(send(session, sender) for sender in range(20)))
        await asyncio.to_thread(wait_until, lambda: len(accepted) > 500, what="500 alerts")
        assert await asyncio.to_thread(api.process.stop) == 0
        await sending
    assert accepted <= {each["id"] for each in await written(env)}


async def test_an_alert_that_two_processes_accept_is_one_trade(processes: Processes, env: dict[str, str]) -> None:
    """They know nothing of each other; the core worker knows the trade's id."""
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    apis = [start(processes), start(processes)]
    processes.worker("core", port=free_port()).wait_for(" is up: ")
    both, after = alert("both"), alert("after")
    for api in apis:
        async with aiohttp.ClientSession(api.url) as session:
            assert (await post(session, both))[0] == 202
    async with aiohttp.ClientSession(apis[0].url) as session:
        assert (await post(session, after))[0] == 202

    def ids() -> list[str]:
        return [trade["trade_id"] for trade in asyncio.run(written(env, "trades"))]

    await asyncio.to_thread(wait_until, lambda: "aafter" in ids(), what="the last trade")
    assert await asyncio.to_thread(ids) == ["aboth", "aafter"]


# -------------------------------------------------------------------------------------------------------------- refused


def bad_requests(seeded: random.Random) -> Iterator[tuple[bytes, dict[str, str], str, int]]:
    """Body, headers, path and the right status of requests that must not get in, of every kind."""
    body = alert(seeded.randrange(1 << 60))
    signed = signature(body)
    at = seeded.randrange(len(body))
    flipped = body[:at] + bytes((body[at] ^ (1 << seeded.randrange(8)),)) + body[at + 1 :]
    right, digit = signed["X-Signature"], seeded.randrange(64)
    forged = right[:digit] + seeded.choice("0123456789abcdef".replace(right[digit], "")) + right[digit + 1 :]
    for headers in (
        {},
        {"X-Signature": ""},
        {"X-Signature": forged},
        signature(body, "another"),
        signature(body, PATH),
    ):
        yield body, headers, HOOK, 401
    yield flipped, signed, HOOK, 401
    yield body[:at], signed, HOOK, 401
    yield b"", signed, HOOK, 401
    yield body, {}, f"{HOOK}/{PATH[:-1]}", 401
    yield body, {}, f"{HOOK}/{PATH}x", 401
    yield body, signed, f"{HOOK}/{NEW}", 401
    yield body, {"X-Forwarded-For": "52.89.214.238"}, f"{HOOK}/{seeded.randbytes(9).hex()}", 401
    for malformed in (
        b"",
        b"null",
        body[:at],
        body[:-1],
        b"BTCUSDT crossed 1",
        alert(1, price=None),
        alert(1, symbol="a b"),
    ):
        yield malformed, signature(malformed), HOOK, 400
        yield malformed, {}, f"{HOOK}/{PATH}", 400
    for away_s in (-121_000, 121_000, -(10**9)):
        late = alert(1, timenow=time.time_ns() // 1_000_000 + away_s)
        yield late, signature(late), HOOK, 403
    large = alert(1, more="x" * 65_536)
    yield large, signature(large), HOOK, 413
    yield large, {}, HOOK, 413
    yield large * 15, {}, HOOK, 413  # nearly 1 MiB


async def test_no_bad_request_gets_in(processes: Processes, env: dict[str, str]) -> None:
    """Forged, cut, late, malformed and oversize ones by the hundred: each has its status, none is in the log, and the
    answer to one without a right secret says nothing."""
    api, seeded = start(processes), random.Random(1)
    wanted: Counter[int] = Counter()
    async with aiohttp.ClientSession(api.url) as session:
        for _ in range(12):
            for body, headers, path, status in bad_requests(seeded):
                found, answer = await post(session, body, headers, path)
                assert found == status, (body[:200], headers, path, answer)
                if status == 401:
                    assert answer == {"error": "unauthorized"}
                wanted[status] += 1
        async with session.post(HOOK, data=chunks(), headers=signature(b"x")) as answered:
            assert answered.status == 413
        for method, path, status in (("GET", HOOK, 405), ("POST", f"{HOOK}/{PATH}/x", 404), ("POST", f"{HOOK}x", 404)):
            async with session.request(method, path, data=body, headers=signature(body)) as elsewhere:
                assert elsewhere.status == status
        async with session.get("/metrics") as page:
            text = await page.text()
    for status, count in wanted.items():
        more = 1 if status == 413 else 0
        assert f'mdstream_api_webhook_requests_total{{status="{status}"}} {count + more:.1f}' in text
    assert await written(env) == []
    output = api.process.output()
    assert not any(secret in output for secret in (OLD, NEW, PATH))


@pytest.mark.parametrize("secret", ["", " , "])
async def test_without_a_secret_nothing_is_accepted(processes: Processes, env: dict[str, str], secret: str) -> None:
    """Also not what an empty secret has signed; and it says so at the start."""
    api = start(processes, TRADINGVIEW_HMAC_SECRET=secret, TRADINGVIEW_PATH_SECRET=secret)
    body = alert(1)
    async with aiohttp.ClientSession(api.url) as session:
        for headers in ({}, signature(body, ""), signature(body)):
            assert await post(session, body, headers) == (401, {"error": "unauthorized"})
        assert await post(session, body, {}, f"{HOOK}/%20") == (401, {"error": "unauthorized"})
    assert "no webhook is accepted: set TRADINGVIEW_HMAC_SECRET or TRADINGVIEW_PATH_SECRET" in api.process.output()
    assert await written(env) == []


async def chunks() -> Any:
    """A body that does not announce its length."""
    for _ in range(80):
        yield b"x" * 1024


async def test_who_sends_half_a_request_is_disconnected(processes: Processes, env: dict[str, str]) -> None:
    """Nothing, half of the headers, half of the body: in the end the connection is closed, and others were served."""
    api, body = start(processes), alert(1)
    whole = f"POST {HOOK} HTTP/1.1\r\nHost: x\r\nX-Signature: {signature(body)['X-Signature']}\r\n"
    half = whole.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2]

    async def held(part: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        with closing(writer):
            writer.write(part)
            return await reader.read()

    async with asyncio.timeout(120):
        nothing, headers, cut = await asyncio.gather(held(b""), held(whole.encode()), held(half))
    assert (nothing, headers) == (b"", b"")
    assert cut.startswith(b"HTTP/1.1 408 ")
    with socket.create_connection(("127.0.0.1", api.port)) as gone:
        gone.sendall(half)
    async with aiohttp.ClientSession(api.url) as session:
        assert (await post(session, body))[0] == 202
    assert [each["id"] for each in await written(env)] == ["a1"]


async def test_each_address_has_its_own_rate_and_a_proxy_tells_which_it_is(
    processes: Processes, env: dict[str, str]
) -> None:
    """The proxy's own addition counts, not what the client says before it."""
    settings = {
        "MDSTREAM_API_PROXIES": "127.0.0.1",
        "MDSTREAM_API_REQUESTS_PER_S": "0.001",
        "TRADINGVIEW_ADDRESSES": "52.89.214.238",
    }
    api, path = start(processes, **settings), f"{HOOK}/{PATH}"
    async with aiohttp.ClientSession(api.url) as session:
        for forwarded, status in (
            ("52.89.214.238", 202),
            ("203.0.113.1", 401),
            ("52.89.214.238, 203.0.113.2", 401),
            ("203.0.113.3, 52.89.214.238", 429),
        ):
            found, _ = await post(session, alert(forwarded), {"X-Forwarded-For": forwarded}, path)
            assert found == status, forwarded
        async with session.post(path, data=b"", headers={"X-Forwarded-For": "203.0.113.1"}) as refused:
            assert (refused.status, await refused.json()) == (429, {"error": "too many requests"})
            assert int(refused.headers["Retry-After"]) > 900


# ------------------------------------------------------------------------------------------------------------- history

TICK = (
    "INSERT INTO market_data_ticks VALUES ('okx', 'BTCUSDT', to_timestamp(1767625200), 'okx', %s, 1.5, 2, 'buy', %s, "
    """1767625200000000123, 5, '{"count": 2}')"""
)
ARROW = "application/vnd.apache.arrow.stream"
COLUMNS = "symbol,timestamp,seq,exchange,source,trade_id,price,size,side,ts_exchange_ns,ts_recv_ns,extra"


async def test_the_history_is_answered_a_page_at_a_time(
    processes: Processes, env: dict[str, str], postgres: EmbeddedPostgres
) -> None:
    """In three forms; what no index serves is refused with what to change; a lost database is none of the client's."""
    url = databases.fresh(postgres)
    for number in (1, 2, 3):
        databases.ask(url, TICK, str(number), number)
    api, asked = start(processes, MARKET_DATA_DATABASE_URL=url), "/v1/trades?symbol=BTCUSDT&from=2026-01-05T00:00:00Z"
    asked += "&to=2026-01-06T00:00:00Z&limit=2"
    async with aiohttp.ClientSession(api.url) as session:
        async with session.get(asked) as answer:
            page = await answer.json()
            assert answer.status == 200
        first = {"symbol": "BTCUSDT", "timestamp": 1767625200000000000, "seq": 1, "exchange": "okx", "source": "okx"}
        first |= {"trade_id": "1", "price": 1.5, "size": 2.0, "side": "buy", "ts_exchange_ns": 1767625200000000123}
        assert page["rows"][0] == first | {"ts_recv_ns": 5, "extra": {"count": 2}}
        assert [row["seq"] for row in page["rows"]] == [1, 2]
        async with session.get(f"{asked}&cursor={page['next']}") as answer:
            assert [(row["seq"]) for row in (await answer.json())["rows"]] == [3]
        async with session.get(asked, headers={"Accept": "text/csv"}) as answer:
            lines = (await answer.text()).splitlines()
            assert (lines[0], len(lines), answer.headers["X-Next"]) == (COLUMNS, 3, page["next"])
        async with session.get(asked, headers={"Accept": ARROW}) as answer:
            table = pyarrow.ipc.open_stream(await answer.read()).read_all()
            assert (answer.content_type, answer.headers["X-Next"]) == (ARROW, page["next"])
            assert (table.column_names, table["seq"].to_pylist()) == (COLUMNS.split(","), [1, 2])
            assert table["ts_exchange_ns"].cast("int64").to_pylist() == [1767625200000000123] * 2
            assert json.loads(table["extra"][0].as_py()) == {"count": 2}
        for kind in ("quotes", "bars", "gaps"):
            async with session.get(f"/v1/{kind}?symbol=NONE", headers={"Accept": ARROW}) as answer:
                assert pyarrow.ipc.open_stream(await answer.read()).read_all().num_rows == 0
        async with session.get(asked, headers={"Accept": "image/png"}) as answer:
            assert answer.status == 406
        async with session.get("/v1/trades?symbol=NONE") as answer:
            assert (answer.status, await answer.json()) == (200, {"rows": [], "next": None})
        async with session.get("/v1/quotes") as answer:
            assert (answer.status, "so ask for one" in (await answer.json())["error"]) == (400, True)
        async with session.get("/v1/bars?symbol=BTCUSDT&interval=1s&from=2016-01-05T00:00:00Z") as answer:
            assert (answer.status, "narrow them" in (await answer.json())["error"]) == (400, True)
        name = url.rpartition("/")[2]
        databases.ask(postgres.url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        databases.ask(postgres.url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        async with session.get("/v1/gaps?symbol=BTCUSDT") as answer:
            assert (answer.status, await answer.json()) == (503, {"error": "the database does not answer"})
        databases.ask(postgres.url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        async with session.get("/v1/gaps?symbol=BTCUSDT") as answer:
            assert await answer.json() == {"rows": [], "next": None}
        async with session.get("/health") as answer:
            assert (await answer.json())["database"] == "ok"


async def test_without_pyarrow_it_says_what_to_install(
    processes: Processes, env: dict[str, str], postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """The other forms need none."""
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError('not installed', name='pyarrow')")
    api = start(processes, MARKET_DATA_DATABASE_URL=databases.fresh(postgres), PYTHONPATH=str(tmp_path))
    async with aiohttp.ClientSession(api.url) as session:
        async with session.get("/v1/trades?symbol=BTCUSDT", headers={"Accept": ARROW}) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, "pip install 'mdstream[arrow]'" in error) == (406, True)
        async with session.get("/v1/trades?symbol=BTCUSDT", headers={"Accept": "text/csv"}) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("url", ["", "postgresql://nobody@127.0.0.1:1/none"])
async def test_without_a_database_the_webhook_works_and_the_rest_says_why(
    processes: Processes, env: dict[str, str], url: str
) -> None:
    """None that is set, and none that answers."""
    api = start(processes, MARKET_DATA_DATABASE_URL=url)
    why = "the database does not answer" if url else "there is no history: set MARKET_DATA_DATABASE_URL"
    async with aiohttp.ClientSession(api.url) as session:
        assert (await post(session, alert(1)))[0] == 202
        for path in ("/v1/trades?symbol=BTCUSDT", "/v1/symbols"):
            async with session.get(path) as answer:
                assert (answer.status, await answer.json()) == (503, {"error": why})
        async with session.get("/health") as answer:
            health = await answer.json()
            assert (answer.status, "database" in health) == ((503, True) if url else (200, False))


async def test_with_keys_only_who_has_one_may_read(
    processes: Processes, env: dict[str, str], postgres: EmbeddedPostgres
) -> None:
    """The history and the charts; alerts have their own secrets. A page of a named site may send a key."""
    keys, page = ",".join(sha256(key).hexdigest() for key in (b"first", b"second")), "https://charts.example"
    given = {"MARKET_DATA_DATABASE_URL": databases.fresh(postgres), "MDSTREAM_API_KEY_REQUESTS_PER_S": "0.001"}
    api = start(processes, **given, MDSTREAM_API_KEYS=keys, MDSTREAM_API_ORIGINS=page)
    async with aiohttp.ClientSession(api.url) as session:

        async def ask(path: str, key: str | None) -> int:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            async with session.get(path, headers=headers) as answer:
                if answer.status == 401:
                    assert await answer.json() == {"error": "unauthorized"}
                return answer.status

        for path in ("/v1/symbols", "/v1/trades?symbol=BTCUSDT", "/udf/config", "/udf/history"):
            assert [await ask(path, key) for key in (None, "", "third", keys[:64])] == [401] * 4
        assert [await ask("/v1/symbols", "first") for _ in range(2)] == [200, 429]
        assert await ask("/udf/config", "second") == 200
        assert [await ask(path, None) for path in ("/live", "/metrics", "/openapi.json")] == [200] * 3
        assert (await post(session, alert(1)))[0] == 202
        wanted = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
        async with session.options("/v1/symbols", headers={"Origin": page, **wanted}) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, page)


BAR = """INSERT INTO market_data_ohlcv SELECT 'mdstream', 'BTCUSDT', '1m', to_timestamp(%s + n * 60),
         1, 2, 0.5, 1.25, 10, 15, 3, 0 FROM generate_series(0, 9) n"""


async def test_a_chart_opens_our_bars(processes: Processes, env: dict[str, str], postgres: EmbeddedPostgres) -> None:
    """As the charting library asks: what there is, the symbol, its bars; from a page of a named site."""
    url, first_s, page = databases.fresh(postgres), int(time.time()) // 60 * 60 - 600, "https://charts.example"
    databases.ask(url, BAR, first_s)
    api = start(processes, MARKET_DATA_DATABASE_URL=url, MDSTREAM_API_ORIGINS=page, MDSTREAM_BARS="1m,1h")

    async with aiohttp.ClientSession(api.url, headers={"Origin": page}) as session:

        async def get(path: str) -> Any:
            async with session.get(f"/udf/{path}") as answer:
                assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, page)
                assert "X-Next" in answer.headers["Access-Control-Expose-Headers"]
                return json.loads(await answer.text())

        assert (await get("config"))["supported_resolutions"] == ["1", "60"]
        assert abs(await get("time") - time.time()) < 60
        assert [each["symbol"] for each in await get("search?query=btc&limit=5&type=&exchange=")] == ["BTCUSDT"]
        assert [(await get(f"symbols?symbol={name}"))["pricescale"] for name in ("BTCUSDT", "mdstream:BTCUSDT")] == [
            100
        ] * 2
        assert await get("symbols?symbol=NONE") == {"s": "error", "errmsg": "unknown_symbol"}
        asked = f"history?symbol=BTCUSDT&resolution=1&from={first_s}&to="
        assert (await get(f"{asked}{first_s + 120}"))["t"] == [first_s, first_s + 60]
        assert (await get(f"{asked}{first_s + 600}&countback=1"))["t"] == [first_s + 540]
        assert (await get(f"{asked}x"))["s"] == "error"
        async with session.get("/v1/symbols") as answer:
            assert await answer.json() == {"symbols": ["BTCUSDT"]}
        async with session.get("/udf/time", headers={"Origin": "https://other.example"}) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers


# ------------------------------------------------------------------------------------------------------------- process


async def test_health_follows_kafka(own_embedded_broker: int, env: dict[str, str], tmp_path: Path) -> None:
    """Not ready without it; alive all the same: a restart would not help."""
    with Processes(tmp_path, env) as processes:
        api = start(processes)
        async with aiohttp.ClientSession(api.url) as session, asyncio.timeout(120):
            async with session.get("/health") as healthy:
                assert (healthy.status, (await healthy.json())["kafka"]) == (200, "ok")
            for path in ("/health", "/ready", "/live"):  # as monitors ask
                async with session.head(path) as brief:
                    assert (brief.status, await brief.read()) == (200, b"")
            os.kill(own_embedded_broker, signal.SIGSTOP)
            while True:
                async with session.get("/health") as answer:
                    if answer.status == 503:
                        assert (await answer.json())["status"] == "degraded"
                        break
            async with session.get("/live") as live:
                assert live.status == 200
            async with session.get("/openapi.json") as described:
                assert HOOK in (await described.json())["paths"]
            os.kill(own_embedded_broker, signal.SIGCONT)
        assert api.process.stop() == 0


async def test_without_the_market_of_alerts_the_webhook_alone_is_off(
    processes: Processes, env: dict[str, str], postgres: EmbeddedPostgres
) -> None:
    """For good, so no sender is told to try again; the log, /health and the answer say why."""
    url = databases.fresh(postgres)
    databases.ask(url, BAR, int(time.time()) // 60 * 60 - 600)
    assert run_mdstream("topics", "--create", env=env | {"MDSTREAM_MARKETS": "equities"}).returncode == 0
    api = start(processes, MDSTREAM_MARKETS="equities", MARKET_DATA_DATABASE_URL=url)
    why = "the webhook is off: its alerts are of the market crypto, which MDSTREAM_MARKETS does not name"
    async with aiohttp.ClientSession(api.url) as session:
        for path in (HOOK, f"{HOOK}/{PATH}"):
            assert await post(session, alert(1), path=path) == (404, {"error": why})
        async with session.get("/health") as answer:
            health = await answer.json()
            assert (answer.status, health["webhook"], health["kafka"], health["problems"]) == (200, why, "ok", [])
        async with session.get("/v1/symbols") as answer:
            assert await answer.json() == {"symbols": ["BTCUSDT"]}
        async with session.get(f"/udf/history?symbol=BTCUSDT&resolution=1&countback=3&to={int(time.time())}") as answer:
            assert len((await answer.json())["t"]) == 3
        async with session.get("/v1/stream/trades?symbol=BTCUSDT") as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            assert (await answer.content.readline()).startswith(b"id: ")
        async with session.get("/metrics") as answer:
            assert "mdstream_api_streams " in await answer.text()
    assert why in api.process.output()
    assert api.process.stop() == 0


def test_a_port_in_use_is_said_at_the_start(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_mdstream("api", "--port", port, env=env)
    assert (ended.returncode, f"port {port} of 127.0.0.1 is in use" in ended.stderr) == (2, True)
    assert "no webhook is accepted: set TRADINGVIEW_HMAC_SECRET" in ended.stderr


def test_without_kafka_it_does_not_start(env: dict[str, str]) -> None:
    """It could accept nothing; whoever supervises it starts it again."""
    ended = run_mdstream("api", "--port", free_port(), "--kafka", "127.0.0.1:1", env=env)
    assert ended.returncode == 1
    assert "127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr
