"""The base of every venue's trade history: which page to request, and what an answer means. Pure: no I/O, no clock.

    missing ids ─ ask ─> Page ─ HTTP, elsewhere ─> Answer ─ judge ─> trades ─ read ─> the ids it holds
                                                               ├──> RetryableError
                                                               └──> PermanentError

The venue's provider has to decode the answers (mdstream/repairs.py).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, NamedTuple

import msgspec

from mdstream.errors import SettingsError, SymbolError
from mdstream.net.redact import redacted, scrubbed
from mdstream.repairs import RepairRequest
from mdstream.ticks import TradeTick
from mdstream.venues import rest_setting, ws_setting
from mdstream.venues.declared import Declared
from mdstream.venues.feed import UNREADABLE
from mdstream.venues.providers import provider
from mdstream.venues.spans import Span, count

OK = 200
MAX_QUOTED_CHARS = 200
MAX_WAIT_S = 3 * 86_400.0
"""The longest known ban of a venue (Binance: three days). A longer requested wait is cut to this."""

_HOST = re.compile(r"[a-z]+://(?:[^/@]*@)?([^/:?#]+)")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Our own request limits at one venue, in its units (requests, or their weights). `burst`: at once."""

    per_s: float
    burst: float


class Endpoint(NamedTuple):
    """Where past trades are requested. `path`: path and query after the base URL, with the fields symbol (the venue's),
    first, last, after (the id behind the last) and rows; `cost`: share of the budget of a request."""

    path: str
    cost: float = 1.0


class Page(NamedTuple):
    """One request. `target`: path and query after the base URL; `rows`: trades in it; `cost`: share of the budget."""

    target: str
    rows: int
    cost: float


class Answer(NamedTuple):
    """An HTTP response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class PermanentError(NamedTuple):
    """The venue will never give the requested trades."""

    reason: str


class RetryableError(NamedTuple):
    """Not available now. `wait_s`: how long the venue asks to wait; None if it does not say."""

    reason: str
    wait_s: float | None = None


class Complaint(NamedTuple):
    """The venue's error message in an answer without trades. `final`: asking again cannot help."""

    text: str
    final: bool


class History(Declared, ABC):
    """One venue's REST interface for past trades."""

    name: ClassVar[str]
    """The provider's name."""
    default_url: ClassVar[str]
    sites: ClassVar[Mapping[str, str]] = {}
    """Known hosts, websocket and REST, each with the site it belongs to: an exchange, its testnet."""
    endpoints: ClassVar[Mapping[str, Endpoint]]
    """By the id spaces it can be queried in, as TradeTick names them."""
    newest_first: ClassVar[bool]
    """The reading order: if True a page holds the newest trades below an id, else the oldest from an id on."""
    most_rows: ClassVar[int]
    limits: ClassVar[Limits]
    error: ClassVar[type[msgspec.Struct]]
    """The message of an answer with an error."""

    def __init__(self) -> None:
        self._decode_error = msgspec.json.Decoder(self.error).decode
        self._provider = provider(self.name)

    def base_url(self, addresses: Mapping[str, str]) -> str:
        """The address of its REST interface: the override in `addresses`, else the venue's own."""
        return (addresses.get(rest_setting(self.name)) or self.default_url).rstrip("/")

    def check_addresses(self, addresses: Mapping[str, str]) -> str | None:
        """A warning if only one of websocket and REST address is known to belong to a site; None if both belong to the
        same one, or both are unknown. Raises SettingsError if they belong to different sites."""
        urls = self._provider.url(addresses), self.base_url(addresses)
        live, past = (self.sites.get(_host(url)) for url in urls)
        if live == past:
            return None
        both = f"{ws_setting(self.name)}={redacted(urls[0])} and {rest_setting(self.name)}={redacted(urls[1])}"
        if live is not None and past is not None:
            raise SettingsError(
                f"{both}: one is of {live}, the other of {past}; trades are repaired from where they are"
            )
        return f"{both}: only one of them is {live or past}; set both if they belong together"

    def ask(self, request: RepairRequest, span: Span) -> Page | PermanentError:
        """The page with the trades `span` of a request, which may hold at most `most_rows` of them."""
        endpoint = self.endpoints.get(request.id_space)
        if endpoint is None:
            return PermanentError(f"{self.name} gives no history of {request.id_space or 'trades without an id space'}")
        try:
            symbol = self._provider.to_venue(request.symbol)
        except SymbolError as error:
            return PermanentError(str(error))
        rows, after = count([span]), span.last + 1
        return Page(endpoint.path.format(symbol=symbol, rows=rows, after=after, **span._asdict()), rows, endpoint.cost)

    @abstractmethod
    def complaint(self, status: int, error: Any) -> Complaint | None:
        """What the `error` of an answer with that HTTP status says; None if it is none."""

    def load(self, headers: Mapping[str, str]) -> float | None:  # noqa: ARG002  a hook: most venues do not report it
        """The used share of the venue's limit, by everyone at this address; None if the venue does not report it."""
        return None

    def judge(self, answer: Answer, *, now_s: float) -> PermanentError | RetryableError | None:
        """The error in an answer; None: it should hold trades. `now_s` is in seconds since 1970.

        Only the venue's own message is final: a proxy, a maintenance page or a wrong base URL also answers 404.
        """
        complaint = self._complaint(answer)
        if complaint is None and answer.status == OK:
            return None
        if complaint is not None and complaint.final:
            return PermanentError(complaint.text)
        text = complaint.text if complaint else answer.body[:MAX_QUOTED_CHARS].decode("utf-8", "replace")
        return RetryableError(f"HTTP {answer.status}: {scrubbed(text)}", retry_after_s(answer.headers, now_s=now_s))

    def _complaint(self, answer: Answer) -> Complaint | None:
        """The venue's error message in an answer; None if the answer is a list of trades, or not from the venue."""
        try:
            error = self._decode_error(answer.body)
        except (msgspec.MsgspecError, *UNREADABLE):
            return None
        return self.complaint(answer.status, error)

    def read(self, request: RepairRequest, frame: bytes) -> tuple[list[Span], int]:
        """The ids of the request's trades in a REST frame, and how many trades it holds in all.

        Uses the provider's own `decode`: only trades that the canonical stream will understand count. Raises FrameError
        or msgspec.MsgspecError if the frame cannot be understood.
        """
        trades = [tick for tick in self._provider.decode(frame) if isinstance(tick, TradeTick)]
        wanted = (trade for trade in trades if trade.symbol == request.symbol and trade.id_space == request.id_space)
        return [Span(trade.first_id, trade.last_id) for trade in wanted], len(trades)


def _host(address: str) -> str:
    match = _HOST.match(address.lower())
    return match[1] if match else ""


def retry_after_s(headers: Mapping[str, str], *, now_s: float) -> float | None:
    """Seconds to wait by the header Retry-After (RFC 9110, 10.2.3: seconds, or a date); None without a valid one.

    At most MAX_WAIT_S.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), MAX_WAIT_S)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    # A date without a zone counts as UTC, as HTTP dates always are.
    until_s = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return min(max(0.0, until_s - now_s), MAX_WAIT_S)
