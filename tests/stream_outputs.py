"""The output of a partition's stream, in a form for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from mdstream.stream import checkpoint
from mdstream.stream.canonical import Canonical
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Out, Output

RAW = "md.raw.crypto"
TOPICS = ("trades", "quotes", "books", "bars", "status", "gaps", "dead")


def events(out: Out) -> list[dict[str, Any]]:
    """The events of one topic."""
    return [json.loads(value or b"") for _, value, _, _ in out]


def joined(outputs: Iterable[Output]) -> dict[str, Out]:
    """What several outputs put on each topic, one after the other."""
    topics: dict[str, Out] = {name: [] for name in TOPICS}
    for output in outputs:
        for name in TOPICS:
            topics[name] += getattr(output, name)
    return topics


def saved(stream: Canonical, *outputs: Output) -> Out:
    """The records of a checkpoint, as the worker writes them after these outputs."""
    changed = {symbol for output in outputs for symbol in output.changed}
    pairs = ((symbol, stream.instruments[symbol]) for symbol in sorted(changed))
    return checkpoint.write(RAW, 1, pairs, stream.position, stream.log, 0)


def read_into(found: Ledger, *written: Out) -> Ledger:
    """A ledger that has read these records, one after the other from offset 0 on."""
    for offset, (key, value, _, _) in enumerate(record for out in written for record in out):
        found.take(offset, key, value)
    return found
