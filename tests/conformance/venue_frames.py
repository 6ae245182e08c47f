"""Frames to hold the providers against: recorded ones where they are at hand, and one of each kind as sent today.

The recordings are data of others and stay where they are: in MDSTREAM_FRAMES, or ../shared/frames beside the project.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
RECORDED = Path(os.environ.get("MDSTREAM_FRAMES", PROJECT.parent / "shared" / "frames"))

WRITTEN: dict[str, dict[str, bytes]] = {
    "binance": {
        "trade": b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1767625200123,"s":"BTCUSDT","t":5680123456,'
        b'"p":"93741.20000000","q":"0.00150000","T":1767625200122,"m":true,"M":true}}',
        "trade with order ids": b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1633998523963,"s":"BTCUSDT","t":7,'
        b'"p":"1.5","q":"2","b":88,"a":50,"T":1633998523962,"m":false,"M":true}}',
        "aggTrade": b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1767625200123,"s":"BTCUSDT",'
        b'"a":3712345678,"p":"93741.20000000","q":"0.00420000","f":5680123454,"l":5680123456,"T":1767625200122,'
        b'"m":false,"M":true}}',
        "bookTicker": b'{"stream":"btcusdt@bookTicker","data":{"u":83512345012,"s":"BTCUSDT","b":"93741.19000000",'
        b'"B":"0.50000000","a":"93741.20000000","A":"1.25000000"}}',
        "bookTicker without bids": b'{"stream":"btcusdt@bookTicker","data":{"u":9,"s":"BTCUSDT","b":"0.00000000",'
        b'"B":"0.00000000","a":"93741.20000000","A":"1.25000000"}}',
        "partial depth": b'{"stream":"btcusdt@depth20@100ms","data":{"lastUpdateId":83512345012,'
        b'"bids":[["93741.19000000","0.50000000"],["93741.00000000","2.00000000"]],'
        b'"asks":[["93741.20000000","1.25000000"]]}}',
        "partial depth of five": b'{"stream":"btcusdt@depth5","data":{"lastUpdateId":2,"bids":[],"asks":[["2","1"]]}}',
        "diff depth": b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1767625200200,"s":"BTCUSDT",'
        b'"U":83512345001,"u":83512345012,"b":[["93741.19000000","0.50000000"]],"a":[["93742.00000000","0.00000000"]]}}',
        "kline": b'{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1767625200500,"s":"BTCUSDT",'
        b'"k":{"t":1767625140000,"T":1767625199999,"s":"BTCUSDT","i":"1m","o":"93700.00","c":"93741.20","x":true}}}',
        "shutdown": b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1767625260000}}',
        "ack": b'{"result":null,"id":1}',
        "list of streams": b'{"result":["btcusdt@trade","btcusdt@bookTicker"],"id":3}',
        "error": b'{"code":2,"msg":"Invalid request: unknown variant FOO, expected one of SUBSCRIBE","id":1}',
        "raw trade": b'{"e":"trade","E":1767625200123,"s":"BTCUSDT","t":5680123456,"p":"93741.20000000",'
        b'"q":"0.00150000","T":1767625200122,"m":true,"M":true}',
        "raw aggTrade": b'{"e":"aggTrade","E":1767625200123,"s":"BTCUSDT","a":3712345678,"p":"93741.20000000",'
        b'"q":"0.00420000","f":5680123454,"l":5680123456,"T":1767625200122,"m":false,"M":true}',
        "raw bookTicker": b'{"u":83512345012,"s":"BTCUSDT","b":"93741.19000000","B":"0.50000000",'
        b'"a":"93741.20000000","A":"1.25000000"}',
        "raw diff depth": b'{"e":"depthUpdate","E":1767625200200,"s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}',
    },
    "okx": {
        "trades": b'{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"884123456",'
        b'"px":"93741.2","sz":"0.0015","side":"sell","ts":"1767625200123","count":"3","source":"0","seqId":1234567}]}',
        "two trades without count": b'{"arg":{"channel":"trades","instId":"BTC-USD-220527"},"data":['
        b'{"instId":"BTC-USD-220527","tradeId":"7849","px":"30218.8","sz":"1","side":"buy","ts":"1652459199958"},'
        b'{"instId":"BTC-USD-220527","tradeId":"7850","px":"30218.9","sz":"2","side":"sell","ts":"1652459199959"}]}',
        "trades-all": b'{"arg":{"channel":"trades-all","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT",'
        b'"tradeId":"884123456","px":"93741.2","sz":"0.0005","side":"sell","ts":"1767625200123","source":"0"}]}',
        "tickers": b'{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instType":"SPOT","instId":"BTC-USDT",'
        b'"last":"93741.2","lastSz":"0.0015","askPx":"93741.3","askSz":"0.5","bidPx":"93741.2","bidSz":"1.1",'
        b'"open24h":"92800","vol24h":"6400","ts":"1767625200110"}]}',
        "tickers without bids": b'{"arg":{"channel":"tickers","instId":"BTC-USDT-SWAP"},"data":[{"instType":"SWAP",'
        b'"instId":"BTC-USDT-SWAP","last":"93741.2","askPx":"93741.3","askSz":"5","bidPx":"","bidSz":"",'
        b'"ts":"1767625200110"}]}',
        "bbo-tbt": b'{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["93741.3","0.5","0","2"]],'
        b'"bids":[["93741.2","1.1","0","4"]],"ts":"1767625200120","seqId":363996337}]}',
        "bbo-tbt without asks": b'{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[],'
        b'"bids":[["93741.2","1.1","0","4"]],"ts":"1767625200120","seqId":363996338}]}',
        "books5": b'{"arg":{"channel":"books5","instId":"BTC-USDT"},"data":[{"asks":[["93741.3","0.5","0","2"]],'
        b'"bids":[["93741.2","1.1","0","4"],["93741.1","2","0","1"]],"instId":"BTC-USDT","ts":"1767625200120",'
        b'"seqId":363996337}]}',
        "books snapshot": b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":['
        + b",".join(b'["%d","1","0","1"]' % price for price in range(101, 131))
        + b'],"bids":[["99","2","0","1"]],"ts":"1767625200130","checksum":0,"seqId":5,"prevSeqId":-1}]}',
        "books update": b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[],'
        b'"bids":[["93740","0","0","0"]],"ts":"1767625200130","checksum":0,"seqId":363996340,"prevSeqId":363996337}]}',
        "candle": b'{"arg":{"channel":"candle1m","instId":"BTC-USDT"},"data":[["1767625140000","1","1","1","1"]]}',
        "ack": b'{"id":"1","event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"},"connId":"a4d3ae55"}',
        "error": b'{"id":"1","event":"error","code":"60018","msg":"Wrong URL or channel:foo,instId:BTC-USDT '
        b'doesn\'t exist.","connId":"a4d3ae55"}',
        "notice": b'{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade.",'
        b'"connId":"a4d3ae55"}',
        "pong": b"pong",
    },
    "coinbase": {
        "subscriptions": b'{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]},'
        b'{"name":"heartbeat","product_ids":["BTC-USD"]}]}',
        "last_match": b'{"type":"last_match","trade_id":912345677,'
        b'"maker_order_id":"5f6b1b0e-0f5e-4a67-9a0c-2d1a51c0c001",'
        b'"taker_order_id":"5f6b1b0e-0f5e-4a67-9a0c-2d1a51c0c002","side":"buy","size":"0.01000000","price":"93741.10",'
        b'"product_id":"BTC-USD","sequence":118273644990,"time":"2026-01-05T14:59:59.981204Z"}',
        "match": b'{"type":"match","trade_id":912345678,"maker_order_id":"5f6b1b0e-0f5e-4a67-9a0c-2d1a51c0c003",'
        b'"taker_order_id":"5f6b1b0e-0f5e-4a67-9a0c-2d1a51c0c004","side":"sell","size":"0.01200000","price":"93741.20",'
        b'"product_id":"BTC-USD","sequence":118273645012,"time":"2026-01-05T15:00:00.123456Z"}',
        "ticker": b'{"type":"ticker","sequence":118273645012,"product_id":"BTC-USD","price":"93741.20",'
        b'"open_24h":"92800.00","best_bid":"93741.10","best_bid_size":"0.25000000","best_ask":"93741.20",'
        b'"best_ask_size":"0.40000000","side":"buy","time":"2026-01-05T15:00:00.123456Z","trade_id":912345678,'
        b'"last_size":"0.01200000"}',
        "ticker without sizes": b'{"type":"ticker","sequence":333938798,"product_id":"BAND-GBP","price":"14.7775",'
        b'"best_bid":"14.7550","best_ask":"","side":"buy","time":"2021-04-17T16:43:30.244075Z","trade_id":881613}',
        "ticker without quotes": b'{"type":"ticker","sequence":3,"product_id":"BTC-USD","price":"1"}',
        "heartbeat": b'{"type":"heartbeat","sequence":118273645013,"last_trade_id":912345678,"product_id":"BTC-USD",'
        b'"time":"2026-01-05T15:00:01.000201Z"}',
        "snapshot": b'{"type":"snapshot","product_id":"BTC-USD","bids":['
        + b",".join(b'["%d.5","1"]' % price for price in range(70, 100))
        + b'],"asks":[["102.5","3"],["101.5","2"]],"time":"2026-01-05T15:00:00.050000Z"}',
        "l2update": b'{"type":"l2update","product_id":"BTC-USD","changes":[["buy","93741.10","0.30000000"]],'
        b'"time":"2026-01-05T15:00:00.100000Z"}',
        "error": b'{"type":"error","message":"Failed to subscribe","reason":"level2 requires authentication"}',
    },
}
"""provider -> what it is -> the frame, after the venues' documentation."""

PROVIDERS = sorted(WRITTEN)


def written(provider: str) -> list[bytes]:
    """The written frames of the provider."""
    return list(WRITTEN[provider].values())


def recorded(provider: str) -> list[bytes]:
    """Every recorded frame of the provider, byte for byte; the written ones where there is no recording."""
    path = RECORDED / f"{provider}.jsonl"
    if not path.is_file():
        return written(provider)
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line)["frame"].encode() for line in lines]
