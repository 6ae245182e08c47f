"""A JetStream stream: creates or checks it, fetches last messages, stores batches and single messages.

All requests go to the stream's leader, so an answer is what the stream holds, not what a replica knows of it.
Source: https://docs.nats.io/reference/reference-protocols/nats_api_reference (read 2026-11).
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from mdstream.config import Settings
from mdstream.sinks import nats_protocol
from mdstream.sinks.nats_protocol import Place
from mdstream.sinks.nats_wire import ANSWER_LIMIT_S, Wire

log = logging.getLogger(__name__)

MIN_VERSION = (2, 12, 1)
"""The first server that takes batches with message ids."""
BATCH_MESSAGES = 1_000
"""A server's limit for one batch, unless its operator lowered it."""
S = 1_000_000_000
MIB = 1 << 20
MAX_REPLIES, MAX_REPLY_BYTES = 1_024, 1 << 20
"""Limit of unread answers: two per batch, one batch at a time. More are a fault, and are dropped with an error."""

NOT_FOUND, NO_MESSAGE = 10059, 10037
OVERLAP, NO_ROOM = 10065, 10047
NOT_ENABLED = frozenset({10039, 10076})
CHANGED = frozenset({10071, 10164, 10201})
"""The stream is not as expected: a subject's last message has another number, or a message id is known."""


class RefusedError(Exception):
    """The server refused a request. `code` is its error code, 0 if it gives none."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(code, description)
        self.code, self.description = code, description

    def __str__(self) -> str:
        return self.description


class UnusableError(Exception):
    """A stream or server that is unusable until an operator fixes it; the text says how."""


class Last(NamedTuple):
    """The last message of a subject. `at` is its number in the stream, 0 if there is none; `seq` its event's."""

    at: int = 0
    seq: int = -1
    place: Place | None = None


NOTHING = Last()


class _Seq(msgspec.Struct):
    seq: int = -1


class Stream:
    """The stream `settings.nats.stream`, over one connection; `more` is for its configuration.

    Every failure raises one of nats_wire.Failure or RefusedError, and makes this object unusable.
    """

    def __init__(self, wire: Wire, settings: Settings, more: dict[str, object] | None = None) -> None:
        self._wire, self._settings = wire, settings
        self._config = _config(settings) | (more or {})
        self._name, self._prefix = settings.nats.stream, settings.nats.subject_prefix
        self._inbox = wire.new_inbox()
        self._batches = 0
        self._answer: asyncio.Future[Msg] | None = None
        self.max_bytes = wire.max_payload
        """Limit of a message's headers and payload together."""

    async def open(self) -> None:
        """Create the stream, or check that it fits. Raises UnusableError."""
        self._check_version()
        try:
            config = await self._found_or_made()
        except NoRespondersError as error:
            raise UnusableError(f"it has no JetStream: {_SWITCH_ON}") from error
        except RefusedError as error:
            if error.code in NOT_ENABLED:
                raise UnusableError(f"this account has no JetStream: {_SWITCH_ON}") from error
            if error.code == OVERLAP:
                raise UnusableError(
                    f"{self._prefix}.> belongs to another stream: set NATS_STREAM to its name, or NATS_SUBJECT_PREFIX"
                ) from error
            if error.code == NO_ROOM:
                raise UnusableError(
                    f"it has no room for a stream of {self._settings.nats.stream_mb} MiB: set NATS_STREAM_MB to less"
                ) from error
            raise
        most = config.get("max_msg_size", -1)
        self.max_bytes = min(self.max_bytes, most) if most >= 0 else self.max_bytes
        await self._wire.subscribe(
            f"{self._inbox}.*",
            cb=self._answered,
            pending_msgs_limit=MAX_REPLIES,
            pending_bytes_limit=MAX_REPLY_BYTES,
        )

    def _check_version(self) -> None:
        found = self._wire.connected_server_version
        if (found.major, found.minor, found.patch) < MIN_VERSION:
            raise UnusableError(
                f"it is of version {found.major}.{found.minor}.{found.patch}, which stores no batches: upgrade it to "
                f"{'.'.join(map(str, MIN_VERSION))} or newer, or set USE_JETSTREAM=false"
            )

    # -- the stream itself

    async def _found_or_made(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = (await self._request("STREAM.INFO"))["config"]
        except RefusedError as error:
            if error.code != NOT_FOUND:
                raise
            log.info("creating the stream %s for %s.>", self._name, self._prefix)
            made: dict[str, Any] = (await self._request("STREAM.CREATE", self._config))["config"]
            return made
        self._check(found)
        lacking = self._lacking(found)
        if lacking:
            log.warning("changing the stream %s: %s", self._name, msgspec.json.encode(lacking).decode())
            await self._request("STREAM.UPDATE", found | lacking)
        return found

    def _check(self, config: dict[str, Any]) -> None:
        subjects = config.get("subjects") or []
        if not nats_protocol.covers(subjects, self._prefix):
            raise UnusableError(
                f"the stream {self._name} is for {', '.join(subjects) or 'no subjects'}: add {self._prefix}.> to it, "
                "or set NATS_STREAM to another name"
            )
        for what in ("sealed", "no_ack", "mirror"):
            if config.get(what):
                raise UnusableError(f"the stream {self._name} cannot be used ({what}): set NATS_STREAM to another name")

    def _lacking(self, config: dict[str, Any]) -> dict[str, Any]:
        """Settings to add so that our guarantees hold. The limits stay as its creator set them."""
        needed = ("allow_atomic", "allow_rollup_hdrs")
        lacking: dict[str, Any] = {name: True for name in needed if self._config.get(name) and not config.get(name)}
        wanted = _window_ns(self._settings, config.get("max_age", 0))
        if config.get("duplicate_window", 0) < wanted:
            lacking["duplicate_window"] = wanted
        return lacking

    async def _request(self, what: str, body: object = None) -> dict[str, Any]:
        return await api_request(self._wire, f"{what}.{self._name}", body)

    # -- its messages

    async def last(self, tail: str) -> Last:
        """The last message of a subject."""
        try:
            answer = await self._request("STREAM.MSG.GET", {"last_by_subj": f"{self._prefix}.{tail}"})
        except RefusedError as error:
            if error.code == NO_MESSAGE:
                return NOTHING
            raise
        message = answer["message"]
        seq = -1
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # another writer's message, without a seq
            seq = msgspec.json.decode(b64decode(message.get("data", "")), type=_Seq).seq
        return Last(message["seq"], seq, nats_protocol.place_in(b64decode(message.get("hdrs", ""))))

    async def store(
        self, messages: Sequence[tuple[str, int | None, bytes]], expected: dict[str, int], *, only_last: str = ""
    ) -> int:
        """Store all messages, or none. Returns the number of the last one; the others have the numbers before it.

        `expected`, `only_last` as in nats_protocol.batch; raises RefusedError with a code of CHANGED if it does not
        hold.
        """
        self._batches += 1
        self._answer = asyncio.get_running_loop().create_future()
        reply = f"{self._inbox}.{self._batches}"
        commands = nats_protocol.batch(
            messages,
            prefix=self._prefix,
            batch_id=f"{self._inbox.rpartition('.')[2]}{self._batches}",
            reply=reply,
            expected=expected,
            only_last=only_last,
        )
        async with asyncio.timeout(ANSWER_LIMIT_S):
            await self._wire.send(commands)
            answer = _checked(await self._answer)
        return int(answer["seq"])

    async def _answered(self, message: Msg) -> None:
        staged = not message.data and not message.headers
        late = not message.subject.endswith(f".{self._batches}")
        if self._answer is not None and not self._answer.done() and not staged and not late:
            self._answer.set_result(message)

    async def store_one(self, tail: str, message_id: str, place: Place, value: bytes) -> bool:
        """Store one message unless its id is known. Returns whether it is new."""
        headers = {nats_protocol.MESSAGE_ID: message_id, nats_protocol.PLACE: str(place)}
        subject = f"{self._prefix}.{tail}"
        answer = await self._wire.request(subject, value, timeout=ANSWER_LIMIT_S, headers=headers)
        return not _checked(answer).get("duplicate", False)


_SWITCH_ON = "start it with `nats-server -js` (or `jetstream {}` in its configuration), or set USE_JETSTREAM=false"


async def api_request(wire: Wire, what: str, body: object = None) -> dict[str, Any]:
    """The server's answer to a JetStream API request. Raises RefusedError, one of nats_wire.Failure."""
    request = b"" if body is None else msgspec.json.encode(body)
    return _checked(await wire.request(f"$JS.API.{what}", request, timeout=ANSWER_LIMIT_S))


def _checked(answer: Msg) -> dict[str, Any]:
    """The decoded answer. Raises RefusedError, NoRespondersError."""
    if not answer.data:
        raise NoRespondersError
    content: dict[str, Any] = msgspec.json.decode(answer.data)
    if "error" in content:
        error = content["error"]
        raise RefusedError(error.get("err_code", 0), error.get("description", "no reason given"))
    return content


def _config(settings: Settings) -> dict[str, Any]:
    """The configuration of a new stream; `more` of Stream's overrides it."""
    age = int(settings.nats.stream_hours * 3600 * S)
    return {
        "name": settings.nats.stream,
        "description": f"mdstream: {settings.nats.subject_prefix}.>",
        "subjects": [f"{settings.nats.subject_prefix}.>"],
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "max_age": age,
        "max_bytes": settings.nats.stream_mb * MIB or -1,
        "num_replicas": settings.nats.stream_replicas,
        "duplicate_window": _window_ns(settings, age),
        "allow_atomic": True,
        "allow_direct": True,
    }


def _window_ns(settings: Settings, max_age: int) -> int:
    """The duplicate window: no longer than messages are kept, or the server refuses it."""
    wanted = int(settings.nats.duplicate_window_s * S)
    return min(wanted, max_age) if max_age else wanted
