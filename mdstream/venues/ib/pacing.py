"""The venue's rules for requests of history: how long a request has to wait. Pure.

The same request not twice within 15 s; fewer than six for one contract within 2 s; of bars of 30 s and shorter, and
of ticks, at most 60 within any ten minutes. Each with a second more, since what counts is when a request arrives.

Source: IBKR's TWS API page on historical limitations (read 2026-11). It has lifted the rules for bars of a minute and
longer, but still slows down and cuts off who asks too much: the first two are kept for all bars.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

SAME_S, CONTRACT_S, SMALL_S = 16.0, 3.0, 601.0
MOST_OF_A_CONTRACT, MOST_SMALL = 5, 60


class Request(NamedTuple):
    """A request; `small`: for bars of 30 s and shorter, or for ticks."""

    contract: str
    what: str
    small: bool


class Pacing:
    """Of one user of the venue, who makes the requests that are told here and no others. Times are of any steady clock,
    in seconds."""

    def __init__(self) -> None:
        self._same: dict[Request, float] = {}
        self._of_contract: dict[str, deque[float]] = {}
        self._small: deque[float] = deque(maxlen=MOST_SMALL)

    def wait_s(self, request: Request, now_s: float) -> float:
        """How long the request has to wait; 0 if it may be made now."""
        due_s = [now_s, self._same.get(request, now_s - SAME_S) + SAME_S]
        of_contract = self._of_contract.get(request.contract)
        if of_contract is not None and len(of_contract) == MOST_OF_A_CONTRACT:
            due_s.append(of_contract[0] + CONTRACT_S)
        if request.small and len(self._small) == MOST_SMALL:
            due_s.append(self._small[0] + SMALL_S)
        return max(due_s) - now_s

    def made(self, request: Request, now_s: float) -> None:
        """The request is made."""
        self._same = {each: at_s for each, at_s in self._same.items() if now_s - at_s < SAME_S}
        self._of_contract = {each: at for each, at in self._of_contract.items() if now_s - at[-1] < CONTRACT_S}
        self._same[request] = now_s
        self._of_contract.setdefault(request.contract, deque(maxlen=MOST_OF_A_CONTRACT)).append(now_s)
        if request.small:
            self._small.append(now_s)
