"""The nats sink by itself, on a real server: what it stores and in which order, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import nats
import pytest
from canonical import T0
from nats_streams import Message, api, held
from processes import free_port, wait_until
from pydantic import SecretStr
from servers import nats_server
from sink_builders import TRADES, Rec

from mdstream import events
from mdstream.config import Settings, load
from mdstream.embedded.nats import EmbeddedNats
from mdstream.errors import SinkError
from mdstream.events import Bar, Event, Heartbeat, Trade
from mdstream.records import Partition
from mdstream.sinks.base import Chunk, decode
from mdstream.sinks.nats import CoreSink, JetStreamSink
from mdstream.sinks.nats_stream import BATCH_MESSAGES, Stream

pytestmark = pytest.mark.system

BARS, STATUS = Partition("md.bars", 0), Partition("md.status", 0)


def trade(seq: int, symbol: str = "BTCUSDT", **fields: Any) -> Trade:
    reply: dict[str, Any] = {"provider": "binance", "trade_id": str(seq), "price": 1.5, "size": 2.0, "side": "buy"}
    own: dict[str, Any] = {"symbol": symbol, "seq": seq, "ts_exchange": T0, "ts_recv": T0 + seq}
    return Trade(**own | reply | fields)


def bar(revision: int, symbol: str = "BTCUSDT") -> Bar:
    return Bar(symbol, "1m", T0, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 3, revision)


def chunk(made: Sequence[Event], partition: Partition = TRADES, first: int = 0) -> Chunk:
    records = [Rec(first + n, events.encode(event)) for n, event in enumerate(made)]
    return decode(partition, records)[0]


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedNats]:
    with nats_server() as server:
        yield server


def changed(settings: Settings, **update: Any) -> Settings:
    return settings.model_copy(update={"nats": settings.nats.model_copy(update=update)})


@pytest.fixture
def settings(shared: EmbeddedNats, prefix: str) -> Settings:
    """A stream and subjects of the test's own, message ids known for a second only."""
    return load(
        nats_url=shared.url,
        use_jetstream=True,
        nats_stream=prefix,
        nats_subject_prefix=f"{prefix}.events",
        nats_duplicate_window_s=1.0,
    )


@pytest.fixture
async def sink(settings: Settings) -> AsyncIterator[JetStreamSink]:
    made = JetStreamSink(settings)
    await made.open()
    yield made
    await made.close()


async def stored(settings: Settings) -> list[Message]:
    return await held(settings.nats.url.get_secret_value(), settings.nats.stream)


async def seqs(settings: Settings) -> list[int]:
    return [message.event["seq"] for message in await stored(settings)]


async def test_every_type_is_stored_as_it_is_on_the_topic(sink: JetStreamSink, settings: Settings) -> None:
    """Payload: the record's bytes. Subject, id and number as documented, and nothing else."""
    made: list[Event] = [trade(7, "BRK.B"), bar(0), Heartbeat(events.SYSTEM, "okx", None, T0)]
    chunks = [chunk(made[:1]), chunk(made[1:2], BARS), chunk(made[2:], STATUS, first=41)]
    assert await sink.write(chunks) == []
    found = {
        message.subject.removeprefix(f"{settings.nats.subject_prefix}."): message for message in await stored(settings)
    }
    assert set(found) == {"trade.BRK%2EB", "bar.BTCUSDT", "heartbeat.__system__"}
    assert [found[tail].value for tail in found] == [events.encode(event) for event in made]
    assert found["trade.BRK%2EB"].headers["Mdstream-Seq"] == "7"
    assert found["trade.BRK%2EB"].headers["Nats-Msg-Id"] == "trade.BRK%2EB.7"
    assert found["bar.BTCUSDT"].headers["Nats-Msg-Id"] == f"bar.BTCUSDT.1m.{T0}.0"
    assert found["heartbeat.__system__"].headers["Mdstream-Place"] == f"0 41 {T0 // 1_000_000}"


async def test_group_of_many_batches_is_stored_in_order(sink: JetStreamSink, settings: Settings) -> None:
    made = [trade(n, f"S{n % 7}") for n in range(2 * BATCH_MESSAGES + 10)]
    await sink.write([chunk(made)])
    assert await seqs(settings) == list(range(len(made)))
    assert (sink.published, sink.repeats, sink.batches) == (len(made), 0, 3)


async def test_repeats_are_left_out_after_the_server_has_forgotten_their_ids(settings: Settings) -> None:
    """A new process, an hour later: what is stored is read from the stream, numbered events and others."""
    group = [
        chunk([trade(n) for n in range(10)]),
        chunk([bar(n) for n in range(5)], BARS),
        chunk([Heartbeat(events.SYSTEM, "okx", None, T0 + n) for n in range(5)], STATUS),
    ]
    first = JetStreamSink(settings)
    await first.write(group)
    before = await stored(settings)
    await first.close()
    await asyncio.sleep(2 * settings.nats.duplicate_window_s)
    second = JetStreamSink(settings)
    more = chunk([trade(n) for n in range(5, 15)], first=10)
    await second.write([*group, more])
    await second.close()
    after = await stored(settings)
    assert after[: len(before)] == before
    assert [message.event["seq"] for message in after[len(before) :]] == list(range(10, 15))
    assert (second.published, second.repeats) == (5, 25)


async def test_a_number_with_another_content_is_left_out_and_reported(
    sink: JetStreamSink, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream keeps what it has: whoever drops repeats by their number must not see another event under it."""
    other = [trade(1), trade(2, price=9.5), trade(3)]
    await sink.write([chunk([trade(n) for n in range(3)])])
    assert sink.metrics()["seq_conflicts_total"] == 0
    await sink.write([chunk(other, first=3)])
    assert [message.event["price"] for message in await stored(settings)] == [1.5] * 4
    assert sink.metrics()["seq_conflicts_total"] == 1
    [reply] = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert reply.startswith("nats: trade.BTCUSDT: 1 events have a number (seq) that is stored with another content")


async def test_repeats_within_a_group_are_stored_once(sink: JetStreamSink, settings: Settings) -> None:
    """The canonical topic may hold an event twice, under two offsets, after a crash of its writer."""
    status = Heartbeat(events.SYSTEM, "okx", None, T0)
    again = [trade(n) for n in (0, 1, 2, 1, 2, 3)]
    await sink.write([chunk(again), chunk([status, status], STATUS)])
    await asyncio.sleep(2 * settings.nats.duplicate_window_s)
    await sink.write([chunk(again, first=6), chunk([status], STATUS, first=2)])
    found = await stored(settings)
    assert [message.event.get("seq") for message in found] == [0, 1, 2, 3, None]


async def test_worker_that_was_thought_dead_changes_nothing(settings: Settings) -> None:
    """It wakes up with what it had in hand; another one has stored that and more since, and ids are long forgotten."""
    sleeper, other = JetStreamSink(settings), JetStreamSink(settings)
    await sleeper.write([chunk([trade(n) for n in range(5)])])
    await other.write([chunk([trade(n) for n in range(5, 20)])])
    await asyncio.sleep(2 * settings.nats.duplicate_window_s)
    await sleeper.write([chunk([trade(n) for n in range(5, 12)])])
    assert await seqs(settings) == list(range(20))
    assert (sleeper.changes, sleeper.published, sleeper.repeats) == (1, 5, 7)
    await sleeper.write([chunk([trade(20)])])
    assert await seqs(settings) == list(range(21))
    await sleeper.close()
    await other.close()


async def test_two_workers_share_a_stream(settings: Settings) -> None:
    """Each has partitions of its own; heartbeats of both go to one subject."""

    async def work(number: int) -> None:
        sink = JetStreamSink(settings)
        heartbeats = [Heartbeat(events.SYSTEM, "okx", None, T0 + n) for n in range(50)]
        for first in range(0, 500, 50):
            made = [trade(n, f"S{number}") for n in range(first, first + 50)]
            await sink.write([chunk(made), chunk(heartbeats, Partition("md.status", number))])
        await sink.close()

    await asyncio.gather(work(0), work(1))
    found = await stored(settings)
    for symbol in ("S0", "S1"):
        assert [m.event["seq"] for m in found if m.event["symbol"] == symbol] == list(range(500))
    heartbeats = [m.event["ts_recv"] for m in found if m.event["type"] == "heartbeat"]
    assert heartbeats == [T0 + n for n in range(50)]


async def test_nothing_overtakes_what_the_stream_refused(settings: Settings, shared: EmbeddedNats) -> None:
    """A stream that is full and told to refuse takes small messages where large ones find no room: not ours."""
    await api(
        shared.url,
        f"STREAM.CREATE.{settings.nats.stream}",
        {
            "name": settings.nats.stream,
            "subjects": [f"{settings.nats.subject_prefix}.>"],
            "storage": "file",
            "discard": "new",
            "max_bytes": 4_000,
        },
    )
    sink = JetStreamSink(settings)
    large = trade(1, conditions=("x" * 8_000,))
    with pytest.raises(SinkError, match="maximum bytes exceeded"):
        await sink.write([chunk([trade(0), large, trade(2), trade(3)])])
    assert await seqs(settings) == []
    config = (await api(shared.url, f"STREAM.INFO.{settings.nats.stream}"))["config"]
    await api(shared.url, f"STREAM.UPDATE.{settings.nats.stream}", config | {"max_bytes": -1})
    await sink.write([chunk([trade(0), large, trade(2), trade(3)])])
    assert await seqs(settings) == [0, 1, 2, 3]
    await sink.close()


async def test_batch_whose_answer_is_lost_is_not_stored_again(
    sink: JetStreamSink, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends between the server's commit and its answer: what is there is found, whatever it was."""
    store = Stream.store

    async def deaf(self: Stream, *given: Any) -> int:
        await store(self, *given)
        raise ConnectionResetError("the answer was lost")

    monkeypatch.setattr(Stream, "store", deaf)
    group = [chunk([trade(n) for n in range(5)])]
    with pytest.raises(SinkError, match="the answer was lost"):
        await sink.write(group)
    monkeypatch.setattr(Stream, "store", store)
    await sink.write(group)
    assert await seqs(settings) == list(range(5))
    assert sink.repeats == 5


async def test_subject_whose_last_message_has_expired_goes_on(
    sink: JetStreamSink, settings: Settings, shared: EmbeddedNats
) -> None:
    """A quiet instrument's messages grow older than the stream keeps: the sink's memory of them is no error."""
    await sink.write([chunk([trade(0), trade(0, "OTHER")])])
    await api(shared.url, f"STREAM.PURGE.{settings.nats.stream}")
    await asyncio.sleep(2 * settings.nats.duplicate_window_s)
    await sink.write([chunk([trade(1), trade(1, "OTHER")])])
    assert await seqs(settings) == [1, 1]
    assert sink.changes == 1


async def test_stream_is_made_with_the_limits_of_the_settings(
    sink: JetStreamSink, settings: Settings, shared: EmbeddedNats
) -> None:
    config = (await api(shared.url, f"STREAM.INFO.{settings.nats.stream}"))["config"]
    assert config["subjects"] == [f"{settings.nats.subject_prefix}.>"]
    assert (config["retention"], config["discard"], config["storage"]) == ("limits", "old", "file")
    assert config["max_age"] == 24 * 3600 * 10**9
    assert config["max_bytes"] == 4096 << 20
    assert config["duplicate_window"] == 10**9
    assert config["allow_atomic"] is True


async def test_stream_of_another_program_is_given_what_it_lacks_and_nothing_more(
    settings: Settings, shared: EmbeddedNats, caplog: pytest.LogCaptureFixture
) -> None:
    """Its limits are its owner's; batches and a window long enough are what we need."""
    name = settings.nats.stream
    own = {"name": name, "subjects": [f"{name}.>"], "max_msgs": 77, "duplicate_window": 5 * 10**8}
    await api(shared.url, f"STREAM.CREATE.{name}", own)
    sink = JetStreamSink(settings)
    with caplog.at_level(logging.WARNING):
        await sink.open()
    await sink.close()
    config = (await api(shared.url, f"STREAM.INFO.{name}"))["config"]
    assert (config["max_msgs"], config["subjects"]) == (77, [f"{name}.>"])
    assert (config["allow_atomic"], config["duplicate_window"]) == (True, 10**9)
    assert f"changing the stream {name}" in caplog.text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"subjects": ["elsewhere.{name}.>"]}, "add {name}.events.> to it, or set NATS_STREAM to another name"),
        ({"subjects": ["{name}.>"], "no_ack": True}, "cannot be used (no_ack): set NATS_STREAM to another name"),
        ({"subjects": ["{name}.>"], "name": "other{name}"}, "set NATS_STREAM to its name, or NATS_SUBJECT_PREFIX"),
    ],
    ids=["subjects", "no acknowledgements", "overlap"],
)
async def test_stream_that_cannot_be_used_is_reported_with_what_to_do(
    settings: Settings, shared: EmbeddedNats, given: dict[str, Any], says: str
) -> None:
    name = settings.nats.stream
    wanted = {"name": name} | given
    wanted["name"] = str(wanted["name"]).format(name=name)
    wanted["subjects"] = [subject.format(name=name) for subject in given["subjects"]]
    assert "error" not in await api(shared.url, f"STREAM.CREATE.{wanted['name']}", wanted)
    sink = JetStreamSink(settings)
    with pytest.raises(SinkError) as raised:
        await sink.open()
    assert says.format(name=name) in str(raised.value)
    assert not raised.value.retriable


async def test_server_without_jetstream_is_reported_with_what_to_do() -> None:
    with nats_server(jetstream=False) as plain:
        sink = JetStreamSink(load(nats_url=plain.url, use_jetstream=True))
        with pytest.raises(SinkError) as raised:
            await sink.open()
    assert str(raised.value) == (
        f"nats cannot write {plain.url} (stream MDSTREAM): it has no JetStream: start it with `nats-server -js` "
        "(or `jetstream {}` in its configuration), or set USE_JETSTREAM=false"
    )
    assert not raised.value.retriable


async def test_server_without_room_for_the_stream_is_reported_with_what_to_do(settings: Settings) -> None:
    sink = JetStreamSink(changed(settings, stream_mb=1 << 30))
    with pytest.raises(SinkError, match="no room for a stream of 1073741824 MiB: set NATS_STREAM_MB to less"):
        await sink.open()


@pytest.mark.parametrize("use_jetstream", [True, False])
async def test_wrong_password_is_reported_without_it(use_jetstream: bool, caplog: pytest.LogCaptureFixture) -> None:
    with nats_server(settings='authorization { user: "md", password: "right" }') as guarded:
        place = f"127.0.0.1:{guarded.port}"
        url, good = f"nats://md:wrong-secret@{place}", f"nats://md:right@{place}"
        if use_jetstream:
            with pytest.raises(SinkError, match="it refuses the user, password or token of NATS_URL") as raised:
                await JetStreamSink(load(nats_url=url, use_jetstream=True)).open()
            assert "secret" not in f"{raised.value} {raised.value.__cause__}"
            assert not raised.value.retriable
        else:
            sink = CoreSink(load(nats_url=url))
            await sink.open()
            await sink.close()
            assert "it refuses the user, password or token of NATS_URL" in caplog.text
        sink_ok = JetStreamSink(load(nats_url=good, use_jetstream=True))
        await sink_ok.open()
        await sink_ok.close()
    assert "secret" not in caplog.text


async def test_server_that_is_away_is_tried_again_at_each_write(settings: Settings) -> None:
    port = free_port()
    place = f"nats://127.0.0.1:{port}"
    sink = JetStreamSink(changed(settings, url=SecretStr(place)))
    for attempt in (sink.open(), sink.write([chunk([trade(0)])])):
        with pytest.raises(SinkError, match=f"{place} .*no server listens there") as raised:
            await attempt
        assert raised.value.retriable
    server = EmbeddedNats(port)
    with server:
        await sink.write([chunk([trade(0)])])
        server.kill()
        with pytest.raises(SinkError):
            await sink.write([chunk([trade(1)])])
        server.start()
        await sink.write([chunk([trade(1)])])
        assert [m.event["seq"] for m in await held(place, settings.nats.stream)] == [0, 1]
        await sink.close()


async def test_switched_off_stream_sink_holds_and_says_why() -> None:
    sink = JetStreamSink(load(use_jetstream=True, nats_enabled=False))
    with pytest.raises(SinkError, match="NATS_ENABLED=false: events wait in Kafka until it is true") as raised:
        await sink.write([chunk([trade(0)])])
    assert raised.value.retriable


# -- the live view


async def test_live_view_reaches_subscribers_and_counts_missed_events(caplog: pytest.LogCaptureFixture) -> None:
    """One warning while there is no server; events pass; a subscriber sees what it missed by `seq`."""
    port = free_port()
    sink = CoreSink(load(nats_url=f"nats://127.0.0.1:{port}"))
    with caplog.at_level(logging.INFO):
        await sink.open()
        for n in range(3):
            assert await sink.write([chunk([trade(n)])]) == []
        assert sink.metrics() == {"published_total": 0, "missed_total": 3, "connected": 0.0}
        with EmbeddedNats(port) as server:
            async with await nats.connect(server.url) as client:
                heard = await client.subscribe("md.events.trade.*")
                await asyncio.to_thread(wait_until, lambda: sink.metrics()["connected"], what="a connection")
                await sink.write([chunk([trade(n) for n in range(3, 3_003)]), chunk([bar(0)], BARS)])
                found = [await heard.next_msg() for _ in range(3_000)]
            assert [m.data for m in found] == [events.encode(trade(n)) for n in range(3, 3_003)]
            assert sink.published == 3_001
    await sink.close()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "it is tried again, and events pass meanwhile" in warnings[0].getMessage()


async def test_switched_off_live_view_lets_events_pass(caplog: pytest.LogCaptureFixture) -> None:
    sink = CoreSink(load(nats_enabled=False))
    await sink.open()
    assert await sink.write([chunk([trade(0)])]) == []
    assert sink.missed == 1
    await sink.close()
    assert [record.getMessage() for record in caplog.records] == [
        "NATS_ENABLED=false: events pass, and nothing is published"
    ]
