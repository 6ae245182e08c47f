"""Live events of `mdstream api`: a real process, a real broker, real sockets.

topic ─> mdstream api ─ /v1/stream/KIND ─> server-sent events
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from alerts import Api, start, until_shown
from canonical import Event, made_settings, publish
from processes import Processes

from mdstream import events
from mdstream.config import Settings
from mdstream.events import Bar, BookL2, Quote, Trade

pytestmark = pytest.mark.system

LIMIT_S = 120


class Sent(NamedTuple):
    """A server-sent event."""

    id: str
    name: str
    data: Any


@pytest.fixture
def settings(env: Mapping[str, str]) -> Settings:
    return made_settings(env)


def trades(seqs: Iterable[int], symbol: str = "BTCUSDT") -> list[Event]:
    made = (Trade(symbol, seq, "binance", str(seq), 1.5, 2.0, "buy", seq, seq + 1) for seq in seqs)
    return [("trades", symbol.encode(), events.encode(trade)) for trade in made]


async def write(settings: Settings, made: list[Event]) -> None:
    await asyncio.to_thread(publish, settings, made)


@asynccontextmanager
async def listening(api: Api, asked: str, last_id: str = "") -> AsyncIterator[AsyncIterator[Sent]]:
    """The events of a stream, from when the server has begun it."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with (
        asyncio.timeout(LIMIT_S),
        aiohttp.ClientSession(api.url, timeout=aiohttp.ClientTimeout()) as session,
        session.get(f"/v1/stream/{asked}", headers=headers) as answer,
    ):
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        yield sent(answer.content)


async def sent(content: aiohttp.StreamReader) -> AsyncIterator[Sent]:
    """What a client makes of the lines, by the standard; comments as events of that name."""
    fields: dict[str, str] = {}
    last_id = ""
    while line := (await content.readline()).decode():
        name, _, value = line.rstrip("\n").partition(": ")
        if line != "\n":
            fields[name or "comment"] = value
            continue
        last_id = fields.get("id", last_id)
        if "comment" in fields:
            yield Sent(last_id, "comment", None)
        else:
            yield Sent(last_id, fields.get("event", "message"), json.loads(fields.get("data", "null")))
        fields = {}


async def some(events: AsyncIterator[Sent], count: int) -> list[Sent]:
    """The next events with data."""
    found: list[Sent] = []
    while len(found) < count:
        event = await anext(events)
        if event.data is not None:
            found.append(event)
    return found


async def get(api: Api, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    async with aiohttp.ClientSession(api.url) as session, session.get(path, headers=headers) as answer:
        return answer.status, await answer.text()


# -------------------------------------------------------------------------------------------------- server-sent events


async def test_live_events_come_as_they_are_on_the_topic(processes: Processes, settings: Settings) -> None:
    """From now on: what was written before the stream began is not in it, all that comes afterwards is."""
    await write(settings, trades(range(10)))
    api = start(processes)
    newer = events.encode(Trade("BTCUSDT", 10, "okx", "x", 1.0, 1.0, None, None, 5))[:-1] + b',"added":{"one":\n1}}'
    async with listening(api, "trades?symbol=btcusdt") as stream:
        first = await anext(stream)
        assert (re.fullmatch(r"\d+:\d+", first.id) is not None, first.data) == (True, None)
        await write(settings, [("trades", b"BTCUSDT", newer), *trades([3], "ETHUSDT"), *trades([11])])
        ten, eleven = await some(stream, 2)
        assert ten == Sent("10", "message", json.loads(newer))
        assert (eleven.id, eleven.data["seq"]) == ("11", 11)


async def test_who_comes_back_gets_each_event_once(processes: Processes, settings: Settings) -> None:
    """Cut at any place, by the id of the last event: no hole, and no repeat, also of what was written twice."""
    api = start(processes)
    await write(settings, trades([*range(40), *range(30, 60)]))
    got: list[int] = []
    last_id = ""
    while len(got) < 60:
        async with listening(api, "trades?symbol=BTCUSDT&start=earliest", last_id) as stream:
            found = await some(stream, min(7, 60 - len(got)))
        got += [each.data["seq"] for each in found]
        last_id = found[-1].id
        assert last_id == str(got[-1])
    assert got == list(range(60))


async def test_who_was_cut_before_the_first_event_misses_none(processes: Processes, settings: Settings) -> None:
    """A stream tells its place when it begins."""
    api = start(processes)
    await write(settings, trades(range(5)))
    async with listening(api, "trades?symbol=BTCUSDT") as stream:
        first = await anext(stream)
    await write(settings, trades(range(5, 8)))
    async with listening(api, "trades?symbol=BTCUSDT", first.id) as stream:
        assert [each.data["seq"] for each in await some(stream, 3)] == [5, 6, 7]


async def test_several_symbols_and_bars_go_on_by_their_place(processes: Processes, settings: Settings) -> None:
    """They have no one number that says where a stream is."""
    api = start(processes)
    both = [*trades(range(20)), *trades(range(20), "ETHUSDT"), *trades(range(20), "SOLUSDT")]
    bars = [Bar("BTCUSDT", "1m", at, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 3, 0) for at in range(20)]
    others = [Bar("BTCUSDT", "5m", at, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 3, 0) for at in range(20)]
    await write(settings, [*both, *(("bars", b"BTCUSDT", events.encode(bar)) for bar in (*bars, *others))])
    for asked, wanted, key in (
        ("trades?symbol=BTCUSDT,ETHUSDT", {(s, n) for s in ("BTCUSDT", "ETHUSDT") for n in range(20)}, "seq"),
        ("bars?symbol=BTCUSDT&interval=1m", {("BTCUSDT", n) for n in range(20)}, "ts_open"),
    ):
        got: list[tuple[str, int]] = []
        last_id = ""
        while len(got) < len(wanted):
            async with listening(api, f"{asked}&start=earliest", last_id) as stream:
                found = await some(stream, min(7, len(wanted) - len(got)))
            got += [(each.data["symbol"], each.data[key]) for each in found]
            last_id = found[-1].id
        assert (len(got), set(got)) == (len(wanted), wanted)


async def test_the_other_kinds_have_streams_too(processes: Processes, settings: Settings) -> None:
    quote = Quote("BTCUSDT", 7, "okx", 1.0, 2.0, None, None, None, 5)
    book = BookL2("BTCUSDT", 8, "okx", [(1.0, 2.0)], [], None, 5)
    made: list[tuple[str, Quote | BookL2]] = [("quotes", quote), ("books", book)]
    await write(settings, [(kind, b"BTCUSDT", events.encode(event)) for kind, event in made])
    api = start(processes)
    for kind, event in made:
        async with listening(api, f"{kind}?symbol=BTCUSDT&start=earliest") as stream:
            (found,) = await some(stream, 1)
            assert found == Sent(str(event.seq), "message", json.loads(events.encode(event)))


async def test_missing_numbers_and_what_is_no_event_are_said(processes: Processes, settings: Settings) -> None:
    """The first just before the event behind them; the second ends the stream."""
    await write(settings, [*trades([1, 2, 5]), ("trades", b"BTCUSDT", b"{not JSON")])
    api = start(processes)
    async with listening(api, "trades?symbol=BTCUSDT&start=1") as stream:
        found = [each async for each in stream if each.data is not None]
    assert [each.data.get("seq") for each in found] == [1, 2, None, 5, None]
    assert found[2] == Sent("2", "hole", {"type": "hole", "symbol": "BTCUSDT", "first": 3, "last": 4})
    assert (found[4].name, "is no event" in found[4].data["error"]) == ("failure", True)


async def test_what_cannot_be_answered_says_why(processes: Processes, settings: Settings) -> None:
    api = start(processes)
    for asked, last_id, why in (
        ("trades", "", "symbol is missing"),
        ("trades?symbol=A&interval=1m", "", "unknown parameter 'interval'"),
        ("trades?symbol=A,B&start=5", "", "of one symbol"),
        ("bars?symbol=A&start=5", "", "of one symbol"),
        ("bars?symbol=A&interval=x", "", "no interval of bars"),
        ("trades?symbol=A&start=yesterday", "", "yesterday"),
        ("trades?symbol=A", "x", "Last-Event-ID"),
        ("trades?symbol=A,B", "5", "Last-Event-ID"),
        ("trades?symbol=A", "77:5", "that of other symbols"),
    ):
        status, answer = await get(api, f"/v1/stream/{asked}", {"Last-Event-ID": last_id} if last_id else {})
        assert (status, why in answer) == (400, True), (asked, answer)
    async with listening(api, "trades?symbol=A") as stream:
        partition, offset = (await anext(stream)).id.split(":")
    ahead = {"Last-Event-ID": f"{partition}:{int(offset) + 1}"}  # of a log that was there before
    status, answer = await get(api, "/v1/stream/trades?symbol=A", ahead)
    assert (status, "is not in the log" in answer) == (400, True), answer
    assert (await get(api, "/v1/stream/none?symbol=A"))[0] in (404, 503)


async def test_streams_are_bounded_and_room_comes_back(processes: Processes, settings: Settings) -> None:
    api = start(processes, MDSTREAM_API_STREAMS="2")
    async with asyncio.timeout(LIMIT_S):
        async with listening(api, "trades?symbol=A"), listening(api, "trades?symbol=B"):
            assert (await get(api, "/v1/stream/trades?symbol=C"))[0] == 503
            assert "mdstream_api_streams 2.0" in (await get(api, "/metrics"))[1]
        await until_shown(api.port, "mdstream_api_streams 0.0")
    async with listening(api, "trades?symbol=C"):
        pass


async def test_with_keys_a_stream_needs_one(processes: Processes, settings: Settings) -> None:
    api = start(processes, MDSTREAM_API_KEYS=sha256(b"key").hexdigest())
    assert (await get(api, "/v1/stream/trades?symbol=A"))[0] == 401
    async with (
        aiohttp.ClientSession(api.url, headers={"Authorization": "Bearer key"}) as session,
        session.get("/v1/stream/trades?symbol=A") as answer,
    ):
        assert answer.status == 200


async def test_a_quiet_stream_has_heartbeats_and_goes_on(
    processes: Processes, settings: Settings, env: dict[str, str]
) -> None:
    """Proxies and clients take a connection without a byte for dead."""
    api = start(processes)
    async with listening(api, "trades?symbol=BTCUSDT") as stream:
        await anext(stream)
        assert (await anext(stream)).name == "comment"
        await write(settings, trades([1]))
        assert [each.id for each in await some(stream, 1)] == ["1"]


async def test_who_reads_nothing_is_disconnected_and_harms_nobody(processes: Processes, settings: Settings) -> None:
    """Its events wait in Kafka: the server holds a part of them, counts it, and lets it go. Who reads gets all."""
    levels = [(float(n), 1.0) for n in range(200)]
    made = [BookL2("BTCUSDT", n, "okx", levels, levels, None, 5) for n in range(6_000)]  # 30 MB, more than sockets hold
    await write(settings, [("books", b"BTCUSDT", events.encode(book)) for book in made])
    api = start(processes)
    path = "/v1/stream/books?symbol=BTCUSDT&start=earliest"
    with socket.create_connection(("127.0.0.1", api.port)) as idle:
        idle.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with listening(api, path.removeprefix("/v1/stream/")) as stream:
            assert [each.data["seq"] for each in await some(stream, len(made))] == list(range(len(made)))
        await until_shown(api.port, "mdstream_api_slow_clients_total 1.0")
        await until_shown(api.port, "mdstream_api_streams 0.0")
    assert "a client is disconnected: it read nothing" in api.process.output()
    assert "Traceback" not in api.process.output()


async def test_sigterm_ends_streams(processes: Processes, settings: Settings) -> None:
    """As a whole answer, soon: their clients go to another process."""
    api = start(processes)
    async with listening(api, "trades?symbol=BTCUSDT") as stream:
        await anext(stream)
        stopped = asyncio.create_task(asyncio.to_thread(api.process.stop))
        assert [each async for each in stream] == []
        assert await stopped == 0
    assert "Traceback" not in api.process.output()


async def test_sigterm_ends_streams_that_have_not_begun(
    own_embedded_broker: int, env: dict[str, str], tmp_path: Path
) -> None:
    """They wait for Kafka, and are refused as if it had not answered."""
    await asyncio.to_thread(made_settings, env)
    with Processes(tmp_path, env) as processes:
        api = start(processes)
        os.kill(own_embedded_broker, signal.SIGSTOP)
        waiting = [asyncio.create_task(get(api, "/v1/stream/trades?symbol=BTCUSDT")) for _ in range(3)]
        await until_shown(api.port, "mdstream_api_streams 3.0")
        assert await asyncio.to_thread(api.process.stop) == 0
        assert [status for status, _ in await asyncio.gather(*waiting)] == [503] * 3
    assert "Traceback" not in api.process.output()


async def test_a_stream_outlives_a_broker_that_stands_still(
    own_embedded_broker: int, env: dict[str, str], tmp_path: Path
) -> None:
    """It goes on behind it, without a hole. A new one is refused meanwhile, or waits."""
    settings = await asyncio.to_thread(made_settings, env)
    with Processes(tmp_path, env) as processes:
        api = start(processes)
        async with listening(api, "trades?symbol=BTCUSDT") as stream:
            await anext(stream)
            await write(settings, trades(range(3)))
            await some(stream, 3)
            os.kill(own_embedded_broker, signal.SIGSTOP)
            try:
                assert (await anext(stream)).name == "comment"
            finally:
                os.kill(own_embedded_broker, signal.SIGCONT)
            await write(settings, trades(range(3, 6)))
            assert [each.id for each in await some(stream, 3)] == ["3", "4", "5"]


async def test_without_its_broker_a_stream_waits_and_a_new_one_is_refused(
    own_embedded_broker: int, env: dict[str, str], tmp_path: Path
) -> None:
    """The process lives, and ends at once when it is told to."""
    await asyncio.to_thread(made_settings, env)
    with Processes(tmp_path, env) as processes:
        api = start(processes)
        async with listening(api, "trades?symbol=BTCUSDT") as stream:
            await anext(stream)
            os.kill(own_embedded_broker, signal.SIGKILL)
            assert (await anext(stream)).name == "comment"
            status, answer = await get(api, "/v1/stream/trades?symbol=BTCUSDT")
            assert (status, json.loads(answer)) == (503, {"error": "Kafka does not answer"})
            stopped = asyncio.create_task(asyncio.to_thread(api.process.stop))
            assert [each async for each in stream if each.name != "comment"] == []
            assert await stopped == 0
