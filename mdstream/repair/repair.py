"""The state of one request from md.gaps: pages out, answers in, frames to publish. Pure: time is an argument.

page ──> answer ──┬─> a frame to publish, or nothing new ──> next_page_in_s: now │ next round after a pause │ done
                  ├─> RetryableError: ask for the same page later, forever
                  └─> PermanentError: done
done ──> lost: what is still missing, and why
"""

from __future__ import annotations

import msgspec

from mdstream.errors import FrameError
from mdstream.repair.search import ROUNDS, Search
from mdstream.repairs import RepairRequest, Unrecoverable, rest_frame
from mdstream.venues.history import History
from mdstream.venues.past import Page
from mdstream.venues.rest import Answer, PermanentError, RetryableError
from mdstream.venues.spans import Span, count

NOT_THERE = "not in the venue's history"
MAX_REASON_CHARS = 300


class Repair:
    """The state of one request. `patience_s`: total time to wait for ids that the venue does not show (yet)."""

    def __init__(self, request: RepairRequest, history: History, *, patience_s: float) -> None:
        self.request = request
        self._history, self._patience_s = history, patience_s
        self._search = Search(Span(request.first_id, request.last_id), newest_first=history.newest_first)
        self._requested = Span(0, 0)
        self._reason = NOT_THERE
        self.understood = True
        """Whether all answers were: else the venue may have what is missing."""

    @property
    def found(self) -> int:
        """Trades of the request found so far."""
        return self._search.found

    @property
    def missing(self) -> int:
        """Trades of the request still missing."""
        return count(self._search.missing)

    def page(self) -> Page | PermanentError:
        """What to ask for now."""
        self._requested = self._search.next(self._history.most_rows)
        page = self._history.ask(self.request, self._requested)
        if isinstance(page, PermanentError):
            self._reason = page.reason
        return page

    def take(self, page: Page, answer: Answer, *, now_s: float) -> bytes | PermanentError | RetryableError | None:
        """Take in the answer to the last page: a frame to publish, an error, or None if it brought nothing new.

        `now_s` is in seconds since 1970.
        """
        verdict = self._history.judge(answer, now_s=now_s)
        if isinstance(verdict, PermanentError):
            self._reason = verdict.reason
        if verdict is not None:
            return verdict
        frame = rest_frame(page.target, self.request.id_space, answer.body)
        try:
            came, rows = self._history.read(self.request, frame)
        except (FrameError, msgspec.MsgspecError) as error:
            self._reason, self.understood = f"the venue's answer cannot be understood: {error}", False
            came, rows = [], page.rows
        return frame if self._search.answered(self._requested, came, at_end=rows < page.rows) else None

    def next_page_in_s(self) -> float | None:
        """Seconds to wait before the next page; None if there is none."""
        if not self._search.round_is_over:
            return 0.0
        if not self._search.end_round():
            return None
        # Doubling: 1/7, 2/7 and 4/7 of the patience lie between the four rounds.
        pauses_before = max(0, self._search.fruitless_rounds - 1)
        return self._patience_s * (1 << pauses_before) / ((1 << (ROUNDS - 1)) - 1)

    def lost(self) -> list[Unrecoverable]:
        """What is still missing when there is no page left to ask for."""
        r, reason = self.request, self._reason[:MAX_REASON_CHARS]
        return [Unrecoverable(r.symbol, r.provider, r.id_space, *span, reason) for span in self._search.missing]
