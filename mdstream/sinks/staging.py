"""How rows get into a table, straight or by way of a temporary table. Pure SQL.

    straight    COPY table FROM STDIN                    twice as fast, and fails where a single row is there already
    staged      COPY staging FROM STDIN                  no index, no WAL: it costs a tenth of what follows
                INSERT INTO table SELECT .. FROM staging ON CONFLICT ..

The staging tables are the connection's own and empty after each transaction.
"""

from __future__ import annotations

from dataclasses import dataclass

from mdstream.db import schema
from mdstream.db.schema import Table
from mdstream.sinks.rows import wire_types


@dataclass(frozen=True)
class Statements:
    """What is said to the database for one table. `probe` fails where it lacks the table or a column, and tells their
    types; `straight` is None where rows may take the place of others; `types` are those of a row's values in a COPY.
    """

    table: Table
    probe: str
    create: str
    straight: str | None
    stage: str
    merge: str
    types: tuple[str, ...]


def statements(table: Table) -> Statements:
    """`merge` leaves alone what is there already; of bars the highest revision stays."""
    staging, columns = f"{table.name}_staging", ", ".join(table.names)
    # The types are ours, not the table's: whatever somebody made of a column, binary rows fit, and the merge converts.
    typed = ", ".join(f"{column.name} {column.type}" for column in table.columns)
    revised = table is schema.OHLCV
    return Statements(
        table=table,
        probe=f"SELECT {columns} FROM {table.name} WHERE false",  # noqa: S608  our names
        create=f"CREATE TEMPORARY TABLE {staging} ({typed}) ON COMMIT DELETE ROWS",
        straight=None if revised else f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)",
        stage=f"COPY {staging} ({columns}) FROM STDIN (FORMAT BINARY)",
        merge=(_newest if revised else _new)(table, staging, columns),
        types=tuple(wire_types(table)),
    )


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
