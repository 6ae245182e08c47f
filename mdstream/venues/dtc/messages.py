"""DTC messages in both encodings: binary layouts, how a stream is cut, how a message gets its label. Pure.

    binary    28 00 6b 00 01 00 00 00 ..      size and type, u16 little-endian, then the fields
    JSON      {"Type":107,"SymbolID":1,..}    ended by a NUL on the wire

A message names its instrument by a number of its connection. A record of the raw topic has to say more, so link.py puts
a label before it: the symbol, and the connection with a count. The message itself stays as received:

    binary    a message of type 0, which the protocol has not, with both texts; then the message
    JSON      {"Symbol":"ESH26.CME","Frame":"1887d1b2c9f4a500-7", then the message's own fields
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from mdstream.errors import FrameError

VERSION = 8
BINARY, JSON = 0, 2
"""Encodings, by the protocol's numbers."""

LABEL = 0
LOGON_REQUEST, LOGON_RESPONSE, HEARTBEAT, LOGOFF, ENCODING_REQUEST, ENCODING_RESPONSE = 1, 2, 3, 5, 6, 7
FEED_STATUS, DATA_REQUEST, DATA_REJECT, SNAPSHOT = 100, 101, 103, 104
TRADES = (107, 112, 137, 142, 146)
"""Plain, compact, with unbundled indicator, the same without time, the same with microseconds."""
QUOTES = (108, 117, 143, 144)
"""Plain, compact, without time, with microseconds."""
DATA = frozenset((SNAPSHOT, *TRADES, *QUOTES))

_head = struct.Struct("<HH")
_float = struct.Struct("<f")


class Layout(NamedTuple):
    """A binary message of `size` bytes: its fields in their order, at the places of `form`."""

    size: int
    form: struct.Struct
    names: tuple[str, ...]
    singles: tuple[str, ...]
    """Those with four bytes for a float."""


def _layout(size: int, form: str, names: str) -> Layout:
    fields = tuple(names.split())
    singles = (name for name, code in zip(fields, _codes(form), strict=True) if code == "f")
    return Layout(size, struct.Struct(f"<4x{form}"), fields, tuple(singles))


def _codes(form: str) -> list[str]:
    """Of the fields alone, without the padding."""
    return [code for code in form if code in "iIqdfHBs"]


LAYOUTS = {
    LOGON_REQUEST: _layout(
        284, "i32s32s72xi100x32s", "ProtocolVersion Username Password HeartbeatIntervalInSeconds ClientName"
    ),
    LOGON_RESPONSE: _layout(
        256,
        "ii96s64s4x60s10xB",
        "ProtocolVersion Result ResultText ReconnectAddress ServerName ResubscribeWhenMarketDataFeedAvailable",
    ),
    HEARTBEAT: _layout(16, "Iq", "NumDroppedMessages CurrentDateTime"),
    LOGOFF: _layout(102, "96sB", "Reason DoNotReconnect"),
    ENCODING_REQUEST: _layout(16, "ii4s", "ProtocolVersion Encoding ProtocolType"),
    ENCODING_RESPONSE: _layout(16, "ii4s", "ProtocolVersion Encoding ProtocolType"),
    FEED_STATUS: _layout(8, "i", "Status"),
    DATA_REQUEST: _layout(96, "iI64s16s", "RequestAction SymbolID Symbol Exchange"),
    DATA_REJECT: _layout(104, "I96s", "SymbolID RejectText"),
    SNAPSHOT: _layout(144, "I48xdddd24xd", "SymbolID BidPrice AskPrice AskQuantity BidQuantity BidAskDateTime"),
    107: _layout(40, "IH6xddd", "SymbolID AtBidOrAsk Price Volume DateTime"),
    108: _layout(40, "Idf4xdfI", "SymbolID BidPrice BidQuantity AskPrice AskQuantity DateTime"),
    112: _layout(24, "ffIIH", "Price Volume DateTime SymbolID AtBidOrAsk"),
    117: _layout(28, "ffffII", "BidPrice BidQuantity AskPrice AskQuantity DateTime SymbolID"),
    137: _layout(40, "IB7xdI4xd", "SymbolID AtBidOrAsk Price Volume DateTime"),
    142: _layout(19, "IfIB", "SymbolID Price Volume AtBidOrAsk"),
    143: _layout(24, "IfIfI", "SymbolID BidPrice BidQuantity AskPrice AskQuantity"),
    144: _layout(32, "Iffffq", "SymbolID BidPrice BidQuantity AskPrice AskQuantity DateTime"),
    146: _layout(27, "IfIqB", "SymbolID Price Volume DateTime AtBidOrAsk"),
}
"""By type: the fields that are used, of the messages that are."""


def is_json(message: bytes | bytearray) -> bool:
    """Whether a message, or the start of a stream, is JSON: a binary one that begins with { would have an odd size."""
    return message[:1] == b"{" and message[1:2] > b"\x08"


def write(message: dict[str, Any]) -> bytes:
    """A message in binary; fields that it lacks are zero."""
    layout = LAYOUTS[message["Type"]]
    values = [message.get(name, 0) for name in layout.names]
    codes = zip(values, _codes(layout.form.format), strict=True)
    packed = layout.form.pack(*(_text(value) if code == "s" else value for value, code in codes))
    return _head.pack(layout.size, message["Type"]) + packed[4:].ljust(layout.size - 4, b"\0")


def _text(value: Any) -> bytes:
    return value.encode("latin-1", "replace") if isinstance(value, str) else b""


def sized(message: bytes) -> int:
    """The type of a whole binary message. Raises FrameError if its size is another."""
    size, kind = _head.unpack(message[:4]) if len(message) >= 4 else (0, 0)
    if size != len(message) or size < 4:
        raise FrameError(f"no DTC message: {len(message)} bytes, not the {size} that it says")
    return int(kind)


def label_of(record: bytes) -> tuple[str, str, bytes]:
    """Symbol and frame of a binary record, and its message; both are empty if it has no label."""
    size, kind = _head.unpack(record[:4]) if len(record) >= 4 else (0, LABEL + 1)
    if kind != LABEL:
        return "", "", record
    symbol, _, frame = record[4:size].decode("latin-1").partition("\0")
    return symbol, frame, record[max(4, size) :]


def labelled(message: bytes, symbol: str, frame: str) -> bytes:
    """A message with its label."""
    if is_json(message):
        return f'{{"Symbol":"{symbol}","Frame":"{frame}",'.encode() + message[1:]
    label = f"{symbol}\0{frame}".encode("latin-1")
    return _head.pack(4 + len(label), LABEL) + label + message


def read(record: bytes) -> dict[str, Any]:
    """The fields of a binary record, by name; its type alone if there is no layout. Raises FrameError."""
    symbol, frame, message = label_of(record)
    kind = sized(message)
    fields: dict[str, Any] = {"Type": kind, "Symbol": symbol, "Frame": frame}
    layout = LAYOUTS.get(kind)
    if layout is None:
        return fields
    if len(message) < layout.form.size:
        raise FrameError(f"a message {kind} of {len(message)} bytes: it has {layout.size}")
    for name, value in zip(layout.names, layout.form.unpack_from(message), strict=True):
        fields[name] = value.partition(b"\0")[0].decode("latin-1") if isinstance(value, bytes) else value
    for name in layout.singles:
        fields[name] = shortest(fields[name])
    return fields


def shortest(single: float) -> float:
    """The decimal with the fewest digits that is this float of four bytes: 93741.2, not 93741.203125."""
    data = _float.pack(single)
    for digits in range(6, 9):
        found = float(f"{single:.{digits}g}")
        if abs(found) < 3.4e38 and _float.pack(found) == data:
            return found
    return single


class Messages:
    """The framer: messages of both encodings, as the answer to the encoding request is always binary."""

    def cut(self, buffer: bytearray) -> list[bytes]:
        messages = []
        while (length := _length(buffer)) is not None and length <= len(buffer):
            messages.append(bytes(buffer[:length]).rstrip(b"\0") if is_json(buffer[:2]) else bytes(buffer[:length]))
            del buffer[:length]
        return messages


def _length(buffer: bytearray) -> int | None:
    """Of the first message, with its NUL; None if that cannot be told yet."""
    if is_json(buffer[:2]):
        return buffer.find(b"\0") + 1 or None
    if len(buffer) < 4:
        return None
    size = int.from_bytes(buffer[:2], "little")
    if size < 4:
        raise FrameError(f"a message that says it has {size} bytes: its head alone has 4")
    return size
