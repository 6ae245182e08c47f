"""Dead letters, the records of md.dead: a record that could not be processed, with the reason and its origin.

The letter holds what is needed to understand the record and to find it again; where a part is cut, the source record
is still complete as long as its topic keeps it.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Sequence

import msgspec

MAX_VALUE_BYTES = 512 * 1024
MAX_PART_BYTES = 4 * 1024
"""Limit of a key and of each header's value."""
MAX_HEADERS, MAX_NAME_CHARS = 32, 200
MAX_ERROR_CHARS = 2_000


class _Header(msgspec.Struct, omit_defaults=True):
    name: str
    value: str | None
    encoding: str | None = None


class _Letter(msgspec.Struct, omit_defaults=True):
    """`encoding` is "base64" for bytes that are not UTF-8; `bytes` is the full size of a value that was cut."""

    error: str
    source_topic: str
    partition: int
    offset: int
    key: str | None
    value: str | None
    key_encoding: str | None = None
    encoding: str | None = None
    headers: tuple[_Header, ...] = ()
    truncated: bool = False
    bytes: int | None = None


_encode = msgspec.json.Encoder().encode


def dead_letter(
    *,
    error: str,
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]] = (),
) -> bytes:
    """The value of the record for md.dead (its key is the source topic), JSON of at most a few MiB.

    {"error":..,"source_topic":..,"partition":..,"offset":..,"key":..,"value":..,"headers":[{"name":..,"value":..}]}
    Bytes are UTF-8 text, or base64 with an `encoding` (`key_encoding` for the key) of "base64". A value above
    MAX_VALUE_BYTES is cut: then `truncated` is true and `bytes` its full size.
    """
    key_text, key_encoding = _text(key, MAX_PART_BYTES)
    value_text, encoding = _text(value, MAX_VALUE_BYTES)
    truncated = value is not None and len(value) > MAX_VALUE_BYTES
    parts = tuple(_Header(name[:MAX_NAME_CHARS], *_text(part, MAX_PART_BYTES)) for name, part in headers[:MAX_HEADERS])
    return _encode(
        _Letter(
            error=_printable(error)[:MAX_ERROR_CHARS],
            source_topic=topic,
            partition=partition,
            offset=offset,
            key=key_text,
            value=value_text,
            key_encoding=key_encoding,
            encoding=encoding,
            headers=parts,
            truncated=truncated,
            bytes=len(value) if truncated and value is not None else None,
        )
    )


def _text(part: bytes | None, limit_bytes: int) -> tuple[str | None, str | None]:
    """At most `limit_bytes` of `part` as text, and its encoding: None for UTF-8."""
    if part is None:
        return None, None
    cut = part[:limit_bytes]
    try:
        # Not final where it was cut: the limit may split a character, whose first bytes are then dropped.
        return codecs.getincrementaldecoder("utf-8")().decode(cut, final=len(part) <= limit_bytes), None
    except UnicodeDecodeError:
        return base64.b64encode(cut).decode(), "base64"


def _printable(text: str) -> str:
    """`text` without lone surrogates, which no encoder accepts; an error message may quote them from a frame."""
    return text.encode("utf-8", "backslashreplace").decode()
