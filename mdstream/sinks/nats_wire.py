"""One connection to a NATS server that takes whole protocol commands, and says in one way what went wrong.

It is never renewed: nats-py would send after a reconnect what it had not sent before, but not what was on its way, so
that later messages overtake lost ones. Whoever uses it opens another one and begins where the server's answers ended.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from nats.aio.client import Client, RawCredentials
from nats.aio.transport import TcpTransport
from nats.errors import AuthorizationError, ConnectionClosedError, Error, NoRespondersError, NoServersError

from mdstream.config import Settings
from mdstream.errors import SettingsError
from mdstream.redact import redacted, scrubbed
from mdstream.tls import Named, client_context
from mdstream.tls import reason_of as tls_reason_of

log = logging.getLogger(__name__)

CONNECT_LIMIT_S = 5
ANSWER_LIMIT_S = 10
"""A server that takes longer to answer counts as gone."""
PING_S, PINGS_UNANSWERED = 10, 2
"""A connection without traffic is found dead in 20 to 30 s; one with traffic by ANSWER_LIMIT_S."""
PENDING_BYTES = 4 << 20
"""What is written beyond it waits until the socket has taken the rest."""
CLOSE_LIMIT_S = 1.0

SCHEMES = frozenset({"nats", "tls", "ws", "wss"})

Failure = (Error, OSError, TimeoutError)
"""What a connection that fails raises. All of it may pass."""


class Wire(Client):
    """A connection with two more verbs: `send` commands, `drop` it."""

    def __init__(self, *, tls_only: bool = False, shows_certificate: bool = False) -> None:
        super().__init__()
        self._tls_only, self._shows_certificate = tls_only, shows_certificate
        self.why: Exception | None = None
        """The last thing that went wrong."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """What the server says first. Where it does not ask for TLS, nats-py shows it the password in the clear."""
        assert self._current_server is not None
        in_the_clear = initial_connection and self._current_server.uri.scheme != "wss"
        if in_the_clear and self._tls_only and not info.get("tls_required"):
            if not info.get("tls_available"):
                raise Error("it offers no TLS: NATS_URL, NATS_CA")
            info["tls_required"] = True  # it would do without
        if in_the_clear and info.get("tls_verify") and not self._shows_certificate:  # it would only cut us off
            raise Error("it asks for a certificate of ours: NATS_CERT, NATS_KEY")
        await super()._process_info(info, initial_connection)

    async def send(self, commands: bytes) -> None:
        """Hand over whole commands. `publish` costs 5 to 10 us a message, joined ones a tenth of that.

        Raises ConnectionClosedError.
        """
        if not self.is_connected:
            raise ConnectionClosedError
        await self._send_command(commands)
        await self._flush_pending()
        await asyncio.sleep(0)  # another task writes: it begins while the caller makes the next ones

    async def drop(self) -> None:
        """End it at once: what has not been sent never is."""
        self._pending, self._pending_data_size = [], 0
        if isinstance(self._transport, TcpTransport) and (writer := self._transport._bare_io_writer) is not None:  # noqa: SLF001  close() would wait until a peer that hangs has taken what is in the socket's buffer
            writer.transport.abort()
        with suppress(*Failure):
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await self.close()

    async def failed(self, error: Exception) -> None:
        """Keep what nats-py would log with a traceback."""
        self.why = error


class Access(NamedTuple):
    """How a server knows us, and we it: the files that NATS_CREDS, NATS_CA, NATS_CERT and NATS_KEY name."""

    creds: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def tls(self) -> bool:
        return self.ca is not None or self.certificate is not None

    def options(self) -> dict[str, Any]:
        """What nats-py is told. Raises SettingsError where a file cannot be used."""
        if self.key is not None and self.certificate is None:
            raise SettingsError("NATS_KEY means nothing without NATS_CERT")
        found: dict[str, Any] = {}
        if self.tls:
            ca, certificate = Named("NATS_CA", self.ca), Named("NATS_CERT", self.certificate)
            found["tls"] = client_context(ca, certificate, Named("NATS_KEY", self.key))
        if self.creds is not None:
            text = Named("NATS_CREDS", self.creds).read()
            if not all(f"BEGIN {part}" in text for part in ("NATS USER JWT", "USER NKEY SEED")):
                raise SettingsError(f"NATS_CREDS={self.creds}: no credentials, it wants a user's JWT and seed")
            found["user_credentials"] = RawCredentials(text)
        return found


async def connect(servers: list[str], access: Access, *, name: str) -> Wire:
    """A connection to one of the servers. Raises one of Failure."""
    tls_only = access.tls or any(urlsplit(url).scheme == "tls" for url in servers)
    wire = Wire(tls_only=tls_only, shows_certificate=access.certificate is not None)
    try:
        given = access.options()
    except SettingsError as error:  # it was good when we started: a file is being replaced, perhaps
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
    servers = [url.strip() for url in settings.nats_url.get_secret_value().split(",") if url.strip()]
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
    """What the settings say. Raises SettingsError where a file cannot be used."""
    access = Access(settings.nats_creds, settings.nats_ca, settings.nats_cert, settings.nats_key)
    access.options()
    return access


def is_unauthorized(error: BaseException) -> bool:
    """Whether the server does not know us; while connecting, nats-py gives no more than the server's words."""
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
            shown=True,  # without one it is not tried where one is asked for
        )
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, NoRespondersError):
        return "JetStream or the stream is gone"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return scrubbed(str(error)).removeprefix("nats: ") or type(error).__name__
