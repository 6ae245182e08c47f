"""What SenpAI's consumer publishes: one JSON object per message, UTF-8.

    senpai.features.SYMBOL    Features      at most `rows_per_s` a second, by event time
    senpai.signals.SYMBOL     Signal
    senpai.alerts             Alert

Fields are added, never renamed; a field with a default here is omitted while it has that default. Times are integer
nanoseconds since 1970, UTC.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mdstream.senpai.features import Values

AlertKind = Literal["stale", "gap", "switched", "late", "backpressure", "drop", "blocked"]
AlertState = Literal["begin", "end"]
Block = Literal["stale", "incomplete", "switched", "late"]
Direction = Literal["long", "short"]


class Features(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="features"):
    """The features of `symbol` at `ts`: of what was received by then.

    `provider` and `ts_quote` are those of the quote that `mid` and the spreads are from, null before the first one.
    `incomplete` names the features whose window has a hole, or begins before the stream was read; `complete`: none.
    `switched`: the source changed in the last 60 s. `late`: the median latency is above the limit.
    """

    symbol: str
    ts: int
    provider: str | None
    ts_quote: int | None
    features: Values
    complete: bool
    incomplete: tuple[str, ...] = ()
    switched: bool = False
    late: bool = False


class Signal(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="signal"):
    """A rule whose conditions came true at `ts`, with the features it was made from.

    `id` is the same for a repeat. `confidence` is from 0.5, at the thresholds, to 1.
    """

    id: str
    symbol: str
    ts: int
    rule: str
    version: int
    direction: Direction
    confidence: float
    features: Values


class Alert(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="alert"):
    """Something that is wrong: sent once when it begins and once when it ends.

    `symbol` is "__system__" for the whole consumer. `subject` tells alerts of one kind apart: a rule's name. `count`
    is how often it was seen between `first_seen` and `last_seen`.
    """

    id: str
    kind: AlertKind
    symbol: str
    state: AlertState
    first_seen: int
    last_seen: int
    count: int
    reason: str
    subject: str = ""


Message = Features | Signal | Alert

encode = msgspec.json.Encoder().encode
"""A message as bytes, as published."""


def schema() -> dict[str, Any]:
    """JSON Schema of every message, for consumers in other languages."""
    (any_message,), definitions = msgspec.json.schema_components([Message], ref_template="#/$defs/{name}")
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "title": "mdstream senpai", **any_message, "$defs": definitions}
