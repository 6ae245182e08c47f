"""A process as others see it: its /health."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException
from typing import TypeVar

import msgspec

ANSWER_LIMIT_S = 8.0
"""Longer than it takes a process to find that a part does not answer: that is the answer then."""
MOST_BYTES = 1 << 20

T = TypeVar("T")


def health_of(url: str, form: type[T]) -> T | None:
    """The health of the process at an http URL; None if nothing answers there in time, or something else does."""
    try:
        try:
            with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=ANSWER_LIMIT_S) as answer:  # noqa: S310  the caller's
                text = answer.read(MOST_BYTES)
        except urllib.error.HTTPError as answer:  # 503: it has problems
            text = answer.read(MOST_BYTES)
        return msgspec.json.decode(text, type=form)
    except (OSError, HTTPException, msgspec.MsgspecError, UnicodeDecodeError):
        return None
