"""DTC as a link: TCP, the encoding agreed upon, each message of data labelled with its symbol (messages.py).

    ENCODING_REQUEST ──> ENCODING_RESPONSE ──> the session's requests, in that encoding

The session writes its requests as JSON, whatever the encoding.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from mdstream.errors import FrameError, LinkError, SettingsError
from mdstream.ingest.links.link import OPEN_TIMEOUT_S
from mdstream.ingest.links.tcp import TcpLink
from mdstream.net.redact import redacted
from mdstream.venues.dtc import messages
from mdstream.venues.dtc.messages import BINARY, DATA_REQUEST, ENCODING_RESPONSE, JSON, Messages

ENCODINGS = {"json": JSON, "binary": BINARY}
AVAILABLE = 2
"""Of a market data feed."""
_taken: set[tuple[str, str]] = set()
"""Server and name of what open links have asked for: from two of them each trade would come twice, with two ids."""


class _Received(msgspec.Struct, rename="pascal"):
    """What the link has to know of a message."""

    type: int
    symbol_id: int = msgspec.field(name="SymbolID", default=0)
    status: int = 0
    resubscribe: int | bool = msgspec.field(name="ResubscribeWhenMarketDataFeedAvailable", default=0)


_received = msgspec.json.Decoder(_Received).decode


class DtcLink(TcpLink):
    """A connection to dtc://HOST:PORT[?encoding=json|binary]. Raises SettingsError if `url` is none."""

    def __init__(self, url: str) -> None:
        try:
            query = parse_qs(urlsplit(url).query, strict_parsing="?" in url)
            (self._wanted,) = (ENCODINGS[encoding] for encoding in query.pop("encoding", ["json"]))
            if query:
                url = ""  # no address
            super().__init__(url, Messages())
        except (ValueError, KeyError, SettingsError):
            expected = "dtc://HOST:PORT, dtc://HOST:PORT?encoding=json or dtc://HOST:PORT?encoding=binary"
            raise SettingsError(f"{redacted(url)!r}: expected {expected}") from None
        self._encoding = BINARY
        self._server = urlsplit(url).netloc
        self._own: set[tuple[str, str]] = set()
        self._refusal: LinkError | None = None
        self._names: dict[int, str] = {}
        self._asked: dict[int, str | bytes] = {}
        """By symbol id, which stays a symbol's for as long as there is the feed: data still come after a request to
        end them."""
        self._resubscribes = self._asks_again = False
        self._connection, self._count = f"{time.time_ns():x}", 0

    async def open(self) -> None:
        await super().open()
        request = {"ProtocolVersion": messages.VERSION, "Encoding": self._wanted, "ProtocolType": "DTC"}
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await super().send(messages.write({"Type": messages.ENCODING_REQUEST, **request}))
                answer = messages.read(await self._recv())
        except TimeoutError:
            raise LinkError("it does not answer the request for an encoding: is it a DTC server?") from None
        except FrameError as error:
            raise LinkError(f"not the answer to a request for an encoding: {error}") from None
        self._encoding = answer.get("Encoding", -1)
        if answer["Type"] != ENCODING_RESPONSE or self._encoding not in ENCODINGS.values():
            raise LinkError(f"it answers with encoding {self._encoding}: set Automatic, JSON or Binary there")

    async def send(self, frame: str | bytes) -> None:
        request: dict[str, Any] = json.loads(frame)
        if request["Type"] == DATA_REQUEST:
            await self._note(request, frame)
        await super().send(
            messages.write(request) if self._encoding == BINARY else json.dumps(request, separators=(",", ":")) + "\0"
        )

    async def close(self) -> None:
        self._free(set(self._own))
        await super().close()

    async def _note(self, request: dict[str, Any], frame: str | bytes) -> None:
        number, name = request["SymbolID"], ".".join(filter(None, (request["Symbol"], request["Exchange"])))
        self._names[number], key = name, (self._server, name)
        if request["RequestAction"] != 1:
            self._asked.pop(number, None)
            self._free({key})
            return
        if key in _taken - self._own:
            # The reader has to learn of it: an error of `send` is taken for one that it will meet, too.
            self._refusal = LinkError(f"another connection here has asked for {name}: its trades would come twice")
            await self.close()
            raise self._refusal
        self._asked[number] = frame
        self._own.add(key)
        _taken.add(key)

    def _free(self, keys: set[tuple[str, str]]) -> None:
        _taken.difference_update(keys & self._own)
        self._own -= keys

    async def _fill(self) -> None:
        try:
            await super()._fill()
        except LinkError as lost:
            raise self._refusal or lost from None
        self._frames = deque(part for message in self._frames for part in self._parts(message))
        if self._asks_again:
            self._asks_again = False
            for frame in list(self._asked.values()):
                await self.send(frame)

    def _parts(self, message: bytes) -> tuple[bytes, ...]:
        """A message with its label. A snapshot also without: that is the answer to its request."""
        try:
            received = _received(message) if messages.is_json(message) else _read(message)
        except (FrameError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return (message,)  # its reader says what is wrong
        match received.type:
            case messages.LOGON_RESPONSE:
                self._resubscribes = bool(received.resubscribe)
            case messages.FEED_STATUS:
                self._asks_again = self._resubscribes and received.status == AVAILABLE
        name = self._names.get(received.symbol_id)
        if received.type not in messages.DATA or name is None:
            return (message,)
        self._count += 1
        labelled = messages.labelled(message, name, f"{self._connection}-{self._count}")
        return (message, labelled) if received.type == messages.SNAPSHOT else (labelled,)


def _read(message: bytes) -> _Received:
    return msgspec.convert(messages.read(message), _Received)
