"""The sources of trades for the audit: the simulator's journal, the raw topics, the canonical topic, the database.

Each hop is read the same way: `await hop.read(add)` calls `add` for every trade it holds.
"""

from __future__ import annotations

import gzip
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import msgspec
from aiokafka import ConsumerRecord

from mdstream import kafka
from mdstream.audit.trades import MINUTE_NS, AuditTrade, Place, Scope
from mdstream.cli.progress import Progress
from mdstream.config import Settings
from mdstream.errors import CaptureError, FrameError, MdstreamError
from mdstream.events import Side, Trade
from mdstream.kafka import logs
from mdstream.records import OURS, contract_size_of, decode_raw
from mdstream.sinks.sqlite import FILE_NAME
from mdstream.stream.bounds import check_trade
from mdstream.ticks import TradeTick
from mdstream.venues.providers import PROVIDERS
from topics import Topics

SLACK_MS = 10 * 60_000
"""A record is written after its trade happened, unless clocks differ: reading begins this much earlier."""
MS = 1_000_000


class Add(Protocol):
    """Takes in a trade; if the hop numbers its trades, with the number, and its record's place and value."""

    def __call__(
        self, trade: AuditTrade, seq: int | None = None, place: Place | None = None, value: bytes = b""
    ) -> object: ...


class Hop(Protocol):
    """A place that holds trades. `may_repeat`: the same trade several times is no fault there.

    `is_end`: no hop follows it; like the hops after it in the list, it is filled from the hop before it.
    """

    @property
    def name(self) -> str: ...
    @property
    def may_repeat(self) -> bool: ...
    @property
    def is_end(self) -> bool: ...
    @property
    def unread(self) -> Counter[str]:
        """What the last reading could not decode as a trade, by kind."""
        ...

    async def read(self, add: Add) -> None: ...


class _JournalLine(msgspec.Struct):
    provider: str
    symbol: str
    trade_id: str
    price: float
    size: float
    side: Side | None
    ts_exchange: int
    id_space: str = msgspec.field(name="view", default="")


class JournalHop:
    """The simulator's journal: what the venues sent. One line per subscriber, so a trade may be there twice."""

    name: ClassVar = "journal"
    may_repeat: ClassVar = True
    is_end: ClassVar = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unread: Counter[str] = Counter()

    def check(self) -> None:
        """Raise CaptureError if it cannot be read at all; runs before the other hops are read."""
        next(self._lines(), None)

    async def read(self, add: Add) -> None:
        decode = msgspec.json.Decoder(_JournalLine).decode
        with Progress("audit journal", "lines") as progress:
            for number, text in enumerate(self._lines(), 1):
                try:
                    j = decode(text)
                except (msgspec.MsgspecError, UnicodeError) as error:
                    raise CaptureError(str(self._path), number, f"not a line of a journal: {error}") from None
                add(AuditTrade(j.provider, j.symbol, j.trade_id, j.price, j.size, j.side, j.ts_exchange, j.id_space))
                progress.show(number)

    def _lines(self) -> Iterator[bytes]:
        try:
            with gzip.open(self._path, "rb") if self._path.suffix == ".gz" else self._path.open("rb") as file:
                yield from cast("Iterator[bytes]", file)
        except (OSError, EOFError) as error:
            raise CaptureError(str(self._path), 1, getattr(error, "strerror", None) or str(error)) from None


async def records(
    settings: Settings, topic: str, scope: Scope, progress: Progress
) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """A topic's records from about the scope's beginning to its current end."""
    partitions = await kafka.partitions_of(settings.bootstrap_servers, topic)
    count = 0
    async with kafka.reader(settings.bootstrap_servers) as consumer:
        consumer.assign(partitions)
        await logs.seek_to_time(consumer, partitions, scope.first_minute * MINUTE_NS // MS - SLACK_MS)
        async for chunk in logs.read_whole(consumer, partitions):
            for record in chunk:
                yield record
            count += len(chunk)
            progress.show(count)


class RawHop:
    """The raw topics, decoded by the providers alone. Reconnects and replays repeat trades there: no fault.

    `heard` is called with provider and receive time of every venue's frame.
    """

    may_repeat: ClassVar = True
    is_end: ClassVar = False

    def __init__(self, settings: Settings, scope: Scope, heard: Callable[[str, int], None]) -> None:
        names = [topic.name for topic in Topics(settings).raw.values()]
        self.name = names[0] if len(names) == 1 else f"{settings.topic_prefix}.raw.*"
        self._settings, self._scope, self._heard = settings, scope, heard
        self._decoders = {name.encode(): (name, provider().decode) for name, provider in PROVIDERS.items()}
        self.unread: Counter[str] = Counter()
        self.first: dict[tuple[str, str, str], AuditTrade | None] = {}
        """By (provider, symbol, id space): the trade that reading began with if it answers a subscription, else None.

        Such a trade (TradeTick.resume) is from before anyone listened. Only an earlier reader knows whether it is new.
        """

    async def read(self, add: Add) -> None:
        self.unread.clear()
        with Progress(f"audit {self.name}", "records") as progress:
            for topic in Topics(self._settings).raw.values():
                async for record in records(self._settings, topic.name, self._scope, progress):
                    self._take(record, add)

    def _take(self, record: ConsumerRecord[bytes, bytes], add: Add) -> None:
        try:
            provider, recv_ns, kind = decode_raw(record)
        except FrameError:
            self.unread["records without a valid time"] += 1
            return
        if kind in OURS:
            return
        known = self._decoders.get(provider)
        if known is None:
            self.unread["frames of an unknown provider"] += 1
            return
        name, decode = known
        self._heard(name, recv_ns)
        try:
            ticks = decode(record.value or b"", contract_size_of(record))
        except (FrameError, msgspec.MsgspecError, ValueError, LookupError, TypeError):
            # The canonical agent writes the reason to md.dead; here the frame is counted.
            self.unread["frames not understood"] += 1
            return
        for tick in ticks:
            if type(tick) is TradeTick and tick.correction is None:
                try:
                    check_trade(tick)
                except FrameError:
                    self.unread["trades refused"] += 1
                    continue
                time_ns = recv_ns if tick.ts_exchange is None else tick.ts_exchange
                fields = (name, tick.symbol, tick.trade_id, tick.price, tick.size, tick.side)
                trade = AuditTrade(*fields, time_ns, tick.id_space, recv_ns, tick.recovered)
                if not tick.recovered:  # what repair brings may be from before
                    self.first.setdefault((name, tick.symbol, tick.id_space), trade if tick.resume else None)
                add(trade)


class CanonicalHop:
    """The trades topic. A number that comes again with the same bytes is the same event; two numbers are two."""

    may_repeat: ClassVar = False
    is_end: ClassVar = False

    def __init__(self, settings: Settings, scope: Scope) -> None:
        self._settings, self._scope = settings, scope
        self.name = Topics(settings).trades.name
        self.unread: Counter[str] = Counter()

    async def read(self, add: Add) -> None:
        self.unread.clear()
        decode = msgspec.json.Decoder(Trade).decode
        with Progress(f"audit {self.name}", "records") as progress:
            async for record in records(self._settings, self.name, self._scope, progress):
                value = record.value or b""
                try:
                    trade = decode(value)
                except (msgspec.MsgspecError, UnicodeError):
                    self.unread["records that are no trade"] += 1
                    continue
                add(audit_trade(trade), trade.seq, Place(record.partition, record.offset), value)


def audit_trade(trade: Trade) -> AuditTrade:
    """A canonical trade as the audit compares it."""
    time_ns = trade.ts_recv if trade.ts_exchange is None else trade.ts_exchange
    fields = (trade.provider, trade.symbol, trade.trade_id, trade.price, trade.size, trade.side)
    made = AuditTrade(*fields, time_ns, received_ns=trade.ts_recv, recovered=trade.recovered, fills=trade.count)
    if trade.correction is None and not trade.backfilled:
        return made
    return made._replace(correction=trade.correction, corrects=trade.corrects, backfilled=trade.backfilled)


class DatabaseHop:
    """The files role's SQLite database."""

    name: ClassVar = f"SQLite {FILE_NAME}"
    may_repeat: ClassVar = False
    is_end: ClassVar = True

    def __init__(self, settings: Settings, scope: Scope) -> None:
        self.path = settings.data_dir / FILE_NAME
        self._scope = scope
        self.unread: Counter[str] = Counter()

    async def read(self, add: Add) -> None:
        query, values = self._query()
        try:
            # Read only: the writer goes on meanwhile.
            connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
            with closing(connection), Progress(f"audit {self.name}", "rows") as progress:
                for count, row in enumerate(connection.execute(query, values), 1):
                    add(AuditTrade(*row[:-1])._replace(received_ns=row[-1]))
                    progress.show(count)
        except sqlite3.Error as error:
            raise MdstreamError(f"{self.path} cannot be read: {error}") from error

    def _query(self) -> tuple[str, list[Any]]:
        time = "coalesce(ts_exchange, ts_recv)"
        columns = f"provider, symbol, trade_id, price, size, side, {time}, ts_recv"
        query = f"SELECT {columns} FROM trades WHERE correction IS NULL AND {time} >= ?"  # noqa: S608  no input in it
        values: list[Any] = [self._scope.first_minute * MINUTE_NS]
        if self._scope.symbols:
            query += f" AND symbol IN ({','.join('?' * len(self._scope.symbols))})"
            values += sorted(self._scope.symbols)
        return query, values
