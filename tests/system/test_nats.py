"""The nats role as a whole: every canonical event in the stream once, in order, whatever fails; and the live view."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import nats
import pytest
from canonical import SYMBOLS, Event, audit, committed, load_of, made_settings, of_hop, publish, rounds
from nats_streams import Message, api, count, held, proxy_to
from pages import page
from processes import LIMIT_S, Process, Processes, free_port, run_mdstream, wait_until
from servers import nats_server, on_apache_kafka, read_topic

from mdstream import events
from mdstream.config import Settings
from mdstream.embedded.nats import EmbeddedNats
from mdstream.events import Trade
from mdstream.sinks.subjects import tail_of
from topics import Topics

pytestmark = pytest.mark.system

KINDS = ("trades", "quotes", "books", "bars", "status")
EVENTS_PER_S = 5_000
OUTAGE_S = float(os.environ.get("MDSTREAM_TEST_OUTAGE_S", "30" if on_apache_kafka() else "6"))
"""How long the server is away under load."""
SOAK_S = float(os.environ.get("MDSTREAM_TEST_SOAK_S", "60" if on_apache_kafka() else "15"))
"""For how long the sink, and now and then the server, is killed; the connections are cut for a third of that."""
SERVER_KILLS = 0.25
"""The share of kills that hit the server."""
FIRST = 5
"""Rounds that the topics hold twice, as after a crash of their writer."""
SETTLE_S = 300.0
"""The load runs by the clock, so the slower the machine, the more is left to store at its end: it only ends a hang."""
STREAM = "NATS stream MDSTREAM"
"""The audit's name of it."""


@pytest.fixture
def server() -> Iterator[EmbeddedNats]:
    with nats_server() as running:
        yield running


def by_subject(made: Iterable[Event]) -> dict[str, list[bytes]]:
    """The values of each subject, in their order."""
    found = defaultdict(list)
    for _, _, value in made:
        event = events.decode(value)
        found[f"md.events.{tail_of(type(event), event.symbol)}"].append(value)
    return dict(found)


async def stored(url: str) -> dict[str, list[bytes]]:
    found = defaultdict(list)
    for message in await held(url):
        found[message.subject].append(message.value)
    return dict(found)


def use_stream(url: str) -> dict[str, str]:
    """A second is all that the server knows message ids for: what is exact is so by the stream alone."""
    return {"NATS_URL": url, "USE_JETSTREAM": "true", "NATS_DUPLICATE_WINDOW_S": "1"}


def test_stream_holds_every_event_once_and_in_order_whatever_fails(
    env: dict[str, str], processes: Processes, server: EmbeddedNats
) -> None:
    """Server away at the start; then under load an outage, a cut a second, and SIGKILL at random, of the server too."""
    settings, port, rng = made_settings(env), free_port(), random.Random(11)
    server.stop()
    with proxy_to(server.port) as proxy:
        processes.env = env | use_stream(proxy.url)
        publish(settings, rounds(0, FIRST))
        worker = processes.worker("nats", port=port)
        wait_until(lambda: "nats cannot write" in str(page(port, "/ready")), what="the reason on /ready")
        assert page(port, "/ready")[0] == 503
        assert committed(settings, "nats", *KINDS) == 0
        server.start()
        wait_until(lambda: page(port, "/ready")[0] == 200, what="readiness")
        with load_of(settings, EVENTS_PER_S) as load_:
            wait_for_more(server)
            server.stop()
            wait_until(lambda: page(port, "/ready")[0] == 503, what="/ready to say that it holds")
            time.sleep(OUTAGE_S)
            server.start()
            wait_until(lambda: page(port, "/ready")[0] == 200, what="readiness")
            assert worker.running, worker.output()

            for _ in range(round(SOAK_S / 3)):
                proxy.cut()
                time.sleep(1)

            ends = time.monotonic() + SOAK_S
            while time.monotonic() < ends:
                wait_for_more(server)
                time.sleep(rng.uniform(0, 3))
                if rng.random() < SERVER_KILLS:
                    server.kill()
                    server.start()
                else:
                    worker.kill()
                    worker = processes.worker("nats", port=free_port())
            following = load_.stop()
        whole = list(rounds(0, following))
        due = len(whole) + len(list(rounds(0, FIRST)))  # the topics hold the first rounds twice
        wait_until(lambda: committed(settings, "nats", *KINDS) == due, what="all offsets committed", limit_s=SETTLE_S)
        worker.wait_for(" is up: ")  # the last one may have found everything committed
        assert worker.stop() == 0
        assert proxy.cuts > 0
    wanted, found = by_subject(whole), asyncio.run(stored(server.url))
    assert {subject: len(values) for subject, values in found.items()} == {s: len(v) for s, v in wanted.items()}
    assert found == wanted
    report = audit(env, "--nats", server.url)
    hashes = {hop["name"]: (hop["trades"], hop["hash"], hop["doubled"]) for hop in report["hops"]}
    assert hashes[STREAM] == hashes[Topics(settings).trades.name]
    assert hashes[STREAM][0] == len(SYMBOLS) * following
    assert of_hop(report, STREAM, "totals") == []


def wait_for_more(server: EmbeddedNats) -> None:
    """Until the stream has grown."""
    before = asyncio.run(count(server.url))
    wait_until(lambda: asyncio.run(count(server.url)) > before, what="messages in the stream")


def test_audit_names_what_the_stream_lacks(env: dict[str, str], processes: Processes, server: EmbeddedNats) -> None:
    """And a trade that another program stored again, which is doubled, and out of order."""
    settings = made_settings(env)
    publish(settings, rounds(0, 10))
    worker = processes.worker("nats", port=free_port(), env=use_stream(server.url))
    due = len(list(rounds(0, 10)))
    wait_until(lambda: committed(settings, "nats", *KINDS) == due, what="all offsets committed")
    assert worker.stop() == 0
    trades = [message for message in asyncio.run(held(server.url)) if message.subject == "md.events.trade.S3USDT"]
    lost, doubled = trades[4], trades[7]
    asyncio.run(tamper(server.url, delete=lost, again=doubled))
    found = of_hop(audit(env, "--nats", server.url), STREAM)
    assert {(one["kind"], one["symbol"], one["trade_id"]) for one in found} == {
        ("missing", "S3USDT", lost.event["trade_id"]),
        ("doubled", "S3USDT", doubled.event["trade_id"]),
    }


async def tamper(url: str, *, delete: Message, again: Message) -> None:
    await api(url, "STREAM.MSG.DELETE.MDSTREAM", {"seq": delete.at})
    async with await nats.connect(url) as client:
        await client.jetstream().publish(again.subject, again.value)


def test_stream_that_cannot_be_read_ends_the_audit_with_one_clear_line(env: dict[str, str]) -> None:
    """Before the trades are read."""
    made_settings(env)
    done = run_mdstream("audit", "--nats", f"nats://md:secret@127.0.0.1:{free_port()}", env=env)
    assert done.returncode == 3
    assert "the stream MDSTREAM at nats://127.0.0.1:" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("cannot be read: no server listens there (NATS_URL, NATS_STREAM)")
    assert "secret" not in done.stderr


def test_live_view_starts_without_a_server_and_lets_events_pass(env: dict[str, str], processes: Processes) -> None:
    """It is ready, logs once that there is no server, and publishes as soon as there is one."""
    settings, port, nats_port = made_settings(env), free_port(), free_port()
    publish(settings, rounds(0, 10))
    worker = processes.worker("nats", port=port, env={"NATS_URL": f"nats://md:secret@127.0.0.1:{nats_port}"})
    passed = len(list(rounds(0, 10)))
    wait_until(lambda: committed(settings, "nats", *KINDS) == passed, what="all offsets committed")
    assert page(port, "/ready")[0] == 200
    with EmbeddedNats(nats_port) as server:
        heard = asyncio.run(listen(server.url, worker, settings))
        wanted = {"md.events.heartbeat.__system__", *(f"md.events.{kind}.S0USDT" for kind in ("trade", "quote", "bar"))}
        assert wanted <= set(heard)
        assert heard == by_subject(rounds(10, 20))
    assert worker.stop() == 0
    assert worker.output().count("no server listens there") == 1
    assert "secret" not in worker.output()


async def listen(url: str, worker: Process, settings: Settings) -> dict[str, list[bytes]]:
    """What a subscriber gets of ten more rounds."""
    found = defaultdict(list)
    async with await nats.connect(url) as client:
        heard = await client.subscribe("md.events.>")
        await asyncio.to_thread(worker.wait_for, "connected to NATS")
        await asyncio.to_thread(publish, settings, rounds(10, 20))
        for _ in range(len(list(rounds(10, 20)))):
            message = await heard.next_msg(LIMIT_S)
            found[message.subject].append(message.data)
    return dict(found)


def test_event_that_nats_cannot_take_is_on_the_dead_letters_topic(
    env: dict[str, str], processes: Processes, server: EmbeddedNats
) -> None:
    """Its neighbours are in the stream."""
    settings = made_settings(env)
    name = "X" * 1_100
    long = events.encode(Trade(name, 1, "binance", "1", 1.5, 2.0, "buy", 1, 2))
    made = [*rounds(0, 1), ("trades", name.encode(), long), *rounds(1, 2)]
    publish(settings, made)
    worker = processes.worker("nats", port=free_port(), env=use_stream(server.url))
    wait_until(lambda: committed(settings, "nats", *KINDS) == len(made), what="all offsets committed")
    assert worker.stop() == 0
    assert asyncio.run(stored(server.url)) == by_subject(rounds(0, 2))
    (letter,) = asyncio.run(read_topic(settings.bootstrap_servers, Topics(settings).dead.name))
    assert json.loads(letter.value)["error"] == "its symbol is too long for a NATS subject"


@pytest.mark.parametrize(
    ("jetstream", "guard", "says"),
    [
        (False, "", "it has no JetStream: start it with `nats-server -js` (or `jetstream {}` in its configuration)"),
        (True, 'authorization { user: "md", password: "x" }', "it refuses the user, password or token of NATS_URL"),
    ],
    ids=["without JetStream", "wrong password"],
)
def test_stream_that_cannot_be_had_ends_the_start_with_one_clear_line(
    env: Mapping[str, str], jetstream: bool, guard: str, says: str, tmp_path: Path
) -> None:
    with nats_server(jetstream=jetstream, settings=guard) as server:
        url = f"nats://md:wrong-secret@127.0.0.1:{server.port}" if guard else server.url
        done = run_mdstream("worker", "nats", "--port", free_port(), env={**env, **use_stream(url)}, cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"mdstream: nats cannot write nats://127.0.0.1:{server.port} (stream MDSTREAM): {says}")
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr + done.stdout
