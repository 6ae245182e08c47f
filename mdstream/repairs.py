"""Messages between the canonical stream, `mdstream repair` and `mdstream backfill`, on md.gaps and md.raw.MARKET.

    stream ── RepairRequest ──> md.gaps ──> repair ── trades, Unrecoverable ──> md.raw.MARKET
    backfill ── HistoryRequest, trades, Unrecoverable ──> md.raw.MARKET ──> stream ── HistoryAnswer ──> md.gaps

The trades themselves come as raw frames (`via=rest`, see `rest_frame`). Trades the venue no longer has are reported by
a raw record of kind REPAIR (records.py) behind those frames, in the same partition: the log has them in order.
A leaf like mdstream.events: values only.
"""

from __future__ import annotations

import msgspec

REST_MARK = b'{"request":"'
"""Every raw frame that holds a REST answer begins with this."""


class RepairRequest(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="repair_request"):
    """Trades first_id..last_id (both included, of one id space, as in TradeTick) that we missed.

    `symbol` is canonical; `since` is when the hole was first seen, ns; `contract_size` is what a contract was worth
    then, as in the header `v` of a raw record: the venue may have changed it since. Repeated requests are identical
    byte for byte.
    """

    symbol: str
    provider: str
    id_space: str = msgspec.field(name="view")
    first_id: int
    last_id: int
    since: int
    contract_size: str = ""


class Unrecoverable(msgspec.Struct, frozen=True, tag_field="type", tag="unrecoverable"):
    """Ids first_id..last_id (both included) of a request that the venue no longer has, and why."""

    symbol: str
    provider: str
    id_space: str = msgspec.field(name="view")
    first_id: int
    last_id: int
    reason: str


class HistoryRequest(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="history_request"):
    """Asks the stream which of the trades first_id..last_id it lacks; with `opens`, also to take those from before its
    first trade that come as REST frames from now on."""

    symbol: str
    provider: str
    id_space: str = msgspec.field(name="view")
    first_id: int
    last_id: int
    opens: bool = False


class HistoryAnswer(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="history_answer"):
    """The ranges of a HistoryRequest that the stream lacks, up to its newest trade; or why it takes no history.

    `request_offset`: of the request on its raw partition.
    """

    symbol: str
    provider: str
    id_space: str = msgspec.field(name="view")
    first_id: int
    last_id: int
    request_offset: int
    missing: list[tuple[int, int]] = []
    refused: str = ""


class RangeRequest(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="range_request"):
    """Asks the stream which parts of the time from `begin` to before `end`, ns, it lacks of a symbol's history.

    `interval`: "trades", of a venue whose trade ids do not count; or of bars, like 1m: then both times are multiples of
    it. `taken`: all that the venue has of this time is in the REST frames before this record.
    """

    symbol: str
    provider: str
    interval: str
    begin: int
    end: int
    taken: bool = False


class RangeAnswer(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="range_answer"):
    """The parts of a RangeRequest that the stream lacks; or why it takes no history.

    `live_from`: the time of the symbol's first live trade, where its history ends; None without any.
    `request_offset`: of the request on its raw partition.
    """

    symbol: str
    provider: str
    interval: str
    begin: int
    end: int
    request_offset: int
    missing: list[tuple[int, int]] = []
    live_from: int | None = None
    refused: str = ""


encode = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(RepairRequest | HistoryAnswer | RangeAnswer).decode
"""A record of md.gaps."""
decode_report = msgspec.json.Decoder(Unrecoverable | HistoryRequest | RangeRequest).decode
"""A raw record of kind REPAIR."""


def rest_frame(request: str, id_space: str, body: bytes) -> bytes:
    """A venue's REST answer as a raw frame: the requested path, which names the instrument, the id space of the trades
    (in the field `view`) if the venue has several, and the body untouched.

    `{"request":"/api/v3/aggTrades?symbol=BTCUSDT&fromId=1","view":"aggTrade","response":[...]}`
    """
    named = b',"view":' + msgspec.json.encode(id_space) if id_space else b""
    return b'{"request":' + msgspec.json.encode(request) + named + b',"response":' + body + b"}"
