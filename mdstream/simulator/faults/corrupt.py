"""Unparseable frames, made from good ones. Pure."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

HOW = ("cut", "json", "types", "binary")
MAX_JUNK_BYTES = 200

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_WRONG: tuple[Any, ...] = ([], {}, "junk", [None], {"x": 1})


def corrupt(text: str, how: str, rng: Random) -> str | bytes:
    """A corrupt version of a JSON object's text: text for a text frame, bytes for a binary one.

    cut: only its beginning; json: a quotation mark is missing; types: numbers, and texts of numbers, become something
    else; binary: bytes that are not text. `any` is one of these. Where the text is no JSON, json and types cut it, too.
    """
    chosen = rng.choice(HOW) if how == "any" else how
    if chosen in ("json", "types") and not text.startswith("{"):
        chosen = "cut"
    match chosen:
        case "cut":
            return text[: rng.randrange(1, len(text))]
        case "json":
            marks = [place for place, character in enumerate(text) if character == '"']
            place = rng.choice(marks)
            return text[:place] + text[place + 1 :]
        case "types":
            return json.dumps(_mistype(json.loads(text), rng), separators=(",", ":"))
        case _:
            return b"\xff" + rng.randbytes(rng.randrange(MAX_JUNK_BYTES))


def _mistype(value: Any, rng: Random) -> Any:
    if isinstance(value, dict):
        return {name: _mistype(inner, rng) for name, inner in value.items()}
    if isinstance(value, list):
        return [_mistype(inner, rng) for inner in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        return rng.choice(_WRONG)
    return value
