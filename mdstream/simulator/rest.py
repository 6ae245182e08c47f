"""The base of simulated REST endpoints: a path and a query in, a venue's answer out. Pure: no socket, no clock."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from itertools import islice, takewhile
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl

from mdstream.simulator.actions import Allowance
from mdstream.simulator.candles import Candle, candles
from mdstream.simulator.exchange import Exchange
from mdstream.simulator.history import Fill, Tape
from mdstream.simulator.listing import Listing
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.requests import RefusedError
from mdstream.venues.declared import Declared

NO_HEADERS: Mapping[str, str] = {}

_NUMBER = re.compile(r"[0-9]{1,18}")


class Answer(NamedTuple):
    """An answer to an HTTP client. `headers` are added to those that every answer has."""

    status: HTTPStatus
    body: bytes
    headers: Mapping[str, str] = {}
    content_type: str = "application/json"


class Budget(NamedTuple):
    """`most` of what the venue counts (requests, or weight) in any `per_s` seconds."""

    most: int
    per_s: float


class Bucket:
    """A token bucket: filled steadily at the rate of `budget`, holds up to `burst` times its requests."""

    def __init__(self, budget: Budget, burst: float) -> None:
        self._per_ns = budget.most / (budget.per_s * SECOND_NS)
        self._most = self._level = max(1.0, budget.most * burst)
        self._at_ns = 0

    def take(self, now_ns: int) -> bool:
        """Take a token; False if there is none."""
        self._level = min(self._most, self._level + (now_ns - self._at_ns) * self._per_ns)
        self._at_ns = now_ns
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


class Rest(Declared, ABC):
    """One venue's endpoints. `budget` replaces the venue's own."""

    name: ClassVar[str]
    venue_budget: ClassVar[Budget]
    """Requests."""
    burst: ClassVar[float | None] = None
    """Factor by which requests at once may exceed the budget, which then fills steadily; None: any window counts."""
    too_many: ClassVar[Answer] = Answer(HTTPStatus.TOO_MANY_REQUESTS, b"")
    """The answer beyond the budget."""

    def __init__(self, exchange: Exchange, budget: Budget | None = None) -> None:
        self._exchange = exchange
        self.budget = budget or self.venue_budget
        self.requests = self.refused = 0
        """Requests so far, and those refused by the budget."""
        self.caller = ""
        """Who asks, by the key of the request that is being answered."""
        self._allowance = Bucket(self.budget, self.burst) if self.burst else Allowance(*self.budget)

    def get(self, path: str, query: str, now_ns: int, headers: Mapping[str, str] = NO_HEADERS) -> Answer:
        """The answer to a GET of `path` (below /NAME) with the query string `query`; names of headers in lower case."""
        self.requests += 1
        given = parameters(query)
        try:
            self.caller = self.log_in(path, headers)
            self.admit(path, given, now_ns)
            return self.answer(path, given, now_ns)
        except RefusedError as refused:
            reply: Answer = refused.replies[0]
            return reply

    def log_in(self, path: str, headers: Mapping[str, str]) -> str:  # noqa: ARG002  a hook: most venues ask for no key
        """The key of a request. Raises RefusedError for one that is not accepted."""
        return ""

    def admit(self, path: str, query: Mapping[str, str], now_ns: int) -> None:  # noqa: ARG002  the default counts all
        """Count a request. Raises RefusedError beyond the budget."""
        if not self._allowance.take(now_ns):
            self.refused += 1
            raise RefusedError(self.too_many)

    @abstractmethod
    def answer(self, path: str, query: dict[str, str], now_ns: int) -> Answer:
        """The answer to a request that is within the budget. Raises RefusedError."""


def newest(listing: Listing, *, below: int | None, above: int | None, limit: int) -> Iterator[Fill]:
    """At most `limit` fills with ids between the two (None: no bound), newest first."""
    tape = listing.instrument.tape
    older = tape.fills_back((tape.next_id if below is None else below) - 1)
    return islice(takewhile(lambda fill: above is None or fill.trade_id > above, older), limit)


def continuous(tape: Tape, interval_ns: int, begin_ns: int, end_ns: int) -> Iterator[Candle]:
    """As `candles`, and from the first fill on a flat one for each interval without any, as most venues give it."""
    begin, end = (-(-ns // interval_ns) * interval_ns for ns in (begin_ns, end_ns))
    traded = {candle.ts_open_ns: candle for candle in candles(tape, interval_ns, begin, end)}
    before = next(tape.fills_back(tape.id_at(begin) - 1), None)
    close = before.ticks if before else None
    for ts_ns in range(begin, end, interval_ns):
        if (found := traded.get(ts_ns)) is not None:
            close = found.close
            yield found
        elif close is not None:
            yield Candle(ts_ns, close, close, close, close, 0, 0, 0)


def quoted(listing: Listing, candle: Candle) -> str:
    """A candle's turnover, in quote currency."""
    i = listing.instrument
    return f"{candle.turnover / 10 ** (i.price_decimals + i.size_decimals):.8f}"


def step(decimals: int, width: int = 0) -> str:
    """The smallest step of a number with so many decimals, padded with zeros: step(2, 8) is 0.01000000."""
    return f"{10.0**-decimals:.{max(decimals, width)}f}"


def turnover(listing: Listing) -> str:
    """What was traded in 24 hours, in quote currency."""
    i = listing.instrument
    return f"{float(listing.base_size(i.day_lots)) * float(listing.price(i.last.ticks)):.8f}"


def is_number(text: str) -> bool:
    """Whether a parameter is a whole number of at most 18 digits."""
    return _NUMBER.fullmatch(text) is not None


def numbers(query: Mapping[str, str], names: str, refused: Callable[[str], RefusedError]) -> list[int | None]:
    """The parameters with these names, which are separated by spaces; None for one that is not given.

    Raises `refused(name)` for one that is no number.
    """
    for name in names.split():
        if name in query and not is_number(query[name]):
            raise refused(name)
    return [int(query[name]) if name in query else None for name in names.split()]


def parameters(query: str) -> dict[str, str]:
    """A query's parameters, the last of each name."""
    return dict(parse_qsl(query, keep_blank_values=True))


def as_json(content: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in compact JSON, as the venues write it."""
    return Answer(status, json.dumps(content, separators=(",", ":")).encode(), headers or {})


def whole_seconds(ns: int) -> int:
    """Seconds, rounded up, at least one, for Retry-After."""
    return max(1, -(-ns // SECOND_NS))
