"""A connection to TWS or IB Gateway by ib_async's client, and what the live feed and history share of it.

`ib_async.Client` calls back with all that the gateway sends. Its class `IB` above that would replace the venue's time
of a tick by our own, and turn errors into empty lists.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from ib_async import Client, Contract, ContractDetails

from mdstream.errors import LinkError, SettingsError
from mdstream.net.redact import redacted
from mdstream.venues.ib.feed import ADVICE, told

DEFAULT_CLIENT_ID = "17"
NAMED = 5
"""Contracts that the error for an ambiguous one names."""

logging.getLogger("ib_async.client").setLevel(logging.CRITICAL)  # a lost connection is told by its LinkError


class Address(NamedTuple):
    """A gateway, and the client id that is ours there."""

    host: str
    port: int
    client_id: int

    @classmethod
    def of(cls, url: str) -> Address:
        """The parts of ib://HOST:PORT[?clientId=NUMBER]. Raises SettingsError if `url` is none."""
        try:
            parts = urlsplit(url)
            host, port, query = parts.hostname, parts.port, parse_qs(parts.query, strict_parsing=bool(parts.query))
            client_id = int(query.pop("clientId", [DEFAULT_CLIENT_ID])[0])
        except ValueError:
            host = port = None
        if not url.startswith("ib://") or not host or not port or query or not 0 <= client_id < 2**31:
            raise SettingsError(f"{redacted(url)!r}: expected ib://HOST:PORT or ib://HOST:PORT?clientId=NUMBER")
        return cls(host, port, client_id)


class Gateway:
    """One connection to a gateway. `calls`: what to call with what it sends, by the names of IB's EWrapper; `error` is
    one of them. `lost` is called when the connection has ended, `unreadable` with what ib_async could not decode.

    `refusal`: the code of the last error before the connection was ready.
    """

    def __init__(
        self,
        address: Address,
        calls: Mapping[str, Callable[..., None]],
        *,
        lost: Callable[[LinkError], None],
        unreadable: Callable[[str], None],
    ) -> None:
        self._address, self._error, self._lost = address, calls["error"], lost
        self._reason = ""
        self._gone = asyncio.Event()
        self.refusal: int | None = None
        wrapper = {"connectAck": lambda: None, "connectionClosed": lambda: None, "setEventsDone": self._ended}
        self.client = Client(SimpleNamespace(**{**wrapper, **calls, "error": self._told}, defaultTimezone=UTC))
        self.client.decoder.logger = SimpleNamespace(exception=unreadable)  # type: ignore[assignment]

    async def open(self, limit_s: float) -> None:
        """Connect. Raises LinkError."""
        connecting = asyncio.ensure_future(self.client.connectAsync(*self._address, limit_s))
        gone = asyncio.ensure_future(self._gone.wait())  # the client goes on waiting for an answer
        try:
            await asyncio.wait((connecting, gone), return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise LinkError(self._reason or "the gateway closed the connection")
            connecting.result()
        except (OSError, TimeoutError) as error:
            raise LinkError(self._reason or told(502, str(error) or "no answer")) from None
        finally:
            connecting.cancel()
            gone.cancel()

    def _told(self, request: int, code: int, message: str, *more: Any) -> None:
        if not self.client.isReady():  # it ends the connection
            self.refusal, self._reason = code, told(code, message)
        self._error(request, code, message, *more)

    def _ended(self) -> None:
        self._gone.set()
        self._lost(LinkError(self._reason or NOT_CONNECTED))


NOT_CONNECTED = f"504 not connected: {ADVICE[504]}"


def the_only(symbol: str, found: Sequence[ContractDetails]) -> Contract | str:
    """The contract that a description has led to; if that is not one, a sentence that names some of them."""
    contracts = [details.contract for details in found if details.contract is not None]
    if len(contracts) == 1:
        return contracts[0]
    several = "; ".join(f"{c.localSymbol} {c.exchange} {c.currency} {c.conId}" for c in contracts[:NAMED])
    return f"{len(contracts)} contracts are called {symbol}: {several}"
