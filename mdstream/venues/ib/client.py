"""Interactive Brokers' past bars and trades through ib_async: a target of timed.py in, an Answer or RetryableError out.

    get ─ pacing ─> connected? ─> contract details ─> exactly one? ─> farms well? ─> historical data ─> Answer
                        no: a client id above the live feed's                             ├──> no data: no rows
                                                                                          ├──> a final error: status 400
                                                                                          └──> RetryableError

Trades come one trading session at a time: where there are no more, bars say when there are again.

One request at a time, as the pacing rules decide how fast it goes. What was open when the connection ends is asked for
again by the caller, as anything else that failed: the next `get` makes a new connection.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from ib_async import BarData, Contract, ContractDetails, HistoricalTickLast

from mdstream.errors import LinkError
from mdstream.ingest.links.link import OPEN_TIMEOUT_S
from mdstream.venues.ib.feed import DATA_LOST, MOST_TICKS, NOTICES, contract_of, told
from mdstream.venues.ib.gateway import NOT_CONNECTED, Address, Gateway, the_only
from mdstream.venues.ib.pacing import MOST_SMALL, Pacing, Request
from mdstream.venues.ib.timed import BAR_SIZES, Query, refused, says_no_data
from mdstream.venues.rest import OK, Answer, RetryableError
from mdstream.venues.timed import TRADES

log = logging.getLogger(__name__)

ANSWER_LIMIT_S, FARM_LIMIT_S = 60.0, 30.0
LONG_WAIT_S = 20.0
"""A longer one is logged."""
CLIENT_IDS = 5
"""How many are tried, from the one above the live feed's on."""
ID_IN_USE = 326
LINK_BROKEN, LINK_WELL = 1100, 1102
FARM_BROKEN, FARM_WELL = {2105, 2157}, {2106, 2107, 2158}
"""Of the farms that history and contract details come from. One that is inactive (2107) comes on demand."""
QUARTER, QUARTER_S, MOST_QUARTERS = "15m", 900, 720
"""Trading sessions begin at a quarter of an hour, so that none has both the end of one and the next one."""


class GatewayError(Exception):
    """The gateway's answer to a request is an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


class Connection:
    """One connection, and the requests that it has not answered yet. `lost`: why it has ended."""

    def __init__(self, address: Address) -> None:
        self.lost: LinkError | None = None
        self._open: dict[int, tuple[asyncio.Future[list[Any]], list[Any]]] = {}
        self._broken: dict[str, str] = {}
        self._changed = asyncio.Event()
        calls: dict[str, Callable[..., None]] = {
            "error": self._error,
            "contractDetails": self._row,
            "contractDetailsEnd": self._done,
            "historicalData": self._row,
            "historicalDataEnd": self._done,
            "historicalTicksLast": self._rows,
        }
        self.gateway = Gateway(address, calls, lost=self._ended, unreadable=self._unreadable)
        self.client = self.gateway.client

    async def answer(self, ask: Callable[[int], None]) -> list[Any]:
        """All rows of the answer to a request, which `ask` makes under a number. Raises GatewayError or LinkError."""
        try:
            number = self.client.getReqId()
            answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
            self._open[number] = answer, []
            ask(number)
            async with asyncio.timeout(ANSWER_LIMIT_S):
                return await answer
        except ConnectionError:
            raise LinkError(NOT_CONNECTED) from None
        except TimeoutError:
            raise self._given_up(f"no answer from the gateway for {ANSWER_LIMIT_S:g} s") from None
        finally:
            self._open.clear()

    async def well(self) -> None:
        """Wait until the gateway has its servers. Raises LinkError if that takes long."""
        try:
            async with asyncio.timeout(FARM_LIMIT_S):
                while self._broken and self.lost is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise self._given_up("; ".join(self._broken.values())) from None

    def _given_up(self, reason: str) -> LinkError:
        """End the connection: the gateway may be gone without a word, and tells a new one the state of its farms."""
        self.lost = LinkError(reason)
        self.client.disconnect()
        return self.lost

    def _row(self, number: int, row: BarData | ContractDetails | HistoricalTickLast) -> None:
        if number in self._open:
            self._open[number][1].append(row)

    def _rows(self, number: int, rows: Sequence[HistoricalTickLast], is_last: bool) -> None:
        for row in rows:
            self._row(number, row)
        if is_last:
            self._done(number)

    def _done(self, number: int, *_: str) -> None:
        if number in self._open:
            answer, rows = self._open[number]
            if not answer.done():
                answer.set_result(rows)

    def _fail(self, number: int, error: Exception) -> None:
        answer, _ = self._open[number]
        if not answer.done():
            answer.set_exception(error)

    def _error(self, number: int, code: int, message: str, *_: str) -> None:
        if code in FARM_BROKEN | FARM_WELL | {LINK_BROKEN, LINK_WELL, DATA_LOST}:
            self._hear_of_servers(code, message)
        elif number in self._open and code not in NOTICES:
            self._fail(number, GatewayError(code, message))
        if code == DATA_LOST:
            for each in self._open:
                self._fail(each, GatewayError(code, message))

    def _hear_of_servers(self, code: int, message: str) -> None:
        farm = re.split("[:.]", message.rstrip("."))[-1]
        if code in (LINK_WELL, DATA_LOST):  # then it tells of each farm that is not
            self._broken.clear()
        elif code in FARM_WELL:
            self._broken.pop(farm, None)
        else:
            self._broken[farm] = told(code, message)
        self._changed.set()

    def _unreadable(self, text: str) -> None:
        for each in self._open:
            self._fail(each, LinkError(f"ib_async could not decode a message: {text[:200]}"))

    def _ended(self, error: LinkError) -> None:
        self.lost = error
        self._changed.set()
        for each in self._open:
            self._fail(each, error)


class IbClient:
    """Queries the gateway at ib://HOST:PORT[?clientId=NUMBER]. Raises SettingsError if `address` is none."""

    def __init__(self, address: str) -> None:
        self._address = Address.of(address)
        self._connection: Connection | None = None
        self._contracts: dict[str, Contract] = {}
        self._pacing = Pacing()
        self._turn = asyncio.Lock()

    async def get(self, target: str) -> Answer | RetryableError:
        """The answer to a target of IbTimed."""
        query = Query.of(target)
        try:
            async with self._turn:
                body = await (self._ticks(query) if query.interval == TRADES else self._bars(query))
                return Answer(OK, {}, msgspec.json.encode(self._about(query) | body))
        except GatewayError as error:
            return refused(error.code, error.message)
        except LinkError as error:
            return RetryableError(str(error))

    async def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.client.disconnect()

    def _about(self, query: Query) -> dict[str, Any]:
        contract = self._contracts[query.symbol]
        return {"conId": contract.conId, "exchange": contract.exchange, "begin": query.begin_s, "end": query.end_s}

    async def _bars(self, query: Query) -> dict[str, Any]:
        bars, said = await self._rows(query)
        rows = [(b.date, b.open, b.high, b.low, b.close, b.volume, b.average, b.barCount) for b in bars]
        return {**said, "bars": rows}

    async def _ticks(self, query: Query) -> dict[str, Any]:
        ticks, said = await self._rows(query)
        if not ticks:
            return {**said, "ticks": [], "next": await self._traded_again(query)}
        return {"ticks": [_row(tick) for tick in ticks]}

    async def _traded_again(self, query: Query) -> int:
        """The first quarter of an hour behind the one that a query begins in that has trades; or up to where there is
        none."""
        begin_s = (query.begin_s // QUARTER_S + 1) * QUARTER_S
        end_s = min(query.end_s, begin_s + MOST_QUARTERS * QUARTER_S)
        if begin_s >= end_s:
            return query.end_s
        bars, _ = await self._rows(Query(query.symbol, QUARTER, begin_s, end_s))
        traded = (int(bar.date) for bar in bars if bar.barCount > 0)
        return min((second for second in traded if begin_s <= second < end_s), default=end_s)

    async def _rows(self, query: Query) -> tuple[list[Any], Mapping[str, Any]]:
        """The answer to a query; without any rows, with the gateway's words if it has some. Raises GatewayError or
        LinkError."""
        try:
            return await self._asked(query), {}
        except GatewayError as error:
            if not says_no_data(error.message):
                raise
            return [], {"code": error.code, "message": error.message}

    async def _asked(self, query: Query) -> list[Any]:
        request = Request(query.symbol, query.what, query.small)
        await self._wait_for_turn(request)
        connection = await self._connected()
        contract = await self._contract(connection, query.symbol)
        await connection.well()
        self._pacing.made(request, asyncio.get_running_loop().time())
        client = connection.client

        def bars(number: int) -> None:
            client.reqHistoricalData(
                number, contract, query.end, query.duration, BAR_SIZES[query.interval], "TRADES",
                useRTH=False, formatDate=2, keepUpToDate=False, chartOptions=[],
            )  # fmt: skip

        def ticks(number: int) -> None:
            client.reqHistoricalTicks(
                number, contract, query.begin, "", MOST_TICKS, "TRADES", useRth=False, ignoreSize=False, miscOptions=[]
            )

        return await connection.answer(ticks if query.interval == TRADES else bars)

    async def _wait_for_turn(self, request: Request) -> None:
        wait_s = self._pacing.wait_s(request, asyncio.get_running_loop().time())
        if wait_s > LONG_WAIT_S:
            log.info("ib: %d requests of short bars or ticks in ten minutes: the next in %.0f s", MOST_SMALL, wait_s)
        await asyncio.sleep(wait_s)

    async def _connected(self) -> Connection:
        """The connection, or a new one if it has ended. Raises LinkError."""
        if self._connection is not None and self._connection.lost is None:
            return self._connection
        for above in range(1, CLIENT_IDS + 1):
            connection = Connection(self._address._replace(client_id=self._address.client_id + above))
            try:
                await connection.gateway.open(OPEN_TIMEOUT_S)
            except LinkError:
                if connection.gateway.refusal != ID_IN_USE or above == CLIENT_IDS:
                    raise
            else:
                break
        self._connection = connection
        self._contracts.clear()  # asked for again, so that what it says about its farms is heard before
        return connection

    async def _contract(self, connection: Connection, symbol: str) -> Contract:
        """The one contract of a symbol. Raises GatewayError if there are several, or none."""
        if symbol not in self._contracts:
            fields: Any = contract_of(symbol)
            wanted = Contract(**fields)
            found = await connection.answer(lambda number: connection.client.reqContractDetails(number, wanted))
            contract = the_only(symbol, found)
            if isinstance(contract, str):
                raise GatewayError(200, contract)
            self._contracts[symbol] = contract
        return self._contracts[symbol]


def _row(tick: HistoricalTickLast) -> tuple[object, ...]:
    """The fields of a tick as the venue sends them."""
    of = tick.tickAttribLast
    mask = of.pastLimit | of.unreported << 1
    return int(tick.time.timestamp()), mask, tick.price, tick.size, tick.exchange, tick.specialConditions
