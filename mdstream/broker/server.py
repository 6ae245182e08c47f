"""The broker's socket: requests come in frames of a length and a header, and are answered in order."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO

from aiokafka.errors import UnsupportedVersionError
from aiokafka.protocol.admin import ApiVersionRequest_v0
from aiokafka.protocol.types import String

from mdstream.broker.api import STRUCTS, VERSIONS, Api
from mdstream.broker.store import Store

HOST = "127.0.0.1"
MAX_REQUEST_BYTES = 128 << 20
TICK_S, EXPIRE_S = 0.1, 1.0
API_VERSIONS = ApiVersionRequest_v0.API_KEY

_LENGTH, _HEAD, _ID = struct.Struct(">i"), struct.Struct(">hhi"), struct.Struct(">i")
_CLIENT = String("utf-8")


class UnknownRequestError(Exception):
    """A client's frame is not a request, or not a supported one: the connection is closed, as Kafka does."""


@asynccontextmanager
async def serving(store: Store, port: int, *, advertise: int) -> AsyncIterator[None]:
    """Answer clients while the block runs. Raises OSError if the port is not available."""
    api = Api(store, HOST, advertise)
    open_ones: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_ones.add(task)
        try:
            await _converse(api, reader, writer)
        finally:
            open_ones.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, HOST, port, limit=1 << 20, backlog=512)
    beside = [asyncio.create_task(_every(TICK_S, api.tick)), asyncio.create_task(_every(EXPIRE_S, store.expire))]
    try:
        yield
    finally:
        server.close()
        tasks = [*open_ones, *beside]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _every(seconds: float, do: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        do()


async def _converse(api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one client until it leaves or sends an unknown request."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, UnknownRequestError):
        while True:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            if not _HEAD.size <= length <= MAX_REQUEST_BYTES:
                return
            answer = await _answer(api, await reader.readexactly(length))
            if answer is not None:
                writer.writelines((_LENGTH.pack(len(answer)), answer))
                await writer.drain()


async def _answer(api: Api, frame: bytes) -> bytes | None:
    """The answer with its header. Raises UnknownRequestError."""
    key, version, number = _HEAD.unpack_from(frame)
    request_type = STRUCTS.get((key, version))
    if request_type is None:
        if key != API_VERSIONS:
            raise UnknownRequestError
        # A request in a newer version is answered in the oldest one with the versions there are (KIP-511).
        schema = ApiVersionRequest_v0.RESPONSE_TYPE.SCHEMA
        return _ID.pack(number) + bytes(schema.encode([UnsupportedVersionError.errno, VERSIONS]))
    rest = BytesIO(frame)
    rest.seek(_HEAD.size)
    try:
        client, request = _CLIENT.decode(rest) or "", request_type.decode(rest)
    except (ValueError, struct.error) as error:
        raise UnknownRequestError from error
    answer = await api.answer(request, client)
    return None if answer is None else _ID.pack(number) + answer
