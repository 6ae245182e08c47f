"""The base of simulated REST endpoints: a path and a query in, a venue's answer out. Pure: no socket, no clock."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl

from mdstream.declared import Declared
from mdstream.simulator.exchange import Exchange
from mdstream.simulator.market import SECOND_NS


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


class Rest(Declared, ABC):
    """One venue's endpoints. `budget` replaces the venue's own."""

    name: ClassVar[str]
    venue_budget: ClassVar[Budget]

    def __init__(self, exchange: Exchange, budget: Budget | None = None) -> None:
        self._exchange = exchange
        self.budget = budget or self.venue_budget
        self.requests = self.refused = 0
        """Requests so far, and those refused by the budget."""

    @abstractmethod
    def get(self, path: str, query: str, now_ns: int) -> Answer:
        """The answer to a GET of `path` (below /NAME) with the query string `query`."""


def parameters(query: str) -> dict[str, str]:
    """A query's parameters, the last of each name."""
    return dict(parse_qsl(query, keep_blank_values=True))


def as_json(content: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in compact JSON, as the venues write it."""
    return Answer(status, json.dumps(content, separators=(",", ":")).encode(), headers or {})


def whole_seconds(ns: int) -> int:
    """Seconds, rounded up, at least one, for Retry-After."""
    return max(1, -(-ns // SECOND_NS))
