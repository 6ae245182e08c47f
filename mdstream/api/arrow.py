"""A page of stored events as an Arrow stream, each column of the type that the table gives it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any

from mdstream.api.history import Kind
from mdstream.client.extras import needed
from mdstream.db.schema import FLOAT, INT, JSON, TABLES, TEXT, TIME

_TYPES = {table.name: {column.name: column.type for column in table.columns} for table in TABLES}


def stream(kind: Kind, pieces: Iterable[Sequence[dict[str, Any]]]) -> Iterator[bytes]:
    """The schema, and a batch for each piece. Times are timestamps in ns, UTC; objects are JSON.

    Raises SettingsError without pyarrow.
    """
    pa = needed("pyarrow", "arrow")
    time = pa.timestamp("ns", tz="UTC")
    plain = {TEXT: pa.string(), FLOAT: pa.float64(), INT: pa.int64(), TIME: time, JSON: pa.string()}
    types = _TYPES[kind.table]
    fields = [(name, time if name.startswith("ts_") else plain[types[name]]) for name in kind.columns]
    schema = pa.schema(fields)
    sink = BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for rows in pieces:
            columns = [pa.array([_value(row[name]) for row in rows], type_) for name, type_ in fields]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            yield b""
    yield sink.getvalue()


def _value(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value
