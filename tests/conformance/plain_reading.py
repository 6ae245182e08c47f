"""What a frame says, read a second time: from plain JSON, by the venues' documentation, without the package's parsers.

Slow and literal on purpose. Numbers go through Decimal, so that a float is right only if it is the nearest one.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
Expected = dict[str, Any]


def says(provider: str, frame: bytes) -> list[Expected]:
    """The market data in a frame, each as the fields of its tick with the tick's class as "is"; [] for none."""
    if frame == b"pong":
        return []
    return READINGS[provider](json.loads(frame))


def nanoseconds(text: str) -> int:
    """2026-01-05T15:00:00.123456Z in nanoseconds since 1970."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    since = datetime.fromisoformat(whole + "+00:00") - EPOCH
    return since // timedelta(seconds=1) * 10**9 + int(Decimal("0." + (fraction or "0")) * 10**9)


def _epoch(time: int) -> int:
    """Milliseconds, or microseconds where they are too many, in nanoseconds."""
    return time * 10**6 if time < 10**13 else time * 10**3


def _number(text: str) -> float:
    return float(Decimal(text))


def _side(price: str, size: str) -> tuple[float | None, float | None]:
    """A side of the top of the book: empty text or price 0 is no order."""
    if not price or Decimal(price) == 0:
        return None, None
    return _number(price), _number(size) if size else None


def _levels(levels: list[list[str]]) -> list[tuple[float, float]]:
    return [(_number(level[0]), _number(level[1])) for level in levels][:20]


def _quote(symbol: str, bid: tuple[str, str], ask: tuple[str, str], ts: int | None, update_id: int) -> Expected:
    (bid_price, bid_size), (ask_price, ask_size) = _side(*bid), _side(*ask)
    return {
        "is": "QuoteTick",
        "symbol": symbol,
        "bid": bid_price,
        "bid_size": bid_size,
        "ask": ask_price,
        "ask_size": ask_size,
        "ts_exchange": ts,
        "update_id": update_id,
    }


def _update(
    symbol: str,
    bids: list[list[str]],
    asks: list[list[str]],
    ts: int | None,
    *,
    whole: bool,
    update_id: int = -1,
    previous_id: int | None = None,
) -> Expected:
    return {
        "is": "BookUpdate",
        "symbol": symbol,
        "bids": [(int(Decimal(price) * 10**10), _number(size)) for price, size, *_ in bids],
        "asks": [(int(Decimal(price) * 10**10), _number(size)) for price, size, *_ in asks],
        "ts_exchange": ts,
        "whole": whole,
        "check": None,
        "update_id": update_id,
        "previous_id": previous_id,
    }


def _book(symbol: str, bids: list[list[str]], asks: list[list[str]], ts: int | None, update_id: int) -> Expected:
    return {
        "is": "BookTick",
        "symbol": symbol,
        "bids": _levels(bids),
        "asks": _levels(asks),
        "ts_exchange": ts,
        "update_id": update_id,
    }


def _trade(symbol: str, price: str, size: str, side: str, ts: int, ids: tuple[int, int], **more: Any) -> Expected:
    first, last = ids
    result = {
        "count": last - first + 1,
        "id_space": "",
        "resume": False,
        "recovered": False,
        "venue": None,
        "conditions": None,
        "correction": None,
        "corrects": None,
        "corrects_price": None,
        "corrects_size": None,
    } | more
    return {
        "is": "TradeTick",
        "symbol": symbol,
        "trade_id": str(last),
        "price": _number(price),
        "size": _number(size),
        "side": side,
        "ts_exchange": ts,
        "first_id": first,
        "last_id": last,
    } | result


def _binance(m: dict[str, Any]) -> list[Expected]:
    stream, d = m.get("stream", ""), m.get("data", m)
    match d.get("e"):
        case "trade" | "aggTrade" as id_space:
            number = d["t" if id_space == "trade" else "a"]
            count = 1 if id_space == "trade" else d["l"] - d["f"] + 1
            side = "sell" if d["m"] else "buy"
            return [
                _trade(d["s"], d["p"], d["q"], side, _epoch(d["T"]), (number, number), id_space=id_space, count=count)
            ]
        case None if "B" in d:
            return [_quote(d["s"], (d["b"], d["B"]), (d["a"], d["A"]), None, d["u"])]
        case None if "lastUpdateId" in d:
            return [_book(stream.split("@")[0].upper(), d["bids"], d["asks"], None, d["lastUpdateId"])]
    return []


def _okx(m: dict[str, Any]) -> list[Expected]:
    if "data" not in m:
        return []
    channel, name = m["arg"]["channel"], m["arg"]["instId"]
    symbol = name.replace("-", "") if name.count("-") == 1 else name
    if channel in ("trades", "trades-all"):
        return [_okx_trade(symbol, channel, d) for d in m["data"]]
    result = []
    for d in m["data"]:
        if channel == "tickers":
            bid, ask = (d["bidPx"], d["bidSz"]), (d["askPx"], d["askSz"])
            result.append(_quote(symbol, bid, ask, int(d["ts"]) * 10**6, -1))
        elif channel == "bbo-tbt":
            bid, ask = ((side[0][0], side[0][1]) if side else ("", "") for side in (d["bids"], d["asks"]))
            result.append(_quote(symbol, bid, ask, int(d["ts"]) * 10**6, d["seqId"]))
        elif channel == "books5":
            result.append(_book(symbol, d["bids"], d["asks"], int(d["ts"]) * 10**6, d.get("seqId", -1)))
        elif channel == "books":
            ids = {"update_id": d.get("seqId", -1), "previous_id": d.get("prevSeqId")}
            whole = m["action"] == "snapshot"
            result.append(_update(symbol, d["bids"], d["asks"], int(d["ts"]) * 10**6, whole=whole, **ids))
    return result


def _okx_trade(symbol: str, channel: str, d: dict[str, Any]) -> Expected:
    last, count = int(d["tradeId"]), int(d.get("count", "1"))
    ids = last - count + 1, last
    return _trade(symbol, d["px"], d["sz"], d["side"], int(d["ts"]) * 10**6, ids, id_space=channel)


def _time(m: dict[str, Any]) -> int | None:
    return nanoseconds(m["time"]) if "time" in m else None


def _coinbase(m: dict[str, Any]) -> list[Expected]:
    symbol = m.get("product_id", "").replace("-", "")
    match m["type"]:
        case "match" | "last_match" as kind:
            aggressor = {"buy": "sell", "sell": "buy"}[m["side"]]
            ids = m["trade_id"], m["trade_id"]
            resume = kind == "last_match"
            return [_trade(symbol, m["price"], m["size"], aggressor, nanoseconds(m["time"]), ids, resume=resume)]
        case "ticker" if "best_bid" in m or "best_ask" in m:
            bid, ask = ((m.get(f"best_{s}", ""), m.get(f"best_{s}_size", "")) for s in ("bid", "ask"))
            return [_quote(symbol, bid, ask, nanoseconds(m["time"]), m["sequence"])]
        case "snapshot":
            return [_update(symbol, m["bids"], m["asks"], _time(m), whole=True)]
        case "l2update":
            bids, asks = ([[p, size] for side, p, size in m["changes"] if side == which] for which in ("buy", "sell"))
            return [_update(symbol, bids, asks, _time(m), whole=False)]
    return []


READINGS = {"binance": _binance, "okx": _okx, "coinbase": _coinbase}
