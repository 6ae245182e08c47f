"""The base of every provider: a venue's names, limits and formats, without any I/O.

It has two users. The ingestor calls `url`, `login`, `subscribe` and, for each frame, `route`: which instrument, which
kind. The canonical stream (agents/canonical.py) calls `decode`. Both follow from the venue's table of channels:

    frame ─ parser ─> channel, symbol ─┬─> route: key and kind
                                       └─> decode: the channel's message, then its ticks

docs/providers.md shows how to add a provider.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar

import msgspec

from mdstream.errors import FrameError, SymbolError
from mdstream.instruments import is_linear
from mdstream.repairs import REST_MARK
from mdstream.ticks import BarTick, Control, HaltTick, Tick
from mdstream.trading_hours import TradingHours, trading_hours
from mdstream.venues import address, contracts, ws_setting
from mdstream.venues.declared import Declared
from mdstream.venues.framer import Framer
from mdstream.venues.symbols import Symbols

TRADE, QUOTE, BOOK, BAR, OTHER = b"trade", b"quote", b"book", b"bar", b"other"

Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""An integer id of a venue, within 64 bits."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
"""A venue's name of an instrument."""

UNREADABLE = (UnicodeDecodeError, RecursionError)
"""Raised by msgspec besides its own errors: for text that is not UTF-8, and for arrays nested a thousand deep."""

MAX_HEAD_BYTES = 120

_SUBSCRIBE = re.compile('"(SUBSCRIBE|subscribe)"')

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class Remembered(dict[K, V]):
    """A cache of a pure function; a hit takes 30 ns. Bounded, because keys come from the wire."""

    def __init__(self, function: Callable[[K], V], *, max_size: int = 100_000) -> None:
        super().__init__()
        self._function, self._max_size = function, max_size

    def __missing__(self, key: K) -> V:
        if len(self) >= self._max_size:
            self.clear()
        found = self[key] = self._function(key)
        return found


class Route(NamedTuple):
    """Key and kind of a raw frame: `key` is the canonical symbol (the provider's name if the frame has none)."""

    key: bytes
    kind: bytes


class Channel(NamedTuple):
    """One kind of a venue's frames, by its name on the wire.

    `message` is the type of the whole frame. `ticks(message, symbol)` returns the ticks in the frame's order, with the
    canonical symbol that it is given; it raises FrameError for impossible values.
    """

    name: str
    kind: bytes
    message: Any
    ticks: Callable[[Any, str], Sequence[Tick]]


class Head(NamedTuple):
    """What a frame is about: a channel's name and the venue's symbol."""

    channel: str
    symbol: str


@dataclass(frozen=True, slots=True)
class Parser:
    """How to read all frames of one head; `decode` is None for a channel that the table does not have."""

    route: Route
    decode: Callable[[bytes], Any] | None = None
    ticks: Callable[[Any, str], Sequence[Tick]] = lambda _message, _symbol: ()
    symbol: str = ""


def _unsubscribe(match: re.Match[str]) -> str:
    return '"UNSUBSCRIBE"' if match[1].isupper() else '"unsubscribe"'


class RestAnswer(msgspec.Struct, Generic[T], gc=False):
    """A REST answer as a raw frame (`repairs.rest_frame`)."""

    response: T
    id_space: str = msgspec.field(name="view", default="")


class Keepalive(NamedTuple):
    """A frame to send when nothing arrived for `interval_s` seconds; if `always`, every `interval_s` seconds."""

    interval_s: float
    frame: str | bytes
    always: bool = False


class Request(NamedTuple):
    """A frame to send, and the answers to await: Controls with the same `names`.

    `names`: the subscriptions that it asks for, each as the venue's answers name it; without any, no answer is awaited.
    `id` stands for all of them, where a venue answers whole requests.
    """

    frame: str | bytes
    names: tuple[str, ...] = ()
    id: str = ""


class Library(NamedTuple):
    """How to reach a venue that is read through its own client library: `link` is a class, as MODULE.CLASS, that is
    made with an address SCHEME://... Its module, and with it the library, is imported only when it is used."""

    scheme: str
    link: str


class Provider(Declared, ABC):
    """One venue. Instances hold only caches: there may be any number of them."""

    name: ClassVar[str]
    market: ClassVar[str]
    """The market of its instruments; `market_of` names the exceptions. Frames of no instrument go there, too."""
    default_url: ClassVar[str]
    sandbox_url: ClassVar[str | None] = None
    """The address of its sandbox, or testnet; None if it has none."""
    symbols: ClassVar[Symbols]
    """How it names instruments."""
    coverage: ClassVar[str] = "venue"
    """Which trades of an instrument it carries: all of one venue, "consolidated" (of all venues of a market), or a part
    with a name of its own ("iex"). By default a provider stands in only for those with the same coverage."""
    has_feed: ClassVar[bool] = True
    """Whether an ingestor can read it; else the venue calls us, and `mdstream api` writes what it sends."""
    contiguous_ids: ClassVar[bool] = False
    """Whether trade ids are contiguous per instrument, so that a skipped id is a missed trade; else they only rise, or
    are opaque, and missed trades cannot be detected."""
    quotes_from_books: ClassVar[bool] = True
    """Whether the top of a kept book is published as a quote; else quotes are those of a channel of their own."""
    sizes_in_contracts: ClassVar[bool] = False
    """Whether the sizes of linear contracts count contracts, whose size its list of instruments has. Frames are then
    named by the venue's own id, and by the canonical symbol only together with what a contract is worth."""
    default_symbols: ClassVar[Sequence[str]] = ("BTCUSDT", "ETHUSDT")
    """Canonical symbols that it has, for an ingestor of all providers."""
    max_symbols: ClassVar[int]
    """Most symbols per connection; more are spread over several connections."""
    subscribe_interval_s: ClassVar[float] = 0.25
    """Pause between requests, to stay within the venue's limit of messages per second."""
    keepalive: ClassVar[Keepalive | None] = None
    silence_s: ClassVar[float] = 30.0
    """Without any frame for so long, the connection counts as dead; outside a regular trading session it does unless
    its link gets an answer to a ping."""
    max_age_s: ClassVar[float | None] = None
    """The age at which we replace a connection, before the venue ends it; None: the venue has no limit."""
    shares_frames: ClassVar[bool] = False
    """Whether a frame can concern several instruments: then the ingestor publishes the parts that `split` returns."""
    framer: ClassVar[Framer | None] = None
    """How a TCP stream is cut into frames, for an address tcp://HOST:PORT; None: the address is a websocket's."""
    library: ClassVar[Library | None] = None
    """The client library that reads the venue, for an address of its own scheme; None: we read the socket."""
    credentials: ClassVar[tuple[str, ...]] = ()
    """Settings that `login` needs; named when one is not set, and when the venue refuses them."""
    denying_statuses: ClassVar[frozenset[int]] = frozenset({401, 403})
    """HTTP statuses of a websocket handshake that mean wrong credentials."""
    channels: ClassVar[Sequence[Channel]]
    """All that is decoded, REST answers included."""
    heads: ClassVar[Sequence[re.Pattern[bytes]]]
    """Patterns of the start of a frame, with the groups `channel` and `symbol`."""
    head_end: ClassVar[bytes] = b""
    """What follows the head, if all frames of a channel and symbol begin with the same bytes: then the patterns are
    matched once for each such beginning."""
    texts: ClassVar[Mapping[bytes, Control]] = {}
    """The frames that are not JSON."""
    other: ClassVar[Any]
    """The type of all other frames: answers to requests, errors, notices, channels that are not used."""

    def __init__(self) -> None:
        self._unknown = Parser(Route(self.name.encode(), OTHER))
        self.table = {c.name: (c.kind, self.decoder(c.message, strict=False), c.ticks) for c in self.channels}
        """By a channel's name: its kind, and how to decode its message and read the ticks."""
        self._decode_message = self.decoder(self.other, strict=True)
        self.parsers = Remembered(self._parser)
        """By channel and symbol, as the venue writes them."""
        self._by_start = Remembered(self.by_pattern)
        self._contract_size, self._names = Remembered(contracts.read_contract_size), Remembered(self.from_venue)

    def decoder(self, message: Any, *, strict: bool) -> Callable[[bytes], Any]:
        """How to read a frame as `message`; unless `strict`, text stands for numbers, too. A hook: most send JSON."""
        return msgspec.json.Decoder(message, strict=strict).decode

    def check_text(self, frame: bytes) -> None:
        """Raises UnicodeDecodeError for a frame that is not in the venue's encoding. A hook: most send UTF-8.

        msgspec looks only at the text that it reads: the name of a damaged field would be one that it does not know.
        """
        frame.decode()

    def url(self, addresses: Mapping[str, str]) -> str:
        """The address to connect to, by `addresses`. Raises SettingsError."""
        return address(addresses, ws_setting(self.name), official=self.default_url, sandbox=self.sandbox_url)

    def login(self, settings: Mapping[str, str]) -> Request | None:  # noqa: ARG002  a hook: most venues have no login
        """The request that logs in, to be answered before the first subscription; None if there is no login."""
        return None

    def dry(self, settings: Mapping[str, str]) -> str | None:
        """Why it runs dry, as text: what to set; None: it connects."""
        missing = [name for name in self.credentials if not settings.get(name)]
        return f"set {' and '.join(missing)}" if missing else None

    def to_venue(self, symbol: str) -> str:
        """The venue's name of a canonical symbol, or of one already in the venue's form. Raises SymbolError."""
        venue_id = self.symbols.to_venue(symbol)
        if venue_id is None:
            raise SymbolError(self.name, symbol, self.symbols.form)
        return venue_id

    def from_venue(self, symbol: str) -> str:
        """The canonical name of the venue's symbol; the inverse of `to_venue`."""
        return self.symbols.from_venue(symbol)

    def as_sent(self, venue_id: str) -> str:
        """The name for what a frame says by itself: the venue's own where sizes count contracts."""
        symbol = self.from_venue(venue_id)
        return venue_id.upper() if self.sizes_in_contracts and is_linear(symbol) else symbol

    def canonical(self, symbol: str) -> str:
        """The canonical name of a symbol as a user gives it. Raises SymbolError, also if `to_venue` does not give back
        the venue's name (BTC-TUSD, while TUSD is not known, would become BTCT-USD)."""
        venue_id = self.to_venue(symbol)
        canonical = self.from_venue(venue_id)
        try:
            found = self.to_venue(canonical)
        except SymbolError:
            found = "nothing"
        if found != venue_id:
            where = f"mdstream/venues/{self.name}/feed.py"
            expected = f"one in a currency that {where} knows: add it to QUOTES there, or leave the symbol out"
            raise SymbolError(self.name, symbol, f"{expected} ({canonical} leads back to {found})")
        return canonical

    def market_of(self, symbol: str) -> str:  # noqa: ARG002  a hook: most providers have one market
        """The market of a canonical symbol, which decides its raw topic. Depends on nothing else."""
        return self.market

    def hours(self, symbol: str) -> TradingHours | None:
        """The trading hours of a canonical symbol; None if its market does not close, or they are not known."""
        return trading_hours(self.market_of(symbol), symbol)

    def market_of_record(self, key: bytes) -> str:
        """The market of a raw record by its key: a canonical symbol, or the provider's name."""
        return self.market if key == self.name.encode() else self.market_of(key.decode("utf-8", "replace"))

    @abstractmethod
    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        """The requests for trades, quotes and books of canonical `symbols`, within the venue's limits.

        If the venue rejects a request as a whole, all its subscriptions are lost: choose its size accordingly.
        """

    def unsubscribe(self, symbols: Sequence[str]) -> list[Request]:
        """The requests that end what `subscribe` asks for; no answer is awaited. By default they are its requests, with
        the word unsubscribe."""
        return [
            Request(_SUBSCRIBE.sub(_unsubscribe, str(request.frame), count=1)) for request in self.subscribe(symbols)
        ]

    @abstractmethod
    def control(self, message: Any) -> Control | Head:
        """The meaning of an `other` message, or the head of a frame whose head was not where `heads` expect it.

        Raises FrameError for a message that the venue does not send.
        """

    def split(self, frame: bytes) -> Sequence[bytes]:
        """The parts of a frame, in its order, each a frame of one instrument and kind.

        Never raises: what cannot be split is returned whole.
        """
        return (frame,)

    def route(self, frame: bytes) -> Route:
        """Key and kind of a raw frame, without parsing it. Never raises: an unknown frame is OTHER."""
        return self.parser(frame).route

    def decode(self, frame: bytes, contract_size: bytes = b"") -> Sequence[Tick]:
        """The ticks in a frame, in its order.

        `contract_size`: what one contract was worth, if sizes are in contracts and it is known
        (`records.contract_size_of`): then they are turned into units of base, and named by the canonical symbol. Raises
        FrameError or msgspec.MsgspecError if the frame cannot be understood.
        """
        try:
            if not frame.isascii():
                self.check_text(frame)
            parser = self.parser(frame)
            decode = parser.decode
            ticks = self._decode_other(frame) if decode is None else parser.ticks(decode(frame), parser.symbol)
        except UNREADABLE as error:
            raise FrameError(f"not JSON that can be read: {error}") from None
        return (
            self._in_base(ticks, self._contract_size[contract_size])
            if contract_size and self.sizes_in_contracts
            else ticks
        )

    def _in_base(self, ticks: Sequence[Tick], contract_size: Decimal) -> Sequence[Tick]:
        for tick in ticks:
            if not isinstance(tick, (Control, HaltTick, BarTick)):  # only stocks are halted
                tick.symbol = self._names[tick.symbol]
                contracts.to_base(tick, contract_size)
        return ticks

    def parser(self, frame: bytes) -> Parser:
        """How to read a frame. A venue overrides it where its frames allow a faster way."""
        end = frame.find(self.head_end)
        return self._by_start[frame[:end]] if 0 < end < MAX_HEAD_BYTES else self.by_pattern(frame)

    def head(self, frame: bytes) -> tuple[bytes, bytes] | None:
        """Channel and symbol by the first pattern that matches the start of a frame."""
        for pattern in self.heads:
            match = pattern.match(frame)
            if match is not None:
                return match.group("channel"), match.group("symbol")
        return None

    def by_pattern(self, frame: bytes) -> Parser:
        """As `parser`, for any frame."""
        head = self.head(frame)
        return self._unknown if head is None else self.parsers[head]

    def _parser(self, head: tuple[bytes, bytes]) -> Parser:
        try:
            channel, symbol = head[0].decode(), self.as_sent(head[1].decode())
        except UnicodeDecodeError:
            return self._unknown
        if not symbol:
            return self._unknown
        kind, decode, ticks = self.table.get(channel, (OTHER, None, self._unknown.ticks))
        return Parser(Route(symbol.encode(), kind), decode, ticks, symbol)

    def _decode_other(self, frame: bytes) -> Sequence[Tick]:
        if frame in self.texts:
            return (self.texts[frame],)
        if frame.startswith(REST_MARK):
            raise FrameError("the answer to a request that repair did not make")
        found = self.control(self._decode_message(frame))
        if isinstance(found, Control):
            return (found,)
        parser = self.parsers[found.channel.encode(), found.symbol.encode()]
        if not parser.symbol:
            raise FrameError(f"no instrument: {found.symbol!r}")
        if parser.decode is None:
            return (Control("ignored", found.channel),)
        return parser.ticks(parser.decode(frame), parser.symbol)
