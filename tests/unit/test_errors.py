"""The text of each error: what happened, where, and what was expected. It is all that an operator sees of it."""

from __future__ import annotations

import pytest

from mdstream.errors import (
    BackfillError,
    CaptureError,
    DatabaseError,
    FeedError,
    HandshakeError,
    HoleError,
    ListingError,
    MdstreamError,
    MisplacedError,
    OvertakenError,
    RecordError,
    RefusedError,
    SettingsError,
    SinkError,
    SymbolError,
    UnknownError,
    UnlistedError,
    UnsupportedVersionError,
)


@pytest.mark.parametrize(("error", "text", "retriable"), [
    (SymbolError("binance", "BTC/USDT", "BTCUSDT"),
     "binance has no symbol of the form 'BTC/USDT': expected BTCUSDT", False),
    (UnlistedError("binance", "BTCUSDX", "the nearest are BTCUSDT"),
     "binance does not list BTCUSDX: the nearest are BTCUSDT", False),
    (UnknownError("binance", "*USDT", "HTTP 503"),
     "binance: *USDT needs the venue's list of instruments: HTTP 503", True),
    (ListingError("okx", "HTTP 503"), "okx does not say what it lists: HTTP 503", True),
    (MisplacedError("BTCUSDT", 3), ("BTCUSDT does not belong to partition 3: its writer has to use the symbol "
                                    "as the key, and Kafka's default partitioner (murmur2)"), False),
    (FeedError("okx", 5, "HTTP 503"), "okx gave no data in 5 connections in a row, the last one: HTTP 503", True),
    (RefusedError("okx", "HTTP 401: set OKX_KEY"), "okx refuses us: HTTP 401: set OKX_KEY", False),
    (HandshakeError(503), "HTTP 503 in place of a websocket", True),
    (CaptureError("a.jsonl", 7, "no JSON"), "a.jsonl, line 7: no JSON", False),
    (UnsupportedVersionError("aiokafka", "0.15.0", "0.14.0"),
     ("aiokafka 0.15.0 is installed, but mdstream's transport was tested with 0.14.0 only: "
      "run `pip install 'aiokafka==0.14.0'`"), False),
    (OvertakenError("md.raw.crypto", 2),
     "the state of md.raw.crypto[2] was written by another worker since this one claimed it", True),
    (HoleError("trades", "BTCUSDT", 5, 1004),
     ("1,000 trades of BTCUSDT are missing, seq 5 to 1004: the topic's retention passed this reader, or the platform "
      "lost its state (`mdstream tail status`); go on behind them with start=1005, or pass on_hole"), False),
    (RecordError("md.trades", 3, 17, "no JSON"),
     "md.trades[3] offset 17 is no event of this mdstream: no JSON: find its writer, or upgrade mdstream", False),
    (BackfillError("okx", "BTCUSDT", "no core worker"), "no history of BTCUSDT from okx: no core worker", False),
    (SinkError("files", "data/events.jsonl", "no space left"),
     "files cannot write data/events.jsonl: no space left", True),
    (DatabaseError("md@localhost:5432/md", "it refuses the password"),
     "database md@localhost:5432/md: it refuses the password", False),
], ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "")  # fmt: skip
def test_error_says_what_happened_and_whether_trying_again_may_help(
    error: MdstreamError, text: str, retriable: bool
) -> None:
    assert (str(error), error.retriable) == (text, retriable)


def test_venue_that_refuses_us_is_a_setting_to_change() -> None:
    """The command that was given it ends like one with a wrong setting."""
    assert isinstance(RefusedError("okx", "HTTP 401"), SettingsError)
