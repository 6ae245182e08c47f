"""Interactive Brokers as a link: ib_async's client, whose calls become JSON frames (feed.py has their forms).

    command ──> contract details ──> exactly one? ──> tick-by-tick, market data ──> ack
                                       no ──> error 200

History has a connection of its own (client.py).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from ib_async import Contract, ContractDetails, TickAttribLast

from mdstream.errors import LinkError
from mdstream.ingest.links.link import OPEN_TIMEOUT_S
from mdstream.ingest.links.queue import QueueLink
from mdstream.venues.ib.feed import DATA_LOST
from mdstream.venues.ib.gateway import NOT_CONNECTED, Address, Gateway, the_only

TICK_BY_TICK_INTERVAL_S = 16.0
"""Between two tick-by-tick requests for one instrument: the venue's 15 s, and some for the way there."""
_tick_by_tick_s: dict[tuple[str, int, int], float] = {}
"""When one was last made, by gateway and contract: the next connection has to know."""
MOST_LATE = 1_000
"""Of a line, each of another content; those beyond them have a connection's ids."""
BID, ASK = 0, 2
"""Where a side's price is in a top; its size follows."""
PRICES, SIZES = {1: BID, 2: ASK}, {0: BID, 3: ASK}
"""By the venue's tick type. Delayed data have types of their own, and are left out."""


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
    """A market data request: `head` begins its frames, `top` is a quote's latest state, `first` the time of its first
    trade."""

    def __init__(self, channel: str, symbol: str, contract_id: int, connection: str) -> None:
        self.name = f"{channel} {symbol}"
        self.head = f'{{"ib":"{channel}","symbol":"{symbol}","conId":{contract_id},"connection":"{connection}","n":'
        self.top: list[float | None] = [None] * 4
        self.first: int | None = None
        self._late: Counter[tuple[object, ...]] = Counter()

    def late(self, seconds: int, *content: object) -> int:
        """The number of a trade from before the line's first one, among those of the same content; 0 for others."""
        if self.first is None:
            self.first = seconds
        if seconds >= self.first or len(self._late) >= MOST_LATE:
            return 0
        self._late[seconds, *content] += 1
        return self._late[seconds, *content]


class IbLink(QueueLink):
    """A connection to ib://HOST:PORT[?clientId=NUMBER]. Raises SettingsError if `url` is none."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._address = Address.of(url)
        self._connection = f"{time.time_ns() // 1_000_000:x}.{self._address.client_id}"
        self._frame_number = 0
        self._asked: dict[int, tuple[Command, list[ContractDetails]]] = {}
        self._found: list[tuple[Command, Contract]] = []
        self._lines: dict[int, Line] = {}
        self._moved: dict[Line, None] = {}
        calls: dict[str, Callable[..., None]] = {
            "tcpDataProcessed": self._put_quotes,
            "error": self._error,
            "contractDetails": lambda request, details: self._asked[request][1].append(details),
            "contractDetailsEnd": self._contract_found,
            "tickByTickAllLast": self._trade,
            "priceSizeTick": self._price,
            "tickSize": self._size,
            "currentTime": lambda now: self._put(ib="time", time=now),
        }
        self._gateway = Gateway(self._address, calls, lost=self.end, unreadable=self._unreadable)
        self._client = self._gateway.client

    # ------------------------------------------------------------------------------------------------------- the link

    async def open(self) -> None:
        await self._gateway.open(OPEN_TIMEOUT_S)

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
            raise LinkError(NOT_CONNECTED) from None

    async def close(self) -> None:
        await super().close()
        self._client.disconnect()

    # ------------------------------------------------------------------------------------------- what the gateway says

    def _contract_found(self, request: int) -> None:
        command, found = self._asked.pop(request)
        contract = the_only(command.symbol, found)
        if isinstance(contract, str):
            self._put(ib="error", code=200, message=contract, names=command.names)
            return
        self._found.append((command, contract))
        self._request_data(command, contract)
        self._put(ib="ack", names=command.names)

    def _request_data(self, command: Command, contract: Contract) -> None:
        for channel in command.channels:
            request = self._client.getReqId()
            self._lines[request] = Line(channel, command.symbol, contract.conId, self._connection)
            if channel == "trade":
                loop, place = asyncio.get_running_loop(), (*self._address[:2], contract.conId)
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
            line = self._lines[request]
            late = line.late(seconds, price, size, *texts)
            exchange, conditions = map(json.dumps, texts)
            past_limit, unreported = json.dumps(about.pastLimit), json.dumps(about.unreported)
            self._put_data(
                line,
                f'"time":{seconds},"price":{price},"size":{size},"exchange":{exchange},"conditions":{conditions},'
                f'"pastLimit":{past_limit},"unreported":{unreported}' + (f',"late":{late}' if late else ""),
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
