"""What the canonical stream and `mdstream repair` tell each other: a request on md.gaps, an answer on md.raw.MARKET.

The trades themselves come as raw frames (`via=rest`, see `rest_frame`). What cannot be had any more comes as a raw
record of kind REPAIR (kinds.py), behind those frames in the same partition: the log's order is that of the facts.
A leaf like mdstream.events: values only.
"""

from __future__ import annotations

import msgspec

REST_MARK = b'{"request":"'
"""What every raw frame begins with that holds a REST answer."""


class RepairRequest(msgspec.Struct, frozen=True, tag_field="type", tag="repair_request"):
    """Trades first_id..last_id (both included, one id space: `view` as in TradeTick) that a provider sent and we miss.

    `symbol` is canonical; `since` is when the hole was seen first, ns. Repeated requests are byte for byte the same.
    """

    symbol: str
    provider: str
    view: str
    first_id: int
    last_id: int
    since: int


class Unrecoverable(msgspec.Struct, frozen=True, tag_field="type", tag="unrecoverable"):
    """Of a request, the ids first_id..last_id (both included) that the venue has no more, and why."""

    symbol: str
    provider: str
    view: str
    first_id: int
    last_id: int
    reason: str


encode = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(RepairRequest).decode
decode_unrecoverable = msgspec.json.Decoder(Unrecoverable).decode


def rest_frame(request: str, body: bytes) -> bytes:
    """A venue's REST answer as a raw frame: the path asked for, which names the instrument, and the body untouched.

    `{"request":"/api/v3/aggTrades?symbol=BTCUSDT&fromId=1","response":[...]}`
    """
    return b'{"request":' + msgspec.json.encode(request) + b',"response":' + body + b"}"
