"""The base of what we ask a venue over REST: where it is, and what an answer without the asked-for content means.

    target ─ HTTP, elsewhere ─> Answer ─ judge ─> None: read it
                                            ├──> RetryableError
                                            └──> PermanentError

Pure: no I/O, no clock. Its two kinds are History (history.py) and Listing (listing.py).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, NamedTuple

import msgspec

from mdstream.net.redact import scrubbed
from mdstream.venues import address, rest_setting
from mdstream.venues.declared import Declared
from mdstream.venues.feed import UNREADABLE
from mdstream.venues.providers import provider

OK = 200
MAX_QUOTED_CHARS = 200
MAX_WAIT_S = 3 * 86_400.0
"""The longest known ban of a venue (Binance: three days). A longer requested wait is cut to this."""


_check_json = msgspec.json.Decoder(msgspec.Raw).decode


class Answer(NamedTuple):
    """An HTTP response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class PermanentError(NamedTuple):
    """The venue will never give what was asked for."""

    reason: str


class RetryableError(NamedTuple):
    """Not available now. `wait_s`: how long the venue asks to wait; None if it does not say."""

    reason: str
    wait_s: float | None = None


class Complaint(NamedTuple):
    """The venue's error message in an answer. `final`: asking again cannot help."""

    text: str
    final: bool


class Api(Declared, ABC):
    """One venue's REST interface."""

    name: ClassVar[str]
    """The provider's name."""
    default_url: ClassVar[str]
    sandbox_url: ClassVar[str | None] = None
    """The same of its sandbox, or testnet; None if that has none."""
    error: ClassVar[type[msgspec.Struct]]
    """The message of an answer with an error."""

    def __init__(self) -> None:
        self._decode_error = msgspec.json.Decoder(self.error).decode
        self._provider = provider(self.name)

    def base_url(self, addresses: Mapping[str, str]) -> str:
        """The address of its REST interface, by `addresses`. Raises SettingsError."""
        setting = rest_setting(self.name)
        return address(addresses, setting, official=self.default_url, sandbox=self.sandbox_url).rstrip("/")

    @abstractmethod
    def complaint(self, status: int, error: Any) -> Complaint | None:
        """What the `error` of an answer with that HTTP status says; None if it is none."""

    def judge(self, answer: Answer, *, now_s: float) -> PermanentError | RetryableError | None:
        """The error in an answer; None: it should hold what was asked for. `now_s` is in seconds since 1970.

        Only the venue's own message is final: a proxy, a maintenance page or a wrong base URL also answers 404.
        """
        complaint = self._complaint(answer)
        if complaint is None and answer.status == OK:
            return _unread(answer)
        if complaint is not None and complaint.final:
            return PermanentError(complaint.text)
        text = complaint.text if complaint else answer.body[:MAX_QUOTED_CHARS].decode("utf-8", "replace")
        return RetryableError(f"HTTP {answer.status}: {scrubbed(text)}", retry_after_s(answer.headers, now_s=now_s))

    def _complaint(self, answer: Answer) -> Complaint | None:
        """The venue's error message in an answer; None if it has none, or is not from the venue."""
        try:
            error = self._decode_error(answer.body)
        except (msgspec.MsgspecError, *UNREADABLE):
            return None
        return self.complaint(answer.status, error)


def _unread(answer: Answer) -> RetryableError | None:
    """An answer that was cut short, or is not the venue's."""
    try:
        _check_json(answer.body)
    except (msgspec.MsgspecError, *UNREADABLE) as error:
        return RetryableError(f"HTTP {answer.status} without JSON: {error}")
    return None


def retry_after_s(headers: Mapping[str, str], *, now_s: float) -> float | None:
    """Seconds to wait by the header Retry-After (RFC 9110, 10.2.3: seconds, or a date); None without a valid one.

    At most MAX_WAIT_S.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+", text):
        return min(float(text), MAX_WAIT_S)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # A date without a zone counts as UTC, as HTTP dates always are.
    until_s = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return min(max(0.0, until_s - now_s), MAX_WAIT_S)
