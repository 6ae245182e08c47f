"""One connection to a NATS server that takes whole protocol commands and reports failures in one way.

It never reconnects: nats-py would then send what was unsent, but not what was in flight, so later messages would
overtake lost ones. The caller opens a new connection and continues after the last acknowledged message.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from nats.aio.client import Client, RawCredentials
from nats.aio.transport import TcpTransport
from nats.errors import AuthorizationError, ConnectionClosedError, Error, NoRespondersError, NoServersError

from mdstream.config import Settings
from mdstream.errors import SettingsError
from mdstream.net.redact import redacted, scrubbed
from mdstream.net.tls import Named, client_context
from mdstream.net.tls import reason_of as tls_reason_of

log = logging.getLogger(__name__)

CONNECT_LIMIT_S = 5
ANSWER_LIMIT_S = 10
"""A server that takes longer to answer counts as down."""
PING_S, PINGS_UNANSWERED = 10, 2
"""A connection without traffic is found dead in 20 to 30 s; one with traffic by ANSWER_LIMIT_S."""
PENDING_BYTES = 4 << 20
"""Beyond this, a write waits until the socket has taken the rest."""
CLOSE_LIMIT_S = 1.0

SCHEMES = frozenset({"nats", "tls", "ws", "wss"})

Failure = (Error, OSError, TimeoutError)
"""What a failing connection raises. All of it may be temporary."""


Take = Callable[[bytes, bytes, bytes, bytes | None], None]
"""Takes a message: subject, reply, payload, headers."""


class Wire(Client):
    """A connection with three more methods: `send` commands, `tap` a subject, `drop` it."""

    def __init__(self, *, tls_only: bool = False, shows_certificate: bool = False) -> None:
        super().__init__()
        self._tls_only, self._shows_certificate = tls_only, shows_certificate
        self._takers: dict[int, Take] = {}
        self.why: Exception | None = None
        """The last thing that went wrong."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Handles the server's first message. If it does not ask for TLS, nats-py sends the password in the clear."""
        assert self._current_server is not None
        in_the_clear = initial_connection and self._current_server.uri.scheme != "wss"
        if in_the_clear and self._tls_only and not info.get("tls_required"):
            if not info.get("tls_available"):
                raise Error("it offers no TLS: NATS_URL, NATS_CA")
            info["tls_required"] = True  # the server would accept plain text
        if in_the_clear and info.get("tls_verify") and not self._shows_certificate:  # the server would only disconnect
            raise Error("it asks for a client certificate: NATS_CERT, NATS_KEY")
        await super()._process_info(info, initial_connection)

    async def send(self, commands: bytes) -> None:
        """Send whole commands. `publish` costs 5 to 10 us a message, joined ones a tenth of that.

        Raises ConnectionClosedError.
        """
        if not self.is_connected:
            raise ConnectionClosedError
        await self._send_command(commands)
        await self._flush_pending()
        await asyncio.sleep(0)  # another task writes: it starts while the caller builds the next commands

    async def tap(self, subject: str, take: Take, *, queue: str = "") -> None:
        """Subscribe; `take` is called with each message as it is read. Half of the cost of a subscription of nats-py,
        whose own queue drops what is above its limits."""
        subscription = await self.subscribe(subject, queue)
        self._takers[subscription._id] = take  # noqa: SLF001  there is no other name for it

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        take = self._takers.get(sid)
        if take is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            take(subject, reply, data, headers)

    async def drop(self) -> None:
        """Close it at once; unsent data is discarded."""
        self._pending, self._pending_data_size = [], 0
        if isinstance(self._transport, TcpTransport) and (writer := self._transport._bare_io_writer) is not None:  # noqa: SLF001  close() would wait until a peer that hangs has taken what is in the socket's buffer
            writer.transport.abort()
        with suppress(*Failure):
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await self.close()

    async def failed(self, error: Exception) -> None:
        """Keep the error, which nats-py would log with a traceback."""
        self.why = error


class Access(NamedTuple):
    """Credentials and certificates: the files that NATS_CREDS, NATS_CA, NATS_CERT and NATS_KEY name."""

    creds: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def tls(self) -> bool:
        return self.ca is not None or self.certificate is not None

    def options(self) -> dict[str, Any]:
        """Options for nats-py. Raises SettingsError if a file cannot be used."""
        if self.key is not None and self.certificate is None:
            raise SettingsError("NATS_KEY means nothing without NATS_CERT")
        found: dict[str, Any] = {}
        if self.tls:
            ca, certificate = Named("NATS_CA", self.ca), Named("NATS_CERT", self.certificate)
            found["tls"] = client_context(ca, certificate, Named("NATS_KEY", self.key))
        if self.creds is not None:
            text = Named("NATS_CREDS", self.creds).read()
            if not all(f"BEGIN {part}" in text for part in ("NATS USER JWT", "USER NKEY SEED")):
                raise SettingsError(f"NATS_CREDS={self.creds}: not a credentials file: expected a user's JWT and seed")
            found["user_credentials"] = RawCredentials(text)
        return found


async def connect(servers: list[str], access: Access, *, name: str) -> Wire:
    """A connection to one of the servers. Raises one of Failure."""
    tls_only = access.tls or any(urlsplit(url).scheme == "tls" for url in servers)
    wire = Wire(tls_only=tls_only, shows_certificate=access.certificate is not None)
    try:
        given = access.options()
    except SettingsError as error:  # valid at the start: a file may be half replaced
        raise Error(str(error)) from None
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S * len(servers)):
            await wire.connect(
                servers,
                name=name,
                error_cb=wire.failed,
                allow_reconnect=False,
                connect_timeout=CONNECT_LIMIT_S,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                ping_interval=PING_S,
                max_outstanding_pings=PINGS_UNANSWERED,
                pending_size=PENDING_BYTES,
                no_echo=True,
                **given,
            )
    except NoServersError:
        await wire.drop()
        raise wire.why or NoServersError from None
    except BaseException:
        await wire.drop()
        raise
    return wire


def servers_of(settings: Settings) -> list[str]:
    """The servers that NATS_URL names. Raises SettingsError, without a password in it."""
    servers = [url.strip() for url in settings.nats.url.get_secret_value().split(",") if url.strip()]
    if not servers:
        raise SettingsError("NATS_URL is empty: expected nats://HOST:4222, or NATS_ENABLED=false")
    for url in servers:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in SCHEMES and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            usable = False
        if not usable:
            raise SettingsError(
                f"NATS_URL={redacted(url)!r}: expected nats://USER:PASSWORD@HOST:4222 (or tls, ws, wss), several "
                "separated by commas"
            )
    return servers


def access_of(settings: Settings) -> Access:
    """The files that the settings name. Raises SettingsError if one cannot be used."""
    access = Access(settings.nats.creds, settings.nats.ca, settings.nats.cert, settings.nats.key)
    access.options()
    return access


def is_unauthorized(error: BaseException) -> bool:
    """Whether the server rejects our credentials; while connecting, nats-py passes on only the server's text."""
    return isinstance(error, AuthorizationError) or "authorization" in str(error).lower()


def reason_of(error: BaseException) -> str:
    """The failure in a few words."""
    if is_unauthorized(error):
        return "it refuses the user, password or token of NATS_URL, or the credentials of NATS_CREDS"
    if isinstance(error, ssl.SSLError):
        return "it " + tls_reason_of(
            error,
            ca="NATS_CA",
            name="NATS_URL",
            certificate="NATS_CERT, NATS_KEY",
            protocol="NATS_URL",
            shown=True,  # if the server asks for one and there is none, no handshake is tried
        )
    if isinstance(error, ConnectionRefusedError):
        return "no server listens there"
    if isinstance(error, NoRespondersError):
        return "JetStream or the stream is gone"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return scrubbed(str(error)).removeprefix("nats: ") or type(error).__name__
