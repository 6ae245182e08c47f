"""Every error mdstream raises on purpose.

MdstreamError
├── SettingsError            a setting or argument that cannot be used
│   └── SymbolError          a symbol that does not have the venue's form
│       └── UnlistedError    one that the venue does not list, or a pattern that matches nothing
│           └── UnknownError     a pattern, while what the venue lists is not known
├── FrameError               a frame that cannot be understood: goes to md.dead with this text
│   └── MisplacedError       a frame in a partition of other instruments
├── FeedError                a venue's feed that was given up on
│   └── RefusedError         the venue refuses us: a SettingsError, too
├── ListingError             a venue's list of instruments that cannot be had
├── BackfillError            history that cannot be taken, or not to the end
├── LinkError                a connection to a venue that cannot be opened, or is lost
│   ├── HandshakeError       an HTTP status came in place of a websocket
│   └── OversizedError       it was closed because of a frame above the limit
├── CaptureError             a capture file that cannot be read
├── BrokerError              the Kafka broker cannot be reached or lacks what is needed
│   └── AccessError          it rejects our credentials, or we do not trust it
├── HoleError                numbers of events that a reader did not get
├── RecordError              a record of a public topic that is no event of ours
├── OvertakenError           a partition that another worker has, or may have, claimed
├── SinkError                a sink that cannot store anything now
├── DatabaseError            the database refuses a request, or is unreachable
│   ├── SchemaError          its tables are not those of this mdstream version
│   └── TooSlowError         the request took longer than the limit: a smaller one may succeed
└── UnsupportedVersionError  a dependency whose internals the transport was not tested with
"""

from __future__ import annotations


class MdstreamError(Exception):
    """Base of all; `retriable`: trying again later may help."""

    retriable = False


class SettingsError(MdstreamError):
    """A setting or argument that cannot be used. The message names it, its value and what is allowed."""


class SymbolError(SettingsError):
    """`symbol` does not have the form of the symbols of `provider`."""

    def __init__(self, provider: str, symbol: str, expected: str) -> None:
        super().__init__(provider, symbol, expected)
        self.provider, self.symbol, self.expected = provider, symbol, expected

    def __str__(self) -> str:
        return f"{self.provider} has no symbol of the form {self.symbol!r}: expected {self.expected}"


class UnlistedError(SymbolError):
    """The venue lists no `symbol`, or nothing of that pattern; `expected` goes on from there."""

    def __str__(self) -> str:
        return f"{self.provider} does not list {self.symbol}: {self.expected}"


class UnknownError(UnlistedError):
    """What the pattern `symbol` stands for is not known without the venue's list, which cannot be had: `expected`."""

    retriable = True

    def __str__(self) -> str:
        return f"{self.provider}: {self.symbol} needs the venue's list of instruments: {self.expected}"


class FrameError(MdstreamError):
    """A raw frame that cannot be understood; the text becomes the reason on md.dead."""


class MisplacedError(FrameError):
    """A frame of `symbol` in `partition`, which is not the partition of its key: processing it would start a second
    series of the instrument, with its own numbers."""

    def __init__(self, symbol: str, partition: int) -> None:
        super().__init__(symbol, partition)
        self.symbol, self.partition = symbol, partition

    def __str__(self) -> str:
        return (
            f"{self.symbol} does not belong to partition {self.partition}: "
            "its writer has to use the symbol as the key, and Kafka's default partitioner (murmur2)"
        )


class FeedError(MdstreamError):
    """`provider` was given up on after `attempts` connections in a row without data; `reason` is the last one's."""

    retriable = True

    def __init__(self, provider: str, attempts: int, reason: str) -> None:
        super().__init__(provider, attempts, reason)
        self.provider, self.attempts, self.reason = provider, attempts, reason

    def __str__(self) -> str:
        return f"{self.provider} gave no data in {self.attempts} connections in a row, the last one: {self.reason}"


class RefusedError(FeedError, SettingsError):
    """`provider` refuses us for `reason`, which ends with what to set. The other feeds of a process go on."""

    retriable = False

    def __init__(self, provider: str, reason: str) -> None:
        super().__init__(provider, 1, reason)

    def __str__(self) -> str:
        return f"{self.provider} refuses us: {self.reason}"


class ListingError(MdstreamError):
    """The list of instruments of `provider` cannot be had, for `reason`."""

    retriable = True

    def __init__(self, provider: str, reason: str) -> None:
        super().__init__(provider, reason)
        self.provider, self.reason = provider, reason

    def __str__(self) -> str:
        return f"{self.provider} does not say what it lists: {self.reason}"


class BackfillError(MdstreamError):
    """The history of `symbol` from `provider` cannot be taken, or not to the end, for `reason`."""

    def __init__(self, provider: str, symbol: str, reason: str) -> None:
        super().__init__(provider, symbol, reason)
        self.provider, self.symbol, self.reason = provider, symbol, reason

    def __str__(self) -> str:
        return f"no history of {self.symbol} from {self.provider}: {self.reason}"


class LinkError(MdstreamError):
    """A connection to a venue cannot be opened, or is lost. The text may quote its address, secrets masked."""

    retriable = True


class HandshakeError(LinkError):
    """The server answered a websocket handshake with HTTP `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        return f"HTTP {self.status} in place of a websocket"


class OversizedError(LinkError):
    """The connection was closed because of a frame above the limit."""


class CaptureError(MdstreamError):
    """Line `line` (from 1) of the capture file `path` cannot be read."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(path, line, reason)
        self.path, self.line, self.reason = path, line, reason

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: {self.reason}"


class BrokerError(MdstreamError):
    """The broker cannot be reached, or refuses a request."""

    retriable = True


class AccessError(BrokerError):
    """The broker rejects our credentials, or has a certificate we do not trust. The message names the setting."""

    retriable = False


class HoleError(MdstreamError):
    """The `kind` (trades, quotes, books) of `symbol` numbered [first, last] are not on the topic."""

    def __init__(self, kind: str, symbol: str, first: int, last: int) -> None:
        super().__init__(kind, symbol, first, last)
        self.kind, self.symbol, self.first, self.last = kind, symbol, first, last

    def __str__(self) -> str:
        count = self.last - self.first + 1
        return (
            f"{count:,} {self.kind} of {self.symbol} are missing, seq {self.first} to {self.last}: the topic's "
            "retention passed this reader, or the platform lost its state (`mdstream tail status`); "
            f"go on behind them with start={self.last + 1}, or pass on_hole"
        )


class RecordError(MdstreamError):
    """The record at `offset` of `topic`[`partition`] cannot be read as an event, for `reason`."""

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        super().__init__(topic, partition, offset, reason)
        self.topic, self.partition, self.offset, self.reason = topic, partition, offset, reason

    def __str__(self) -> str:
        return (
            f"{self.topic}[{self.partition}] offset {self.offset} is no event of this mdstream: {self.reason}: "
            "find its writer, or upgrade mdstream"
        )


class UnsupportedVersionError(MdstreamError):
    """The transport subclasses internals of `package`, and was tested only with version `expected`."""

    def __init__(self, package: str, found: str, expected: str) -> None:
        super().__init__(package, found, expected)
        self.package, self.found, self.expected = package, found, expected

    def __str__(self) -> str:
        return (
            f"{self.package} {self.found} is installed, but mdstream's transport was tested with {self.expected} only: "
            f"run `pip install '{self.package}=={self.expected}'`"
        )


class OvertakenError(MdstreamError):
    """Another worker wrote the state of partition `number` of `topic` since our claim: our writes may not count."""

    retriable = True

    def __init__(self, topic: str, number: int) -> None:
        super().__init__(topic, number)
        self.topic, self.number = topic, number

    def __str__(self) -> str:
        return f"the state of {self.topic}[{self.number}] was written by another worker since this one claimed it"


class SpoolError(MdstreamError):
    """The spool of an ingestor cannot be written or read. The text says where and why."""

    retriable = True


class SinkError(MdstreamError):
    """`sink` cannot store anything at `place` now. Not `retriable`: an operator has to fix it."""

    def __init__(self, sink: str, place: object, reason: str, *, retriable: bool = True) -> None:
        super().__init__(sink, place, reason)
        self.sink, self.place, self.reason, self.retriable = sink, place, reason, retriable

    def __str__(self) -> str:
        return f"{self.sink} cannot write {self.place}: {self.reason}"


class DatabaseError(MdstreamError):
    """`place` (USER@HOST:PORT/DATABASE, never with the password) cannot do what is asked, for `reason`.

    `reason` ends with what to do about it. Not `retriable`: an operator has to fix it.
    """

    def __init__(self, place: str, reason: str, *, retriable: bool = False) -> None:
        super().__init__(place, reason)
        self.place, self.reason, self.retriable = place, reason, retriable

    def __str__(self) -> str:
        return f"database {self.place}: {self.reason}"


class SchemaError(DatabaseError):
    """The database is reachable, but its tables are not those of this mdstream version."""


class TooSlowError(DatabaseError):
    """The database did not finish within the limit; a smaller request may succeed."""
