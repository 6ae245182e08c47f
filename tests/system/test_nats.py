"""The nats role as a whole: every canonical event in the stream once, in order, whatever fails; and the live view."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import count as count_from
from pathlib import Path

import nats
import pytest
from canonical import Event, committed, load_of, made_settings, publish, rounds
from nats_streams import Way, count, held, way_to

from mdstream import events
from mdstream.audit.prints import Scope
from mdstream.config import Settings, load
from mdstream.events import Trade
from mdstream.sinks.nats_server import EmbeddedNats
from mdstream.sinks.subjects import tail_of
from mdstream.testing import Process, Processes, free_port, nats_server, read_topic, run_mdstream, wait_until
from mdstream.tools.chain import Chain, Reading
from mdstream.tools.hops import CanonicalHop
from mdstream.tools.nats_hop import NatsHop
from topics import Topics

pytestmark = pytest.mark.system

KINDS = ("trades", "quotes", "books", "bars", "status")
SOAK_S = float(os.environ.get("MDSTREAM_TEST_NATS_SOAK_S", "25"))
"""For how long the server, the connections and the worker fail, in turn."""
EVENTS_PER_S = float(os.environ.get("MDSTREAM_TEST_NATS_RATE", "2000"))
FAULT_S = 1.0
FIRST = 5
"""Rounds that the topics hold twice, as after a crash of their writer."""
SETTLE_S = 120.0
LIMIT_S = 60.0


@pytest.fixture
def server() -> Iterator[EmbeddedNats]:
    with nats_server() as running:
        yield running


def by_subject(made: Iterable[Event]) -> dict[str, list[bytes]]:
    """The values of each subject, in their order."""
    found = defaultdict(list)
    for _, _, value in made:
        found[f"md.events.{tail_of(events.decode(value))}"].append(value)
    return dict(found)


async def stored(url: str) -> dict[str, list[bytes]]:
    found = defaultdict(list)
    for message in await held(url):
        found[message.subject].append(message.value)
    return dict(found)


def ready(port: int) -> tuple[int, str]:
    """Status and text of the worker's /ready; 0 while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def use_stream(url: str) -> dict[str, str]:
    """A second is all that the server knows message ids for: what is exact is so by the stream alone."""
    return {"NATS_URL": url, "USE_JETSTREAM": "true", "NATS_DUPLICATE_WINDOW_S": "1"}


def test_stream_holds_every_event_once_and_in_order_whatever_fails(
    env: dict[str, str], processes: Processes, server: EmbeddedNats
) -> None:
    """Server away at the start, killed, stopped for seconds; connections cut; the worker killed: all under load."""
    settings, port = made_settings(env), free_port()
    server.stop()
    with way_to(server.port) as way:
        processes.env = env | use_stream(way.url)
        publish(settings, rounds(0, FIRST))
        worker = processes.worker("nats", port=port)
        wait_until(lambda: "nats cannot write" in ready(port)[1], what="the reason on /ready", limit_s=LIMIT_S)
        assert ready(port)[0] == 503
        assert committed(settings, "nats", *KINDS) == 0
        server.start()
        wait_until(lambda: ready(port)[0] == 200, what="readiness", limit_s=LIMIT_S)
        with load_of(settings, EVENTS_PER_S) as load_:
            wait_until(lambda: asyncio.run(count(server.url)) > 3_000, what="messages in the stream", limit_s=LIMIT_S)
            worker = fail(worker, server, way, processes)
            following = load_.stop()
        whole = list(rounds(0, following))
        due = len(whole) + len(list(rounds(0, FIRST)))  # the topics hold the first rounds twice
        wait_until(lambda: committed(settings, "nats", *KINDS) == due, what="all offsets committed", limit_s=SETTLE_S)
        assert worker.stop() == 0
        assert way.cuts > 0
    wanted, found = by_subject(whole), asyncio.run(stored(server.url))
    assert {subject: len(values) for subject, values in found.items()} == {s: len(v) for s, v in wanted.items()}
    assert found == wanted
    assert asyncio.run(audit(settings, server.url)) == "agree"


def fail(worker: Process, server: EmbeddedNats, way: Way, processes: Processes) -> Process:
    """Break something each second for SOAK_S; the worker that runs in the end."""
    rng, until = random.Random(11), time.monotonic() + SOAK_S
    for turn in count_from(1):
        if time.monotonic() > until:
            break
        time.sleep(rng.uniform(0.5, 1.5) * FAULT_S)
        if turn % 10 == 8:  # a worker that has just started needs some seconds until it reads
            worker.kill()
            worker = processes.worker("nats", port=free_port())
        elif turn % 10 == 5:
            server.stop()
            time.sleep(rng.uniform(2, 4) * FAULT_S)
            server.start()
        elif turn % 10 == 2:
            server.kill()
            server.start()
        else:
            way.cut()
    return worker


async def audit(settings: Settings, url: str) -> str:
    """What `mdstream audit` makes of the two hops."""
    scope = Scope()
    there = settings.model_copy(update={"nats_url": load(nats_url=url).nats_url, "use_jetstream": True})
    hops = (CanonicalHop(there, scope), NatsHop(there, scope))
    chain = Chain(scope, [Reading(hop, scope) for hop in hops])
    await chain.run()
    assert chain.notes == []
    return chain.verdict


def test_live_view_starts_without_a_server_and_lets_events_pass(env: dict[str, str], processes: Processes) -> None:
    """It is ready, says once that nobody listens, and publishes as soon as somebody does."""
    settings, port, nats_port = made_settings(env), free_port(), free_port()
    publish(settings, rounds(0, 10))
    worker = processes.worker("nats", port=port, env={"NATS_URL": f"nats://md:secret@127.0.0.1:{nats_port}"})
    passed = len(list(rounds(0, 10)))
    wait_until(lambda: committed(settings, "nats", *KINDS) == passed, what="all offsets committed", limit_s=LIMIT_S)
    assert ready(port)[0] == 200
    with EmbeddedNats(nats_port) as server:
        heard = asyncio.run(listen(server.url, worker, settings))
        wanted = {"md.events.heartbeat.__system__", *(f"md.events.{kind}.S0USDT" for kind in ("trade", "quote", "bar"))}
        assert wanted <= set(heard)
        assert heard == by_subject(rounds(10, 20))
    assert worker.stop() == 0
    assert worker.output().count("nobody listens there") == 1
    assert "secret" not in worker.output()


async def listen(url: str, worker: Process, settings: Settings) -> dict[str, list[bytes]]:
    """What a subscriber gets of ten more rounds."""
    found = defaultdict(list)
    async with await nats.connect(url) as client:
        heard = await client.subscribe("md.events.>")
        await asyncio.to_thread(worker.wait_for, "connected to NATS", LIMIT_S)
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
    wait_until(lambda: committed(settings, "nats", *KINDS) == len(made), what="all offsets committed", limit_s=LIMIT_S)
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
