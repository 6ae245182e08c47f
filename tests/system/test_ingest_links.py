"""Links on real sockets: what arrives, what is sent, and that every end is a LinkError."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import pytest
from processes import free_port
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from mdstream.errors import HandshakeError, LinkError, OversizedError, SettingsError
from mdstream.ingest.links import link, new_link, websocket
from mdstream.ingest.links.queue import QueueLink
from mdstream.ingest.links.tcp import TcpLink
from mdstream.ingest.links.websocket import WebsocketLink
from mdstream.venues.framer import Framer, LengthPrefixed, Lines

pytestmark = pytest.mark.system

Streams = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LINES = Lines(b"\r\n")


@asynccontextmanager
async def tcp(serving: Streams, framer: Framer = LINES) -> AsyncIterator[TcpLink]:
    """An open link to a TCP server that treats its client with `serving`."""
    done = asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serving(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):  # the client may be gone
                await writer.wait_closed()
            done.set()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    made = new_link(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", framer)
    assert isinstance(made, TcpLink)
    try:
        await made.open()
        yield made
    finally:
        await made.close()
        server.close()
        await asyncio.wait_for(done.wait(), 60)


async def received(of: link.Link) -> tuple[list[bytes], LinkError]:
    """Every frame, and the error at the end."""
    frames: list[bytes] = []
    try:
        async with asyncio.timeout(60):
            with of.reading() as recv:
                while True:
                    frames.append(await recv())
    except LinkError as end:
        return frames, end


@pytest.mark.parametrize(
    ("framer", "frames", "stream"),
    [
        (LINES, [b"T,20260105 10:00:00", b"Q,AAPL,246.5500"], b"T,20260105 10:00:00\r\nQ,AAPL,246.5500\r\n"),
        (LengthPrefixed(), [b"\x04\x00\x03\x00", b"\x05\x00\x65\x00x"], b"\x04\x00\x03\x00\x05\x00\x65\x00x"),
    ],
)
async def test_tcp_frames_arrive_whole_however_they_are_sent(
    framer: Framer, frames: list[bytes], stream: bytes
) -> None:
    """A byte at a time, then all at once; after the last the server's end is a LinkError."""

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in stream:
            writer.write(bytes([byte]))
            await writer.drain()
        writer.write(stream * 1000)

    async with tcp(send, framer) as of:
        got, end = await received(of)
    assert got == frames * 1001
    assert str(end) == "the connection was closed"


async def test_tcp_sends_text_and_bytes_as_they_are() -> None:
    """A venue's requests bring their own ends of line, or their length."""
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await got.put(await reader.readexactly(11))

    async with tcp(take) as of:
        await of.send("wAAPL\r\n")
        await of.send(b"\x04\x00\x03\x00")
        assert await asyncio.wait_for(got.get(), 60) == b"wAAPL\r\n\x04\x00\x03\x00"


async def test_tcp_closed_by_us_gives_what_had_arrived() -> None:
    """A stopping ingestor writes every frame that the venue has delivered."""
    gone = asyncio.Event()

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"a\r\nb\r\nc\r\nd")
        await writer.drain()
        await reader.read()
        gone.set()

    async with tcp(send) as of:
        with of.reading() as recv:
            assert await asyncio.wait_for(recv(), 60) == b"a"
        await of.close()
        await of.close()
        got, _ = await received(of)
        await asyncio.wait_for(gone.wait(), 60)
    assert got == [b"b", b"c"]


async def test_tcp_is_closed_again_after_a_close_that_was_cancelled() -> None:
    """The server reads nothing, so the first close waits for what is still to be sent."""
    over = asyncio.Event()

    async def deaf(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await over.wait()

    async with tcp(deaf) as client:
        sending = asyncio.create_task(client.send(bytes(50_000_000)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()
        over.set()
        await client.close()
        with pytest.raises(LinkError):
            await sending


async def test_tcp_refuses_an_endless_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, whatever a server sends."""
    monkeypatch.setattr("mdstream.ingest.links.tcp.MAX_SIZE_BYTES", 100_000)

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"good\r\n" + b"x" * 500_000)
        await writer.drain()

    async with tcp(send) as of:
        got, end = await received(of)
    assert got == [b"good"]
    assert isinstance(end, OversizedError)


async def test_tcp_out_of_step_is_lost() -> None:
    """A length that cannot be leaves no way to find the next frame."""

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x00\x00\x00")

    async with tcp(send, LengthPrefixed()) as of:
        _, end = await received(of)
    assert "a frame that says it has 0 bytes" in str(end)


@pytest.mark.parametrize(("scheme", "framer"), [("ws", None), ("tcp", LINES)])
async def test_a_server_that_is_not_there_is_a_link_error(scheme: str, framer: Framer | None) -> None:
    """Whatever carries the frames; closing what never opened is fine."""
    made = new_link(f"{scheme}://127.0.0.1:{free_port()}", framer)
    with pytest.raises(LinkError, match=r"Connect call failed|refused"):
        await made.open()
    await made.close()


async def test_websocket_messages_are_frames_until_it_ends() -> None:
    """Text and binary alike, then a LinkError with the close code."""

    async def send(client: ServerConnection) -> None:
        assert await client.recv() == "hello"
        await client.send("text")
        await client.send(b"binary")
        await client.close(1001, "going away")

    async with serve(send, "127.0.0.1", 0) as server:
        made = new_link(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", None)
        assert isinstance(made, WebsocketLink)
        await made.open()
        await made.send("hello")
        got, end = await received(made)
        with pytest.raises(LinkError):
            await made.send("too late")
        await made.close()
    assert got == [b"text", b"binary"]
    assert "1001 (going away) going away" in str(end)


async def test_a_websocket_answers_a_ping_until_its_other_end_is_gone() -> None:
    """Without a frame, as at night: only that tells an idle connection from a dead one."""

    async def stay(client: ServerConnection) -> None:
        await client.wait_closed()

    async with serve(stay, "127.0.0.1", 0) as server:
        made = new_link(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", None)
        await made.open()
        assert await made.answers()
    assert not await made.answers()
    await made.close()


async def test_a_websocket_that_answers_no_ping_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network drops everything, and no error comes: the server accepts the connection, and reads no more."""
    monkeypatch.setattr(websocket, "PONG_TIMEOUT_S", 0.2)

    async def stop_reading(client: ServerConnection) -> None:
        client.transport.pause_reading()
        await stopped.wait()
        client.transport.abort()

    stopped = asyncio.Event()
    async with serve(stop_reading, "127.0.0.1", 0) as server:
        made = new_link(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", None)
        await made.open()
        await asyncio.sleep(0.2)
        assert not await made.answers()
        stopped.set()
        await made.close()


async def test_a_tcp_link_has_no_ping() -> None:
    """Its venues have heartbeats, at any hour."""

    async def stay(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with tcp(stay) as made:
        assert not await made.answers()


async def test_a_websocket_handshake_that_is_refused_has_its_status() -> None:
    """The session decides what follows from it."""

    def refuse(client: ServerConnection, _: Request) -> Response:
        return client.respond(HTTPStatus.UNAUTHORIZED, "no\n")

    async def never(_: ServerConnection) -> None:
        raise AssertionError("no websocket was made")

    async with serve(never, "127.0.0.1", 0, process_request=refuse) as server:
        made = new_link(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", None)
        with pytest.raises(HandshakeError) as refused:
            await made.open()
    assert refused.value.status == 401


async def test_queue_frames_arrive_in_order_and_before_its_end() -> None:
    """A client library puts them whenever it likes."""
    of = QueueLink()
    await of.open()
    waiting = asyncio.create_task(received(of))
    await asyncio.sleep(0)
    for frame in (b"a", b"b", b"c"):
        of.put(frame)
    of.end(LinkError("the gateway is down"))
    of.put(b"too late")
    got, end = await waiting
    assert (got, str(end)) == ([b"a", b"b", b"c"], "the gateway is down")
    with pytest.raises(LinkError, match="the gateway is down"):
        await of.send("x")


async def test_queue_is_lost_when_its_reader_falls_behind() -> None:
    """A library cannot be held back, and a frame left out in silence would be a hole that nobody sees."""
    of = QueueLink(ahead=3)
    for number in range(5):
        of.put(b"%d" % number)
    got, end = await received(of)
    assert (got, str(end)) == ([b"0", b"1", b"2"], "the reader is 3 frames behind")


async def test_queue_takes_no_frame_above_the_limit() -> None:
    """It would not fit a batch of Kafka."""
    of = QueueLink()
    of.put(b"x" * (link.MAX_SIZE_BYTES + 1))
    _, end = await received(of)
    assert isinstance(end, OversizedError)


@pytest.mark.parametrize(
    ("url", "framer", "expected"),
    [
        ("tcp://h:1", None, "begins with ws:// or wss://"),
        ("ws://h:1", LINES, "begins with tcp://"),
        ("tcp://h", LINES, "expected tcp://HOST:PORT"),
        ("tcp://h:99999", LINES, "expected tcp://HOST:PORT"),
        ("tcp://user:secret@h?k=secret", LINES, "expected tcp://HOST:PORT"),
    ],
)
def test_an_address_of_another_scheme_is_refused_without_its_secrets(
    url: str, framer: Framer | None, expected: str
) -> None:
    """The provider declares which it can read."""
    with pytest.raises(SettingsError, match=expected) as caught:
        new_link(url, framer)
    assert "secret" not in str(caught.value)
