"""The simulator's one port: a connection's first request decides its protocol.

A websocket handshake goes to a Client, with all data so far; any other request is answered here, one after the other on
the same connection. The websocket library's own parser takes no body, and control requests have one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from mdstream.simulator.rest import Answer

MAX_HEAD_BYTES = 8 * 1024
MAX_BODY_BYTES = 64 * 1024
IDLE_TIMEOUT_S = 30.0
"""A connection without a request in this time is closed."""


class Request(NamedTuple):
    """An HTTP request; `path` without its escapes, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""


class BadRequestError(Exception):
    """Bytes that are not a request that can be answered."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Head(NamedTuple):
    """A request as far as its headers; `size` in bytes of them, `body` in bytes of what follows."""

    request: Request
    size: int
    body: int


def parse_head(data: bytes) -> Head | None:
    """The head of the first request in `data`; None if it is incomplete. Raises BadRequestError."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > MAX_HEAD_BYTES:
            raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"no end in {MAX_HEAD_BYTES} bytes")
        return None
    first, *lines = data[:end].decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.1", "HTTP/1.0") or not parts[1].startswith("/"):
        raise BadRequestError(HTTPStatus.BAD_REQUEST, f"not a request: {first[:80]!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if parts[2] == "HTTP/1.0":
        headers.setdefault("connection", "close")
    url = urlsplit("//localhost" + parts[1])
    return Head(Request(parts[0], unquote(url.path), url.query, headers), end + 4, _body_size(headers))


def _body_size(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequestError(HTTPStatus.LENGTH_REQUIRED, "a body needs a Content-Length")
    text = headers.get("content-length", "0")
    if not text.isdecimal():
        raise BadRequestError(HTTPStatus.BAD_REQUEST, f"Content-Length is {text[:20]!r}")
    if int(text) > MAX_BODY_BYTES:
        raise BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body of more than {MAX_BODY_BYTES} bytes")
    return int(text)


def serialize(answer: Answer, *, keep: bool) -> bytes:
    """An answer as it goes over the wire."""
    lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    lines += [
        f"content-type: {answer.content_type}",
        f"content-length: {len(answer.body)}",
        f"connection: {'keep-alive' if keep else 'close'}",
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.body


def json_answer(status: HTTPStatus, content: Any) -> Answer:
    """JSON with a final line break, for terminals."""
    return Answer(status, (json.dumps(content) + "\n").encode())


class Door(asyncio.Protocol):
    """A connection. `answer` returns the answer to a request; None closes without one.

    `websocket` creates the protocol that takes over a websocket; `closed` is called when this one's part is over.
    """

    def __init__(
        self,
        answer: Callable[[Request], Answer | None],
        websocket: Callable[[], asyncio.Protocol],
        closed: Callable[[Door], None],
    ) -> None:
        self._answer, self._websocket, self._closed = answer, websocket, closed
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's derives from no class of asyncio's
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._data += data
        try:
            self._handle()
        except BadRequestError as error:
            self._write(json_answer(error.status, {"error": error.reason}), keep=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the end needs no reason
        self._stop_waiting()
        self._transport = None
        self._closed(self)

    def close(self) -> None:
        """Close the connection after pending writes."""
        if self._transport is not None:
            self._transport.close()

    def _handle(self) -> None:
        """Answer every complete request."""
        while self._transport is not None and not self._transport.is_closing() and (head := parse_head(self._data)):
            if "websocket" in head.request.headers.get("upgrade", "").lower():
                self._pass_on(self._transport)
                return
            size = head.size + head.body
            if len(self._data) < size:
                return
            request = head.request._replace(body=self._data[head.size : size])
            self._data = self._data[size:]
            answer = self._answer(request)
            if answer is None:
                self._transport.abort()
                return
            self._write(answer, keep=request.headers.get("connection", "").lower() != "close")

    def _pass_on(self, transport: asyncio.Transport) -> None:
        self._stop_waiting()
        self._transport = None
        protocol = self._websocket()
        self._closed(self)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(self._data)

    def _write(self, answer: Answer, *, keep: bool) -> None:
        if self._transport is None:
            return
        self._transport.write(serialize(answer, keep=keep))
        if keep:
            self._wait()
        else:
            self._data = b""
            self._transport.close()

    def _wait(self) -> None:
        self._stop_waiting()
        self._timer = asyncio.get_running_loop().call_later(IDLE_TIMEOUT_S, self.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
