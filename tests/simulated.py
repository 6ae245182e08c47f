"""Simulated venues without a socket: their sessions, their listings, and what they answer."""

from __future__ import annotations

import json
from typing import Any

from mdstream.simulator.actions import Action, Send
from mdstream.simulator.exchange import Session
from mdstream.simulator.listing import Listing
from mdstream.simulator.market import Market
from mdstream.simulator.venues import EXCHANGES

NOW_NS = 1_767_625_200_123_456_789


def session(venue: str, path: str | None = None, query: str = "") -> Session:
    """A connection to the venue, at its own path unless another is given."""
    exchange = EXCHANGES[venue](Market(1, 1000))
    found = exchange.session(exchange.path if path is None else path, query, NOW_NS)
    assert found is not None
    return found


def listing(venue: str, symbol: str) -> Listing:
    """An instrument of the venue, by the venue's name; its ids begin at 1000."""
    found = EXCHANGES[venue](Market(1, 1000)).listing(symbol, NOW_NS)
    assert found is not None
    return found


def answers(to: Session, request: Any, now_ns: int = NOW_NS) -> tuple[list[Any], list[Action]]:
    """The answers to a request, parsed, and the other actions."""
    actions = to.received(request if isinstance(request, str) else json.dumps(request), now_ns)
    return [json.loads(a.text) for a in actions if isinstance(a, Send)], [a for a in actions if not isinstance(a, Send)]
