"""A venue that sends as fast as it is read: `python -m benchmarks.blast PORT FRAMES SYMBOLS`, in its own process.

The websocket frames are made beforehand and written many at a time to the bare transport, so that the server takes
almost no CPU. Each client gets FRAMES frames, and then silence.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from typing import cast

import uvloop
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from benchmarks import frames

DIFFERENT = 20_000
AT_ONCE = 500
"""Frames per write: some 100 KiB."""

_KEY = re.compile(rb"^sec-websocket-key:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_ANSWER = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n"
)


def block(first: int, count: int, symbols: Sequence[str]) -> bytes:
    """`count` frames as they go over the wire, unmasked as a server's are."""
    texts = (frames.frame(number, symbols)[1] for number in range(first, first + count))
    return b"".join(Frame(Opcode.TEXT, text).serialize(mask=False) for text in texts)


class Blast(asyncio.Protocol):
    """One client: the handshake, then blocks for as long as its socket takes them. Its messages are ignored."""

    def __init__(self, blocks: list[bytes], total: int, symbols: Sequence[str]) -> None:
        self._blocks, self._total, self._symbols = blocks, total, symbols
        self._head = b""
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only

    def data_received(self, data: bytes) -> None:
        if self._task is not None:
            return
        self._head += data
        if b"\r\n\r\n" not in self._head:
            return
        key = _KEY.search(self._head)
        if key is None:
            self._transport.close()
            return
        self._transport.write(_ANSWER.format(accept_key(key[1].decode())).encode())
        self._task = asyncio.create_task(self._send())

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def connection_lost(self, _error: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _send(self) -> None:
        for number in range(-(-self._total // AT_ONCE)):
            first = number * AT_ONCE
            left = self._total - first
            await self._may_write.wait()
            whole = self._blocks[number % len(self._blocks)]
            self._transport.write(whole if left >= AT_ONCE else block(first % DIFFERENT, left, self._symbols))


async def main(port: int, total: int, symbols: Sequence[str]) -> None:
    blocks = [block(first, AT_ONCE, symbols) for first in range(0, DIFFERENT, AT_ONCE)]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Blast(blocks, total, symbols), "127.0.0.1", port)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), frames.symbols_of(int(sys.argv[3]))))
