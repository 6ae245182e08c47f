"""docker-compose.kafka.yml as values: the part of YAML that it is written in, and an error for any other.

Block mappings and lists, anchors, merges (`<<`), lists in brackets, "quoted" and plain scalars, comments. Plain words
that YAML 1.1 reads as something else than what they look like (off, no) have to be quoted.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

QUOTED = r'"(?:[^"\\]|\\.)*"'
SAID = re.compile(rf'(?:{QUOTED}|[^"#]|(?<=\S)#)*')
"""What stands before a comment: a # begins one at the start of a line or after a space, outside quotes."""
ENTRY = re.compile(r"(<<|[A-Za-z_][\w.-]*):(?:\s+(.*))?")
ITEMS = re.compile(rf"\s*({QUOTED}|[^,\"\[\]]+?)\s*(?:,|$)")
CONSTANTS = {"true": True, "false": False}
MISLEADING = re.compile(r"yes|no|on|off|y|n|null|~|0\d+|\d+(:\d+)+", re.IGNORECASE)
VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*):-([^${}]*)\}")


class Line(NamedTuple):
    """A line that says something."""

    number: int
    indent: int
    text: str


def load(text: str) -> dict[str, Any]:
    """The document. Raises ValueError with the line's number where it is written otherwise."""
    return _Reader(text).document()


def expand(value: Any) -> Any:
    """The value with every `${NAME:-default}` replaced by its default; docker-compose 1.29 knows no nested ones."""
    if isinstance(value, dict):
        return {key: expand(each) for key, each in value.items()}
    if isinstance(value, list):
        return [expand(each) for each in value]
    if not isinstance(value, str):
        return value
    expanded = VARIABLE.sub(lambda found: found[2], value)
    if "$" in expanded:
        raise ValueError(f"{value!r} has a variable without a plain default")
    return expanded


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines = list(_lines(text))
        self._anchors: dict[str, Any] = {}

    def document(self) -> dict[str, Any]:
        found = self._block(0)
        assert isinstance(found, dict)
        if self._lines:
            raise ValueError(f"line {self._lines[0].number}: indented otherwise than what it belongs to")
        return found

    def _block(self, indent: int) -> Any:
        return self._sequence(indent) if self._lines[0].text.startswith("- ") else self._mapping(indent)

    def _sequence(self, indent: int) -> list[Any]:
        items = []
        while self._lines and self._lines[0].indent == indent and self._lines[0].text.startswith("- "):
            line = self._lines.pop(0)
            items.append(self._scalar(line.text[2:].strip(), line.number))
        return items

    def _mapping(self, indent: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while self._lines and self._lines[0].indent == indent:
            line = self._lines.pop(0)
            entry = ENTRY.fullmatch(line.text)
            if entry is None or entry[1] in own:
                raise ValueError(f"line {line.number}: no key, or one for the second time: {line.text}")
            value = self._value(entry[2] or "", line)
            if entry[1] == "<<":
                for each in value if isinstance(value, list) else [value]:
                    merged = each | merged
            else:
                own[entry[1]] = value
        return merged | own

    def _value(self, text: str, line: Line) -> Any:
        anchor = ""
        if text.startswith("&"):
            anchor, _, text = text[1:].partition(" ")
        if text:
            value = self._scalar(text, line.number)
        else:
            deeper = bool(self._lines) and self._lines[0].indent > line.indent
            value = self._block(self._lines[0].indent) if deeper else None
        if anchor:
            self._anchors[anchor] = value
        return value

    def _scalar(self, text: str, number: int) -> Any:
        if text.startswith("*"):
            return self._anchors[text[1:]]
        if text.startswith("["):
            return [self._scalar(item, number) for item in _items(text, number)]
        if text.startswith('"'):
            return json.loads(text)
        if text in CONSTANTS:
            return CONSTANTS[text]
        if MISLEADING.fullmatch(text) or text[0] in "{&!|>'%@`" or ": " in text:
            raise ValueError(f"line {number}: {text!r} has to be quoted")
        return int(text) if text.isdecimal() else text


def _lines(text: str) -> list[Line]:
    lines = []
    for number, raw in enumerate(text.splitlines(), 1):
        found = SAID.match(raw)
        assert found is not None  # it fits the empty text, too
        said = found[0].rstrip()
        if raw[found.end() :].startswith('"'):
            raise ValueError(f"line {number}: a quote that does not end")
        if said:
            lines.append(Line(number, len(said) - len(said.lstrip()), said.strip()))
    return lines


def _items(text: str, number: int) -> list[str]:
    inner, items, at = text[1:-1] if text.endswith("]") else "[", [], 0
    while at < len(inner):
        found = ITEMS.match(inner, at)
        if found is None:
            raise ValueError(f"line {number}: no plain list: {text}")
        items.append(found[1])
        at = found.end()
    return items
