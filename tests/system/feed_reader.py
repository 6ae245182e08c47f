"""One venue of the simulator in this process, and one connection of a feed that reads it over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from processes import until

from mdstream.ingest.backlog import Backlog
from mdstream.ingest.connection import Connection
from mdstream.ingest.intake import Intake
from mdstream.simulator.server import Options, Simulator
from mdstream.ticks import QuoteTick, Tick, TradeTick
from mdstream.venues.feed import Provider

LIMIT_S = 60.0


@asynccontextmanager
async def simulated(
    venue: str, journal: Path | None = None, port: int = 0, symbols: tuple[str, ...] | None = None
) -> AsyncIterator[Simulator]:
    """A venue whose market trades a lot."""
    options = Options(port=port, venues=(venue,), rate=300.0, journal=journal, symbols=symbols)
    simulator = Simulator(options, print)
    await simulator.start()
    try:
        yield simulator
    finally:
        await simulator.stop()


class Reader:
    """A feed's connection, and what it reads."""

    def __init__(
        self, provider: Provider, url: str, symbols: list[str], max_attempts: int | None, data_silence_s: float
    ) -> None:
        self.provider, self.backlog, self.ups = provider, Backlog(1), 0
        intake = Intake(provider, self.backlog, {provider.market: range(1)})
        self.counters, self.raw, self._ticks = intake.counters, list[bytes](), list[Tick]()
        self.connection = Connection(
            provider,
            url,
            symbols,
            intake,
            self._changed,
            settings={},
            max_attempts=max_attempts,
            data_silence_s=data_silence_s,
        )

    def _changed(self, up: bool, _: str | None) -> None:
        self.ups += up

    def ticks(self) -> list[Tick]:
        """All so far; every frame is one that the provider can decode."""
        records, _ = self.backlog.take(0, 1 << 40)
        frames = [value or b"" for _, value, _, _ in records]
        self.raw += frames
        self._ticks += [tick for frame in frames for tick in self.provider.decode(frame)]
        self.backlog.release(0)
        return self._ticks

    def trades(self, symbol: str) -> list[TradeTick]:
        return [tick for tick in self.ticks() if isinstance(tick, TradeTick) and tick.symbol == symbol]

    def quotes(self, symbol: str) -> list[QuoteTick]:
        return [tick for tick in self.ticks() if isinstance(tick, QuoteTick) and tick.symbol == symbol]


@asynccontextmanager
async def read_feed(
    provider: type[Provider], url: str, *symbols: str, max_attempts: int | None = None, data_silence_s: float = 0.0
) -> AsyncIterator[Reader]:
    """A connection for the `symbols`; without `max_attempts` it has to end without an error."""
    reader = Reader(provider(), url, list(symbols), max_attempts, data_silence_s)
    running = asyncio.create_task(reader.connection.run())
    try:
        yield reader
    finally:
        await reader.connection.close()
        await asyncio.wait([running], timeout=LIMIT_S)
        if max_attempts is None:
            running.result()


async def check_that_symbols_come_and_go(reader: Reader) -> None:
    """Of a feed of AAPL and MSFT: the first goes on, the second ends, and TSLA begins."""
    await until(lambda: reader.trades("AAPL") and reader.trades("MSFT"))
    reader.connection.change(add=["TSLA"], remove=["MSFT"])
    await until(lambda: reader.trades("TSLA"))
    gone, count = len(reader.trades("MSFT")), len(reader.trades("AAPL"))
    await until(lambda: len(reader.trades("AAPL")) > count + 10)
    assert len(reader.trades("MSFT")) == gone
