"""How rows get into a table, straight or through a temporary table. Pure SQL.

    straight    COPY table FROM STDIN                    twice as fast, but fails if a single row is already there
    staged      COPY staging FROM STDIN                  no index, no WAL: it costs a tenth of what follows
                SELECT .. FROM staging JOIN table        whose number is stored with another content?
                DELETE FROM staging USING table          what is there already
                INSERT INTO table SELECT .. FROM staging ON CONFLICT ..

The staging tables belong to the connection and are empty after each transaction.

Rows that are already there are found by a join over the group's own time range, which reads a compressed chunk once.
With ON CONFLICT alone, TimescaleDB unpacks a thousand rows to look for each of them, and for a bar writes all of them
back unpacked. ON CONFLICT handles repeats within the group and concurrent writers.
"""

from __future__ import annotations

from dataclasses import dataclass

from mdstream.db import schema
from mdstream.db.schema import Table
from mdstream.sinks.rows import wire_types

NUMBER = "seq"
LOOKUP = ("symbol", "interval")
"""Columns that narrow a query, if the table has them: lists of the group's values."""


@dataclass(frozen=True)
class Statements:
    """The statements for one table. `probe` fails if the table or a column is missing, and reports the columns' types;
    `straight` is None if rows may replace others; `types` are those of a row's values in a COPY.

    `clashes` and `known` run for each span of the group's times, with its `first` and `last` and the group's values of
    the LOOKUP columns. `clashes` is None if rows have no number.
    """

    table: Table
    probe: str
    create: str
    straight: str | None
    stage: str
    clashes: str | None
    known: str
    merge: str
    types: tuple[str, ...]


def statements(table: Table) -> Statements:
    """`merge` leaves existing rows alone; of bars the highest revision stays."""
    staging, columns = f"{table.name}_staging", ", ".join(table.names)
    # The types are ours, not the table's: if somebody altered a column, binary rows still fit, and the merge converts.
    typed = ", ".join(f"{column.name} {column.type}" for column in table.columns)
    revised = table is schema.OHLCV
    numbered = any(column.name == NUMBER for column in table.columns)
    return Statements(
        table=table,
        probe=f"SELECT {columns} FROM {table.name} WHERE false",  # noqa: S608  our names
        create=f"CREATE TEMPORARY TABLE {staging} ({typed}) ON COMMIT DELETE ROWS",
        straight=None if revised else f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)",
        stage=f"COPY {staging} ({columns}) FROM STDIN (FORMAT BINARY)",
        clashes=_clashes(table, staging) if numbered else None,
        known=_known(table, staging, revised=revised),
        merge=(_newest if revised else _new)(table, staging, columns),
        types=tuple(wire_types(table)),
    )


def _clashes(table: Table, staging: str) -> str:
    """Symbol and number of the rows whose number another row has, of the group or of the table near it in time."""
    columns = ", ".join(table.names)
    staged, others = (", ".join(f"{side}.{name}" for name in table.names) for side in ("staged", "other"))
    return (
        f"SELECT DISTINCT staged.symbol, staged.{NUMBER} FROM {staging} staged JOIN "  # noqa: S608  our names
        f"(SELECT {columns} FROM {table.name} stored WHERE {_within(table)} UNION ALL SELECT {columns} FROM {staging}) "
        f"other ON other.symbol = staged.symbol AND other.{NUMBER} = staged.{NUMBER} "
        f"WHERE ({staged}) IS DISTINCT FROM ({others})"
    )


def _known(table: Table, staging: str, *, revised: bool) -> str:
    same = " AND ".join(f"stored.{name} = staged.{name}" for name in table.key)
    newer = " AND stored.revision >= staged.revision" if revised else ""
    return f"DELETE FROM {staging} staged USING {table.name} stored WHERE {same} AND {_within(table)}{newer}"  # noqa: S608


def _within(table: Table) -> str:
    """The stored rows to compare with, by the leading columns of an index and of the columnstore's groups."""
    listed = " AND ".join(f"stored.{name} = ANY(%({name})s)" for name in LOOKUP if name in table.names)
    return f"{listed} AND stored.timestamp BETWEEN %(first)s AND %(last)s"


def _new(table: Table, staging: str, columns: str) -> str:
    return f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {staging} ON CONFLICT DO NOTHING"  # noqa: S608


def _newest(table: Table, staging: str, columns: str) -> str:
    """DISTINCT ON: one statement may update a row only once, and a bar may come again within one group."""
    key = ", ".join(table.key)
    updates = ", ".join(f"{name} = excluded.{name}" for name in table.names if name not in table.key)
    return (
        f"INSERT INTO {table.name} AS stored ({columns}) "  # noqa: S608  our names
        f"SELECT DISTINCT ON ({key}) {columns} FROM {staging} ORDER BY {key}, revision DESC "
        f"ON CONFLICT ({key}) DO UPDATE SET {updates} WHERE excluded.revision > stored.revision"
    )


STATEMENTS = {table.name: statements(table) for table in schema.TABLES}
"""By the table's name."""
