"""Rows of stored events as Arrow, column by column: the form that pandas, polars and Parquet are made from."""

from __future__ import annotations

from typing import Any

import msgspec

from mdstream.client.extras import needed
from mdstream.client.queries import FIELDS
from mdstream.client.stored import Rows

_FLOATS = {
    "price", "size", "corrects_price", "corrects_size", "bid", "bid_size", "ask", "ask_size",
    "open", "high", "low", "close", "volume", "quote_volume",
}  # fmt: skip
_INTEGERS = {"seq", "count", "trades", "revision"}
_TRUTHS = {"recovered", "backfilled"}
_LISTS = {"conditions", "bids", "asks"}


class Batches:
    """Makes record batches of a kind. Raises SettingsError without pyarrow."""

    def __init__(self, kind: str, extra: str = "arrow") -> None:
        self._pa = needed("pyarrow", extra)
        self.schema = self._pa.schema([(name, self._type(name)) for name in FIELDS[kind]])

    def batch(self, rows: Rows) -> Any:
        """A pyarrow.RecordBatch of at least one row."""
        arrays = [
            self._pa.array(_values(field.name, column), field.type)
            for field, column in zip(self.schema, zip(*rows, strict=True), strict=True)
        ]
        return self._pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _type(self, name: str) -> Any:
        pa = self._pa
        if name.startswith("ts_"):
            return pa.timestamp("ns", tz="UTC")
        if name in _FLOATS:
            return pa.float64()
        if name in _INTEGERS:
            return pa.int64()
        if name in _LISTS:
            return pa.list_(pa.string() if name == "conditions" else pa.list_(pa.float64()))
        return pa.bool_() if name in _TRUTHS else pa.string()


def _values(name: str, column: tuple[Any, ...]) -> Any:
    """SQLite has lists as JSON, and truth as a number."""
    if name in _LISTS:
        return [msgspec.json.decode(value) if isinstance(value, str) else value for value in column]
    return list(map(bool, column)) if name in _TRUTHS else column
