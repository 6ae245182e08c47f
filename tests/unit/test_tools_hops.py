"""The raw hop of the audit holds what the canonical stream can publish, no more."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from mdstream.audit.hops.logs import RawHop
from mdstream.audit.trades import AuditTrade, Scope
from mdstream.config import load

NOW_NS = 1_767_625_200_125_400_000


class Raw(NamedTuple):
    """A record as a consumer gives it."""

    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int = NOW_NS // 1_000_000


def match(trade_id: int, **fields: str) -> Raw:
    values = {"price": "2", "time": "2026-01-05T15:00:00Z"} | fields
    frame = (
        f'{{"type":"match","trade_id":{trade_id},"side":"sell","size":"1","price":"{values["price"]}",'
        f'"product_id":"BTC-USD","time":"{values["time"]}"}}'
    )
    return Raw(frame.encode(), (("p", b"coinbase"), ("t", NOW_NS.to_bytes(8, "big")), ("k", b"trade")))


def test_trade_that_is_refused_is_not_missed_downstream() -> None:
    """It is on md.dead; a year of 9999 has no minute that could be counted either."""
    hop, held = RawHop(load(), cast(Scope, None), lambda *_: None), list[AuditTrade]()
    for record in (match(1), match(2, time="9999-12-31T23:59:59Z"), match(3, price="-1"), match(4)):
        hop._take(cast(Any, record), lambda trade, *_: held.append(trade))
    assert [trade.trade_id for trade in held] == ["1", "4"]
    assert hop.unread == {"trades refused": 2}


def test_record_without_a_valid_time_is_not_missed_downstream() -> None:
    """It is on md.dead, whatever its frame says."""
    hop, held = RawHop(load(), cast(Scope, None), lambda *_: None), list[AuditTrade]()
    hop._take(cast(Any, match(1)._replace(headers=(("p", b"coinbase"), ("t", b"soon")))), lambda t, *_: held.append(t))
    assert held == []
    assert hop.unread == {"records without a valid time": 1}
