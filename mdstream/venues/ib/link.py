"""Interactive Brokers as a link: ib_async's client, whose calls become JSON frames (feed.py has their forms).

    command ──> contract details ──> exactly one? ──> tick-by-tick, market data ──> ack
                                       no ──> error 200

`ib_async.Client` calls back with all that the gateway sends. Its class `IB` above that would replace the venue's time
of a tick by our own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from types import SimpleNamespace
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec
from ib_async import Client, Contract, ContractDetails, TickAttribLast

from mdstream.errors import LinkError, SettingsError
from mdstream.ingest.links.link import OPEN_TIMEOUT_S
from mdstream.ingest.links.queue import QueueLink
from mdstream.net.redact import redacted
from mdstream.venues.ib.feed import ADVICE, DATA_LOST

DEFAULT_CLIENT_ID = "17"
NAMED = 5
"""Contracts that the error for an ambiguous one names."""
TICK_BY_TICK_INTERVAL_S = 16.0
"""Between two tick-by-tick requests for one instrument: the venue's 15 s, and some for the way there."""
_tick_by_tick_s: dict[tuple[str, int, int], float] = {}
"""When one was last made, by gateway and contract: the next connection has to know."""
BID, ASK = 0, 2
"""Where a side's price is in a top; its size follows."""
PRICES, SIZES = {1: BID, 2: ASK}, {0: BID, 3: ASK}
"""By the venue's tick type. Delayed data have types of their own, and are left out."""

logging.getLogger("ib_async.client").setLevel(logging.CRITICAL)  # a lost connection is told by its LinkError


class Command(msgspec.Struct):
    """What the session sends: `subscribe`, `unsubscribe` with the same fields, or `time` to be answered."""

    do: Literal["subscribe", "unsubscribe", "time"]
    symbol: str = ""
    channels: tuple[Literal["trade", "quote"], ...] = ()
    contract: dict[str, Any] = {}

    @property
    def names(self) -> list[str]:
        return [f"{channel} {self.symbol}" for channel in self.channels]


class Line:
    """A market data request: `head` begins its frames, `top` is a quote's latest state."""

    def __init__(self, channel: str, symbol: str, contract_id: int, connection: str) -> None:
        self.name = f"{channel} {symbol}"
        self.head = f'{{"ib":"{channel}","symbol":"{symbol}","conId":{contract_id},"connection":"{connection}","n":'
        self.top: list[float | None] = [None] * 4


class IbLink(QueueLink):
    """A connection to ib://HOST:PORT[?clientId=NUMBER]. Raises SettingsError if `url` is none."""

    def __init__(self, url: str) -> None:
        super().__init__()
        try:
            parts = urlsplit(url)
            host, port, query = parts.hostname, parts.port, parse_qs(parts.query, strict_parsing=bool(parts.query))
            self._client_id = int(query.pop("clientId", [DEFAULT_CLIENT_ID])[0])
        except ValueError:
            host = port = None
        if not host or not port or query or not 0 <= self._client_id < 2**31:
            raise SettingsError(f"{redacted(url)!r}: expected ib://HOST:PORT or ib://HOST:PORT?clientId=NUMBER")
        self._host, self._port = host, port
        self._connection = f"{time.time_ns() // 1_000_000:x}.{self._client_id}"
        self._frame_number = 0
        self._reason = ""
        self._gone = asyncio.Event()
        self._asked: dict[int, tuple[Command, list[ContractDetails]]] = {}
        self._found: list[tuple[Command, Contract]] = []
        self._lines: dict[int, Line] = {}
        self._moved: dict[Line, None] = {}
        self._client = Client(self._calls())
        self._client.decoder.logger = SimpleNamespace(exception=self._unreadable)  # type: ignore[assignment]

    def _calls(self) -> SimpleNamespace:
        """What the client calls, by the names of IB's EWrapper."""
        return SimpleNamespace(
            connectAck=lambda: None,
            setEventsDone=self._disconnected,
            connectionClosed=lambda: None,
            tcpDataProcessed=self._put_quotes,
            error=self._error,
            contractDetails=lambda request, details: self._asked[request][1].append(details),
            contractDetailsEnd=self._contract_found,
            tickByTickAllLast=self._trade,
            priceSizeTick=self._price,
            tickSize=self._size,
            currentTime=lambda now: self._put(ib="time", time=now),
        )

    # ------------------------------------------------------------------------------------------------------- the link

    async def open(self) -> None:
        connecting = asyncio.ensure_future(
            self._client.connectAsync(self._host, self._port, self._client_id, OPEN_TIMEOUT_S)
        )
        gone = asyncio.ensure_future(self._gone.wait())  # the client goes on waiting for an answer
        try:
            await asyncio.wait((connecting, gone), return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise LinkError(self._reason or "the gateway closed the connection")
            connecting.result()
        except (OSError, TimeoutError) as error:
            reason = self._reason or f"502 {error or 'no answer'}: {ADVICE[502]}"
            raise LinkError(reason) from None
        finally:
            connecting.cancel()
            gone.cancel()

    async def send(self, frame: str | bytes) -> None:
        await super().send(frame)
        command = msgspec.json.decode(frame, type=Command)
        try:
            match command.do:
                case "time":
                    self._client.reqCurrentTime()
                case "subscribe":
                    request = self._client.getReqId()
                    self._asked[request] = command, []
                    self._client.reqContractDetails(request, Contract(**command.contract))
                case "unsubscribe":
                    self._cancel(command)
        except ConnectionError:
            raise LinkError(f"504 not connected: {ADVICE[504]}") from None

    async def close(self) -> None:
        await super().close()
        self._client.disconnect()

    def _disconnected(self) -> None:
        self._gone.set()
        self.end(LinkError(self._reason or f"504 not connected: {ADVICE[504]}"))

    # ------------------------------------------------------------------------------------------- what the gateway says

    def _contract_found(self, request: int) -> None:
        command, found = self._asked.pop(request)
        contracts = [details.contract for details in found if details.contract is not None]
        if len(contracts) != 1:
            several = "; ".join(f"{c.localSymbol} {c.exchange} {c.currency} {c.conId}" for c in contracts[:NAMED])
            message = f"{len(contracts)} contracts are called {command.symbol}: {several}"
            self._put(ib="error", code=200, message=message, names=command.names)
            return
        self._found.append((command, contracts[0]))
        self._request_data(command, contracts[0])
        self._put(ib="ack", names=command.names)

    def _request_data(self, command: Command, contract: Contract) -> None:
        for channel in command.channels:
            request = self._client.getReqId()
            self._lines[request] = Line(channel, command.symbol, contract.conId, self._connection)
            if channel == "trade":
                loop, place = asyncio.get_running_loop(), (self._host, self._port, contract.conId)
                due_s = _tick_by_tick_s.get(place, -TICK_BY_TICK_INTERVAL_S) + TICK_BY_TICK_INTERVAL_S
                _tick_by_tick_s[place] = max(due_s, loop.time())
                loop.call_at(_tick_by_tick_s[place], self._request_trades, request, contract)
            else:
                self._client.reqMktData(request, contract, "", False, False, [])

    def _request_trades(self, request: int, contract: Contract) -> None:
        if request in self._lines and self._client.isReady():
            self._client.reqTickByTickData(request, contract, "AllLast", 0, False)

    def _cancel(self, command: Command) -> None:
        for asked, _ in self._asked.values():
            if asked.symbol == command.symbol:
                asked.channels = ()  # its contract is being looked up
        self._found = [(each, contract) for each, contract in self._found if each.symbol != command.symbol]
        for request in [request for request, line in self._lines.items() if line.name in command.names]:
            if self._lines.pop(request).name.startswith("trade"):
                self._client.cancelTickByTickData(request)
            else:
                self._client.cancelMktData(request)

    def _error(self, request: int, code: int, message: str, _json: str) -> None:
        names = []
        if request in self._asked:
            names = self._asked.pop(request)[0].names
        elif request in self._lines:
            names = [self._lines[request].name]
        elif not self._client.isReady():  # it ends the connection
            self._reason = f"{code} {message}: {ADVICE[code]}" if code in ADVICE else f"{code} {message}"
        self._put(ib="error", code=code, message=message, names=names)
        if code == DATA_LOST:
            self._lines.clear()
            for command, contract in self._found:
                self._request_data(command, contract)

    def _unreadable(self, text: str) -> None:
        self._put(ib="unreadable", text=text)

    def _trade(
        self, request: int, _type: int, seconds: int, price: float, size: float, about: TickAttribLast, *texts: str
    ) -> None:
        if request in self._lines:
            exchange, conditions = map(json.dumps, texts)
            past_limit, unreported = json.dumps(about.pastLimit), json.dumps(about.unreported)
            self._put_data(
                self._lines[request],
                f'"time":{seconds},"price":{price},"size":{size},"exchange":{exchange},"conditions":{conditions},'
                f'"pastLimit":{past_limit},"unreported":{unreported}',
            )

    def _price(self, request: int, tick_type: int, price: float, size: float) -> None:
        if tick_type in PRICES and request in self._lines:
            side, line = PRICES[tick_type], self._lines[request]
            none = not size and price in (-1, 0)
            self._set(line, side, [None, None] if none else [price, size])

    def _size(self, request: int, tick_type: int, size: float) -> None:
        if tick_type in SIZES and request in self._lines:
            side, line = SIZES[tick_type], self._lines[request]
            if line.top[side] is not None:
                self._set(line, side, [line.top[side], size])

    def _set(self, line: Line, side: int, values: list[float | None]) -> None:
        if line.top[side : side + 2] != values:
            line.top[side : side + 2] = values
            self._moved[line] = None

    def _put_quotes(self) -> None:
        """At the end of a packet: a side comes after the other, and a crossed top between them is no quote."""
        for line in self._moved:
            bid, bid_size, ask, ask_size = line.top
            if bid is None or ask is None or bid <= ask:
                self._put_data(
                    line,
                    f'"bid":{json.dumps(bid)},"bidSize":{json.dumps(bid_size)},'
                    f'"ask":{json.dumps(ask)},"askSize":{json.dumps(ask_size)}',
                )
        self._moved.clear()

    def _put_data(self, line: Line, rest: str) -> None:
        self._frame_number += 1
        self.put(f"{line.head}{self._frame_number},{rest}}}".encode())

    def _put(self, **fields: Any) -> None:
        self.put(msgspec.json.encode(fields))
