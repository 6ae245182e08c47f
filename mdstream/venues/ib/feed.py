"""Interactive Brokers, through a running TWS or IB Gateway and the library ib_async.

Channels: trade (tick-by-tick AllLast), quote (market data: bid and ask); not used: tick-by-tick BidAsk, which takes the
few tick-by-tick lines, RTVolume (sampled), depth. History: bars and ticks (client.py), in the form of a REST answer.
Source: IBKR's TWS API pages (market data, tick-by-tick, historical time and sales, message codes); ib_async 2.1 (read
2026-11).
Quirks: the library decodes the socket, so a frame is what link.py writes for each of its calls, in order:

    {"ib":"trade","symbol":"AAPL","conId":265598,"connection":"19b8e5c2a10.17","n":7,"time":1767625200,"price":246.55,..}
    {"ib":"quote","symbol":"AAPL","conId":265598,"connection":"19b8e5c2a10.17","n":8,"bid":246.54,"bidSize":300.0,..}
    {"ib":"ack","names":["trade AAPL","quote AAPL"]}              asked for; the gateway itself acknowledges nothing
    {"ib":"error","code":354,"message":"..","names":["quote AAPL"]}
    {"ib":"time","time":1767625210}                               the answer to our keepalive
    {"ib":"unreadable","text":".."}                               ib_async could not decode a message
    {"request":"/history?symbol=AAPL&interval=1m&..","view":"1m","response":{"conId":265598,..,"bars":[..]}}
    {"request":"/ticks?symbol=AAPL&..","view":"trades","response":{"conId":265598,..,"ticks":[..]}}

Quotes have no time. Trades are timed in whole seconds, without side. `size` has the gateway's unit (docs/venues/ib.md).
Ids: the venue has none. A trade's id is `connection` (when it was opened, and the client id) and `n`, which counts the
data frames of a connection: unique and stable, but no other line has the same. A past trade's id is what is known of
it, and its number among those of its second of which the same is known. A live trade that is older than the first one
of its line has such an id, too: `late` is its number. By it the canonical stream knows a trade that comes both ways.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from mdstream import instruments
from mdstream.errors import FrameError
from mdstream.instruments import Kind
from mdstream.ticks import BarTick, Control, Number, QuoteTick, Size, TradeTick
from mdstream.venues.feed import BAR, QUOTE, TRADE, Channel, Head, Id, Keepalive, Library, Provider, Request, RestAnswer
from mdstream.venues.parsing import recovered
from mdstream.venues.symbols import Symbols
from mdstream.venues.times import SECOND_NS

CHANNELS = {"STK": ("trade", "quote"), "FUT": ("trade", "quote"), "CASH": ("quote",), "OPT": ("quote",)}
"""By security type: the venue has no live tick-by-tick trades of currencies and options."""
FUTURES_MARKETS = frozenset({"CME", "CBOT", "NYMEX", "COMEX", "CFE", "EUREX", "ICEUS", "ICEEU", "ENDEX", "OSE", "HKFE"})
MONTHS = "FGHJKMNQUVXZ"
ADDRESSES = ("IB_WS_URL", "IBKR_HOST", "IBKR_PORT")
MOST_TICKS = 1_000
"""That may be asked for at once."""

DATA_LOST = 1101
NOTICES = frozenset({165, 1100, DATA_LOST, 1102, 1300, 10090, 10091, 10167, *range(2100, 2200)})
"""Connectivity, data farms, warnings, and data that flow in part or delayed."""
ADVICE = {
    100: "fewer symbols, or other clients of this gateway that ask for less",
    101: "all market data lines are taken: fewer symbols, or more lines from the venue",
    200: "name an instrument that the venue has, and only one",
    326: "set IBKR_CLIENT_ID to a number that no other client of the gateway has",
    354: "subscribe to these data in the venue's client portal, for use by the API",
    420: "the account has no permission for these data, or they were asked for again too soon",
    502: "is TWS or IB Gateway running there, logged in, its API enabled?",
    504: "the gateway has closed the connection",
    1100: "no data until it is back",
    DATA_LOST: "everything is asked for again",
    1102: "data go on",
    10089: "subscribe to these data in the venue's client portal, for use by the API",
    10090: "the other data flow",
    10167: "what flows is delayed, and is not published",
    10168: "subscribe to these data in the venue's client portal, for use by the API",
    10189: "the account has no permission for tick-by-tick data of it, or the venue has none",
    10190: "all tick-by-tick lines are taken: its trades do not come, its quotes do",
    10197: "the same user is logged in elsewhere with live data: end that session",
}
"""What to do, by the venue's code."""


def told(code: int, message: str) -> str:
    """An error as we tell it: the venue's code and message, and what to do where we know that."""
    advice = ADVICE[354] if code == 162 and "permission" in message.lower() else ADVICE.get(code)
    return f"{code} {message.rstrip('.')}" + (f": {advice}" if advice else "")


_HEAD = re.compile(rb'\{\s*"ib"\s*:\s*"(?P<channel>trade|quote)"\s*,\s*"symbol"\s*:\s*"(?P<symbol>[A-Z0-9.-]{1,40})"')
_REST = re.compile(rb'\{"request":"/(?P<channel>history|ticks)\?symbol=(?P<symbol>[A-Z0-9.-]{1,40})&')
_FUTURE = re.compile(rf"(?P<root>[A-Z0-9]{{1,10}})(?P<month>[{MONTHS}])(?P<year>[0-9]{{2}})")
_LISTED = re.compile(r"[A-Z0-9-]{1,20}")
_PAIR = re.compile(r"(?P<base>[A-Z]{3})(?P<quote>[A-Z]{3})")


Text = Annotated[str, msgspec.Meta(max_length=40)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000)]
Count = Annotated[int, msgspec.Meta(ge=-1, le=2**53)]
"""-1 where there is none."""


class _Data(msgspec.Struct, gc=False):
    connection: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    n: Id


class _Trade(_Data, gc=False):
    time: Seconds
    price: Number
    size: Size
    exchange: Text = ""
    conditions: Text = ""
    late: Annotated[int, msgspec.Meta(ge=0)] = 0


class _Quote(_Data, gc=False):
    bid: Number | None
    bid_size: Size | None = msgspec.field(name="bidSize")
    ask: Number | None
    ask_size: Size | None = msgspec.field(name="askSize")


class _Bars(msgspec.Struct, gc=False):
    """The bars of a duration that leads back at least to `begin`; seconds since 1970."""

    begin: Seconds
    end: Seconds
    bars: list[tuple[Seconds, Number, Number, Number, Number, Size, Number, Count]]


class _Tick(NamedTuple):
    time: Seconds
    mask: int
    price: Number
    size: Size
    exchange: Text
    conditions: Text


class PastTicks(msgspec.Struct, gc=False):
    """Ticks from `begin` on, at most MOST_TICKS and what completes a second; `end` was not asked for. Without any,
    `next` is where trades begin again."""

    begin: Seconds
    end: Seconds
    ticks: list[_Tick]
    next: Seconds = 0

    @property
    def rows(self) -> list[_Tick]:
        """Those of whole seconds."""
        before = min(self.end, self.goes_on)
        return [tick for tick in self.ticks if self.begin <= tick.time < before]

    @property
    def goes_on(self) -> int:
        """The second in which the next page begins. A full answer's last one is asked for again, unless it is the only
        one: the venue says that it completes it. Raises FrameError if that is no later."""
        seconds = [tick.time for tick in self.ticks]
        last = max(seconds, default=self.next - 1)
        again = len(seconds) >= MOST_TICKS and last > max(self.begin, min(seconds))
        following = last if again else last + 1
        if following <= self.begin:
            raise FrameError(f"ticks from {self.begin} on were asked for; those that came end at {last}")
        return following


class _Other(msgspec.Struct):
    """What is no data, and data whose fields have another order."""

    ib: Literal["trade", "quote", "ack", "error", "time", "unreadable"]
    symbol: Annotated[str, msgspec.Meta(pattern=r"^[A-Z0-9.-]{1,40}$")] = ""
    names: tuple[str, ...] = ()
    code: int = 0
    message: str = ""
    text: str = ""


def _trade(m: _Trade, symbol: str) -> Sequence[TradeTick | Control]:
    """{"ib":"trade","symbol":"AAPL","conId":265598,"connection":"19b8e5c2a10.17","n":7,"time":1767625200,"price":246.55,"size":100.0,"exchange":"NASDAQ","conditions":"@","pastLimit":false,"unreported":false}"""
    if m.price == -1 and not m.size:
        return (Control("ignored", "no last price"),)
    return (_tick(symbol, f"{_known(m)}-{m.late}" if m.late else f"{m.connection}-{m.n}", m),)


def _known(m: _Trade | _Tick) -> str:
    """What is known of a trade."""
    return f"{m.time}-{m.price}-{m.size}-{m.exchange}-{'.'.join(m.conditions.split())}"


def _tick(symbol: str, trade_id: str, m: _Trade | _Tick) -> TradeTick:
    venue, conditions = m.exchange or None, tuple(m.conditions.split()) or None
    return TradeTick(symbol, trade_id, m.price, m.size, None, m.time * SECOND_NS, venue=venue, conditions=conditions)


def _quote(m: _Quote, symbol: str) -> Sequence[QuoteTick]:
    """{"ib":"quote","symbol":"AAPL","conId":265598,"connection":"19b8e5c2a10.17","n":8,"bid":246.54,"bidSize":300.0,"ask":246.56,"askSize":200.0}"""
    return (QuoteTick(symbol, m.bid, m.bid_size, m.ask, m.ask_size, None),)


def _history(m: RestAnswer[_Bars], symbol: str) -> Sequence[BarTick]:
    """{"conId":265598,"exchange":"SMART","begin":1767625140,"end":1767625200,"bars":[["1767625140",246.1,246.6,246.0,246.55,49378.0,246.32,461]]}"""
    return [
        BarTick(symbol, m.id_space, ts * SECOND_NS, opened, high, low, close, volume, None, count)
        for ts, opened, high, low, close, volume, _, count in m.response.bars
        if count > 0 and m.response.begin <= ts < m.response.end
    ]


def _ticks(m: RestAnswer[PastTicks], symbol: str) -> Sequence[TradeTick]:
    """{"conId":265598,"exchange":"SMART","begin":1767625200,..,"ticks":[[1767625200,0,246.55,100.0,"NASDAQ","@"]]}"""
    numbers: Counter[str] = Counter()
    ticks = []
    for each in m.response.rows:
        if each.price == -1 and not each.size:
            continue
        known = _known(each)
        numbers[known] += 1
        ticks.append(_tick(symbol, f"{known}-{numbers[known]}", each))
    return recovered(ticks)


def contract_of(symbol: str) -> dict[str, str] | None:
    """The fields of ib_async's Contract for a canonical symbol; None if the venue has nothing of that form."""
    instrument = instruments.parse(symbol, ())
    match instrument:
        case instruments.Instrument(kind=Kind.STOCK, base=ticker):
            return _contract("STK", ticker.replace(".", " "), "SMART", "USD")
        case instruments.Instrument(kind=Kind.OPTION, base=base, expiry=day, strike=strike, right=right) if day:
            return {
                **_contract("OPT", base, "SMART", "USD"),
                "lastTradeDateOrContractMonth": f"{day:%Y%m%d}",
                "strike": strike,
                "right": right,
                "multiplier": "100",
            }
        case instruments.Instrument(kind=Kind.LISTED, base=name, market=market):
            return _listed(name, market)
    return None


def _listed(name: str, market: str) -> dict[str, str] | None:
    if market == "IDEALPRO":
        pair = _PAIR.fullmatch(name)
        return pair and _contract("CASH", pair["base"], market, pair["quote"])
    if market in FUTURES_MARKETS:
        future = _FUTURE.fullmatch(name)
        month = future and f"20{future['year']}{MONTHS.index(future['month']) + 1:02d}"
        return future and {**_contract("FUT", future["root"], market), "lastTradeDateOrContractMonth": str(month)}
    return _contract("STK", name, market) if _LISTED.fullmatch(name) else None


def _contract(kind: str, symbol: str, exchange: str, currency: str = "") -> dict[str, str]:
    return {"secType": kind, "symbol": symbol, "exchange": exchange, "currency": currency}


def _to_venue(symbol: str) -> str | None:
    """The canonical symbol: the venue knows contracts, not names. An option's strike without needless zeros."""
    upper = symbol.upper()
    head, dash, right = upper.rpartition("-")
    if dash and "." in head:
        upper = f"{head.rstrip('0').rstrip('.')}-{right}"
    return upper if contract_of(upper) else None


class Ib(Provider):
    name = "ib"
    market = "equities"
    default_url = "ib://127.0.0.1:4002"  # IB Gateway, paper
    library = Library("ib", "mdstream.venues.ib.link.IbLink")
    symbols = Symbols(
        "a ticker like AAPL, an option like AAPL-20260116-250-C, or a name with its market, like ESH26.CME, "
        "EURUSD.IDEALPRO or SAP.IBIS",
        _to_venue,
        str.upper,
    )
    coverage = "consolidated"
    default_symbols = ("AAPL", "MSFT")
    max_symbols = 1_000  # the limits are the user's, and each connection takes a client id of its own
    subscribe_interval_s = 0.1  # up to three messages each, of 50 a second
    keepalive = Keepalive(10.0, '{"do":"time"}', always=True)
    channels = (
        Channel("trade", TRADE, _Trade, _trade),
        Channel("quote", QUOTE, _Quote, _quote),
        Channel("history", BAR, RestAnswer[_Bars], _history),
        Channel("ticks", TRADE, RestAnswer[PastTicks], _ticks),
    )
    heads = (_HEAD, _REST)
    head_end = b',"conId":'
    other = _Other

    def url(self, addresses: Mapping[str, str]) -> str:
        if address := addresses.get("IB_WS_URL"):
            return address
        host, port = addresses.get("IBKR_HOST", "127.0.0.1"), addresses.get("IBKR_PORT", "4002")
        client = addresses.get("IBKR_CLIENT_ID")
        return f"ib://{host}:{port}" + (f"?clientId={client}" if client else "")

    def dry(self, settings: Mapping[str, str]) -> str | None:
        if any(settings.get(name) for name in ADDRESSES):
            return None
        return "run TWS or IB Gateway, and set IBKR_PORT to its port"

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        # One symbol at a time: its contract is looked up first, and an error concerns nothing else.
        requests = []
        for symbol in map(self.to_venue, symbols):
            contract = contract_of(symbol) or {}
            channels = CHANNELS[contract["secType"]]
            frame = json.dumps({"do": "subscribe", "symbol": symbol, "channels": channels, "contract": contract})
            requests.append(Request(frame, tuple(f"{channel} {symbol}" for channel in channels)))
        return requests

    def control(self, message: _Other) -> Control | Head:
        """{"ib":"error","code":200,"message":"No security definition..","names":["trade FOO","quote FOO"]}"""
        m = message
        match m.ib:
            case "ack":
                return Control("ack", ", ".join(m.names), m.names)
            case "time":
                return Control("pong")
            case "error":
                return _error(m)
            case "unreadable":
                raise FrameError(f"ib_async could not decode a message: {m.text[:200]}")
        return Head(m.ib, m.symbol)


def _error(m: _Other) -> Control:
    """Most errors name a request; code and message are the venue's."""
    detail = told(m.code, m.message)
    return Control("notice", detail) if m.code in NOTICES else Control("error", detail, m.names)
