"""What simulated venues do with every request: read it, refuse it, answer it. Pure."""

from __future__ import annotations

import json
from typing import Any, TypeGuard

from mdstream.simulator.actions import Send


def send_json(content: Any) -> Send:
    """An answer in compact JSON, as the venues write it."""
    return Send(json.dumps(content, separators=(",", ":")))


class RefusedError(Exception):
    """A request that the venue refuses with these `replies`."""

    def __init__(self, *replies: Any) -> None:
        super().__init__(*replies)
        self.replies = replies


def read_object(text: str, no_json: RefusedError, no_object: RefusedError | None = None) -> dict[str, Any]:
    """The JSON object in a text. Raises `no_json`, or `no_object` for JSON that is something else."""
    try:
        found = json.loads(text)
    except ValueError:
        raise no_json from None
    if not isinstance(found, dict):
        raise no_object or no_json
    return found


def are_texts(value: Any) -> TypeGuard[list[str]]:
    """Whether a value from JSON is a list of texts."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
