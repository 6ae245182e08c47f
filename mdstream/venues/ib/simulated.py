"""A TWS or IB Gateway as the simulator serves it: the API's socket, server version 178.

Data: tick-by-tick Last, AllLast and BidAsk; market data (bid and ask); past bars and ticks (simulated_history.py).
Contract details, the time, farm notices, and empty answers to what ib_async asks for when it connects. No orders.
Source: ib_async 2.1's client and decoder, IBKR's message codes (read 2026-11). Our choices where they are silent: a
contract's id, made from its name; stocks at LSE are listed in two currencies, so without one they are ambiguous; there
are data of SMART, futures exchanges and IDEALPRO alone, elsewhere the user has no subscription; a request beyond 50 a
second is refused by error 100 and not done; a second request for the same data by error 322, one for tick-by-tick data
of an instrument within 15 s by error 420; the client that does not read is cut off.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Any, NamedTuple
from zlib import crc32

from mdstream.simulator.actions import Action, Close, Send
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import Channel, Kind, Listing, top_now
from mdstream.simulator.market import SECOND_NS, Market, Order, Top
from mdstream.simulator.requests import RefusedError
from mdstream.venues.framer import LengthPrefixed
from mdstream.venues.ib.feed import FUTURES_MARKETS, MONTHS, contract_of
from mdstream.venues.ib.simulated_history import Asked, AskedTicks, Pace, bars, fills, is_small

VERSION = 178
ACCOUNT = "DU1234567"
LINES, TICK_BY_TICK_LINES = 100, 3
"""Of one user, in all connections together."""
INTERVAL_NS = 15 * SECOND_NS
"""Between tick-by-tick requests for one instrument."""
TWO_CURRENCIES = frozenset({"LSE"})
SUBSCRIBED = FUTURES_MARKETS | {"SMART", "IDEALPRO"}
FARMS = {
    2104: "Market data farm connection is OK:usfarm",
    2106: "HMDS data farm connection is OK:ushmds",
    2158: "Sec-def data farm connection is OK:secdefil",
}
EMPTY: dict[str, tuple[object, ...]] = {"61": (62, 1), "5": (53, 1), "99": (102,), "6": (54, 1, ACCOUNT)}
"""Answers of an account with neither positions nor orders, by request."""
EMPTY_BY_ID = {"76": 74, "7": 55}
"""The same for requests with an id, which is their third field."""
MARKET_DATA = "market data"
SALE = ("NASDAQ", "@ TI")
"""Exchange and conditions of all trades."""

_REQUEST_ID = re.compile("\1(.*?)\1")
_HANDSHAKE = re.compile(r"v(\d+)\.\.(\d+).*")


def message(*fields: object) -> str:
    """A message without its length: each field ends with a NUL."""
    return "".join(f"{field}\0" for field in fields)


def _of(listing: Listing, channel: str) -> str:
    """In the place of a request's id, which each client has its own of: its session writes it."""
    return f"\1{channel} {listing.symbol}\1"


def _trades(number: int, channel: str, listing: Listing, order: Order) -> list[str]:
    start = (99, _of(listing, channel), number, order.ts_ns // SECOND_NS)
    return [message(*start, listing.price(t.ticks), listing.size(t.lots), 0, *SALE) for t in order.fills]


def _bid_ask(listing: Listing, top: Top) -> list[str]:
    prices, sizes = (listing.price(top.bid), listing.price(top.ask)), (top.bid_lots, top.ask_lots)
    return [message(99, _of(listing, "BidAsk"), 3, top.ts_ns // SECOND_NS, *prices, *map(listing.size, sizes), 0)]


def _market_data(listing: Listing, top: Top) -> list[str]:
    sides = ((1, top.bid, top.bid_lots), (2, top.ask, top.ask_lots))
    of, price, size = _of(listing, MARKET_DATA), listing.price, listing.size
    return [message(1, 6, of, number, price(ticks), size(lots), 0) for number, ticks, lots in sides]


def _fills(order: Order) -> Any:
    return order.fills


CHANNELS = {
    "Last": Channel(Kind.TRADE, partial(_trades, 1, "Last"), _fills, resolution_ns=SECOND_NS),
    "AllLast": Channel(Kind.TRADE, partial(_trades, 2, "AllLast"), _fills, resolution_ns=SECOND_NS),
    "BidAsk": Channel(Kind.QUOTE, _bid_ask, first=top_now(_bid_ask)),
    MARKET_DATA: Channel(Kind.QUOTE, _market_data, first=top_now(_market_data)),
}


class Contract(NamedTuple):
    """The fields of a contract in a request, in their order."""

    id: str
    symbol: str
    kind: str
    expiry: str
    strike: str
    right: str
    multiplier: str
    exchange: str
    primary_exchange: str
    currency: str
    local_symbol: str
    trading_class: str

    @property
    def name(self) -> str:
        """The canonical symbol; the inverse of `contract_of`."""
        match self.kind:
            case "STK" if self.exchange == "SMART":
                return self.symbol.replace(" ", ".")
            case "OPT":
                return f"{self.symbol}-{self.expiry}-{self.strike.removesuffix('.0')}-{self.right}"
            case "FUT" if len(self.expiry) >= 6 and self.expiry[:6].isdecimal():
                month = MONTHS[(int(self.expiry[4:6]) - 1) % 12]
                return f"{self.symbol}{month}{self.expiry[2:4]}.{self.exchange}"
            case "CASH":
                return f"{self.symbol}{self.currency}.{self.exchange}"
        return f"{self.symbol}.{self.exchange}"


class _Framer:
    """Messages with their length, after the four bytes that a client says first."""

    def cut(self, buffer: bytearray) -> list[bytes]:
        if buffer.startswith(b"API\0"):
            del buffer[:4]
        return [frame[4:] for frame in LengthPrefixed(4, "big", inclusive=False).cut(buffer)]


class IbSession(Session):
    request_limit = (50, 1.0)
    too_slow = (Close(0, "too slow"),)
    exchange: Ib

    def __init__(self, exchange: Ib, now_ns: int) -> None:
        super().__init__(exchange, now_ns)
        self.client_id: int | None = None
        self._ready = False
        self.requests: dict[str, str] = {}
        """The id of each request for data, by channel and symbol."""

    def wire(self, text: str) -> bytes:
        data = _REQUEST_ID.sub(lambda found: self.requests.get(found[1], "-1"), text).encode()
        return len(data).to_bytes(4, "big") + data

    def closed(self) -> None:
        super().closed()
        if self.exchange.clients.get(self.client_id) is self:
            del self.exchange.clients[self.client_id]

    def answer(self, text: str, now_ns: int) -> list[Action]:
        if not self._ready:
            return self._handshake(text, now_ns)
        self.admit(now_ns, RefusedError(_error(-1, 100, "Max rate of messages per second has been exceeded.")))
        fields = text.split("\0")[:-1]
        if self.client_id is None:
            return self._start(fields)
        try:
            return self._request(fields, now_ns)
        except (IndexError, TypeError):
            return [_error(-1, 320, "Server error when reading an API client request: a field is missing")]

    def _handshake(self, text: str, now_ns: int) -> list[Action]:
        offered = _HANDSHAKE.fullmatch(text)
        if offered is None or not int(offered[1]) <= VERSION <= int(offered[2]):
            return [Close(0, "no version in common")]
        self._ready = True
        started = time.strftime("%Y%m%d %H:%M:%S", time.gmtime(now_ns // SECOND_NS))
        return [Send(message(VERSION, f"{started} GMT"))]

    def _start(self, fields: list[str]) -> list[Action]:
        """startApi: 71, 2, client id."""
        if fields[:2] != ["71", "2"] or not fields[2].isdecimal():
            return [Close(0, "not startApi")]
        client_id = int(fields[2])
        if client_id in self.exchange.clients:
            text = "Unable to connect as the client id is already in use. Retry with a unique client id."
            return [_error(-1, 326, text), Close(0, "client id in use")]
        self.client_id = client_id
        self.exchange.clients[client_id] = self
        farms = [_error(-1, code, text) for code, text in FARMS.items()]
        return [Send(message(15, 1, ACCOUNT)), Send(message(9, 1, 1)), *farms]

    def _request(self, fields: list[str], now_ns: int) -> list[Action]:
        match fields[0]:
            case "49":
                return [Send(message(49, 1, now_ns // SECOND_NS))]
            case "9":
                return self._details(fields[2], Contract(*fields[3:15]), now_ns)
            case "1":
                return self._data(fields[2], Contract(*fields[3:15]), MARKET_DATA, now_ns)
            case "97":
                return self._data(fields[1], Contract(*fields[2:14]), fields[14], now_ns)
            case "20":
                return self._history(fields[1], Contract(*fields[2:14]), fields[14:], now_ns)
            case "96":
                return self._ticks(fields[1], Contract(*fields[2:14]), fields[14:], now_ns)
            case "25":
                return [_error(fields[2], 366, f"No historical data query found for ticker id:{fields[2]}")]
            case "2" | "98":
                return self._cancel(fields[-1])
            case "59" | "15":
                return []
            case code if code in EMPTY:
                return [Send(message(*EMPTY[code]))]
            case code if code in EMPTY_BY_ID:
                return [Send(message(EMPTY_BY_ID[code], 1, fields[2]))]
        return [_error(-1, 505, f"Fatal Error: Unknown message id. {fields[0][:20]}")]

    def _details(self, request: str, contract: Contract, now_ns: int) -> list[Action]:
        found = self.exchange.find(contract, now_ns)
        if not found:
            raise RefusedError(_no_contract(request))
        details = [_contract_data(request, each, listing) for each, listing in found]
        return [*details, Send(message(52, 1, request))]

    def _the_only(self, request: str, contract: Contract, now_ns: int) -> tuple[Contract, Listing]:
        found = self.exchange.find(contract, now_ns)
        if not found:
            raise RefusedError(_no_contract(request))
        if len(found) > 1:
            text = f"The contract description specified for {contract.symbol} is ambiguous."
            raise RefusedError(_error(request, 200, text))
        return found[0]

    def _history(self, request: str, contract: Contract, fields: list[str], now_ns: int) -> list[Action]:
        """The bars of one contract, all in one message."""
        each, listing = self._the_only(request, contract, now_ns)
        asked, of = Asked(*fields), f"{each.symbol}@{each.exchange}"
        if problem := self._problem(each, listing, asked.what, fields, now_ns, small=is_small(asked)):
            raise RefusedError(_no_history(request, problem))
        try:
            begin_s, end_s, found = bars(listing, asked, now_ns)
        except RefusedError as refused:
            raise RefusedError(_error(request, *refused.replies)) from None
        if not found:
            raise RefusedError(_no_history(request, f"HMDS query returned no data: {of} Trades"))
        times = (time.strftime("%Y%m%d %H:%M:%S UTC", time.gmtime(each)) for each in (begin_s, end_s))
        return [Send(message(17, request, *times, len(found), *chain.from_iterable(found)))]

    def _ticks(self, request: str, contract: Contract, fields: list[str], now_ns: int) -> list[Action]:
        """The trades of one contract from a second on."""
        each, listing = self._the_only(request, contract, now_ns)
        asked = AskedTicks(*fields)
        if problem := self._problem(each, listing, asked.what, fields, now_ns, small=True):
            raise RefusedError(_no_history(request, problem))
        try:
            found = fills(listing, asked, now_ns)
        except RefusedError as refused:
            raise RefusedError(_error(request, *refused.replies)) from None
        rows = [(f.ts_ns // SECOND_NS, 0, listing.price(f.ticks), listing.size(f.lots), *SALE) for f in found]
        return [Send(message(98, request, len(rows), *chain.from_iterable(rows), 1))]

    def _problem(
        self, of: Contract, listing: Listing, what: str, fields: list[str], now_ns: int, *, small: bool
    ) -> str:
        """Why a request for history is refused; empty if it is not."""
        if not self.exchange.pace.admits(listing.symbol, fields, now_ns, small=small):
            return "Historical data request pacing violation"
        if of.exchange not in SUBSCRIBED:
            return f"No market data permissions for {of.exchange} {of.kind}"
        if what != "TRADES" or of.kind == "CASH":
            return f"No historical market data for {of.symbol}/{of.kind}@{of.exchange} {what}"
        return ""

    def _data(self, request: str, contract: Contract, channel: str, now_ns: int) -> list[Action]:
        each, listing = self._the_only(request, contract, now_ns)
        self._check(request, each, channel)
        name = f"{channel} {listing.symbol}"
        if name in self.requests:
            raise RefusedError(_error(request, 322, f"Error processing request: {name} is already sent"))
        if channel != MARKET_DATA and not self.exchange.allows_again(listing.symbol, now_ns):
            raise RefusedError(_error(request, 420, "Invalid Real-time Query:tick-by-tick request pacing violation"))
        self.requests[name] = request
        data = self.subscribe({name: listing.topic(CHANNELS[channel])}, now_ns)
        if channel != MARKET_DATA:
            return data
        return [Send(message(81, request, 0.01, "9c0001", 3)), Send(message(58, 1, request, 1)), *data]

    def _check(self, request: str, contract: Contract, channel: str) -> None:
        """Raises RefusedError if the user may not have these data, or no more of them."""
        of_market_data, kind = channel == MARKET_DATA, contract.kind
        if channel not in CHANNELS:
            raise RefusedError(_error(request, 321, f"Error validating request: tick type {channel}"))
        if contract.exchange not in SUBSCRIBED:
            text = "Requested market data is not subscribed."
            if not of_market_data:
                text = "Failed to request tick-by-tick data:No market data permissions for "
                text += f"{contract.exchange} {kind}. Requested market data requires additional subscription for API."
            raise RefusedError(_error(request, 354 if of_market_data else 10189, text))
        if not of_market_data and (kind == "OPT" or (kind == "CASH" and channel != "BidAsk")):
            raise RefusedError(_error(request, 10189, f"Failed to request tick-by-tick data:{kind} has none"))
        taken = sum(
            (MARKET_DATA in name) == of_market_data for each in self.exchange.clients.values() for name in each.requests
        )
        if taken >= (LINES if of_market_data else TICK_BY_TICK_LINES):
            full = _error(request, 10190, "Max number of tick-by-tick requests has been reached.")
            raise RefusedError(
                _error(request, 101, "Max number of tickers has been reached.") if of_market_data else full
            )

    def _cancel(self, request: str) -> list[Action]:
        names = [name for name, each in self.requests.items() if each == request]
        if not names:
            raise RefusedError(_error(request, 300, f"Can't find EId with tickerId:{request}"))
        ended = self.unsubscribe(names)
        del self.requests[names[0]]
        return ended


class Ib(Exchange):
    name = "ib"
    framer = _Framer()
    scheme = "ib"
    sessions = IbSession
    fewest_decimals = 2
    channels = CHANNELS

    def __init__(self, market: Market, symbols: Iterable[str] | None = None) -> None:
        super().__init__(market, symbols)
        self.clients: dict[int | None, IbSession] = {}
        """By client id."""
        self._contracts: dict[str, Contract] = {}
        self._tick_by_tick_ns: dict[str, int] = {}
        self.pace = Pace()

    def counts(self) -> Mapping[str, int]:
        return self.pace.counts()

    def split(self, symbol: str) -> tuple[str, str] | None:
        fields = contract_of(symbol)
        return (fields["symbol"].replace(" ", "."), fields["currency"] or "USD") if fields else None

    def allows_again(self, symbol: str, now_ns: int) -> bool:
        """Whether tick-by-tick data of an instrument may be asked for: once in 15 s."""
        if now_ns - self._tick_by_tick_ns.get(symbol, -INTERVAL_NS) < INTERVAL_NS:
            return False
        self._tick_by_tick_ns[symbol] = now_ns
        return True

    def canonical(self, symbol: str) -> str:
        return symbol

    def find(self, contract: Contract, now_ns: int) -> list[tuple[Contract, Listing]]:
        """The contracts of a description, complete. An id is made from its name."""
        if contract.id in self._contracts:
            candidates = [self._contracts[contract.id]]
        else:
            both = contract.exchange in TWO_CURRENCIES and not contract.currency
            currencies = ["GBP", "USD"] if both else [contract.currency or "USD"]
            candidates = (
                [_complete(contract, currency) for currency in currencies] if contract_of(contract.name) else []
            )
        found = [(each, self.listing(each.name, now_ns)) for each in candidates]
        self._contracts |= {each.id: each for each, listing in found if listing}
        return [(each, listing) for each, listing in found if listing]


def _complete(contract: Contract, currency: str) -> Contract:
    name = contract.name
    number = crc32(f"{name} {currency}".encode()) >> 1
    return contract._replace(id=str(number), currency=currency, local_symbol=name, trading_class=contract.symbol)


def _contract_data(request: str, c: Contract, listing: Listing) -> Send:
    min_tick = f"{10.0**-listing.instrument.price_decimals:.8f}"
    head = (10, request, c.symbol, c.kind, c.expiry, c.strike, c.right, c.exchange, c.currency, c.local_symbol)
    more = (c.symbol, c.trading_class, c.id, min_tick, c.multiplier, "LMT", c.exchange, 1, 0, c.local_symbol)
    rest = (c.primary_exchange, c.expiry[:6], "", "", "", "US/Eastern", "", "", "", 0, 0, 1, "", "", 26, c.expiry, "")
    return Send(message(*head, *more, *rest, 0.0001, 0.0001, 100))


def _no_contract(request: str) -> Send:
    return _error(request, 200, "No security definition has been found for the request")


def _no_history(request: str, problem: str) -> Send:
    return _error(request, 162, f"Historical Market Data Service error message:{problem}")


def _error(request: object, code: int, text: str) -> Send:
    return Send(message(4, 2, request, code, text, ""))
