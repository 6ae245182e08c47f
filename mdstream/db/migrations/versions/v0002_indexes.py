"""Indexes for the last quote of each symbol, and for a stretch of time across all symbols.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

INDEXES = {
    # The key holds symbol and time, both ascending: it does not provide "symbol, timestamp DESC".
    "market_data_quotes_symbol_time": "market_data_quotes (symbol, timestamp DESC)",
    # Rows come nearly in time order: a few kilobytes for a day. Summarized as the table grows, as nothing else would
    # do it.
    "market_data_ticks_time": "market_data_ticks USING brin (timestamp) WITH (autosummarize = on)",
    "market_data_quotes_time": "market_data_quotes USING brin (timestamp) WITH (autosummarize = on)",
}


def upgrade() -> None:
    for name, on in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON {on}")


def downgrade() -> None:
    for name in INDEXES:
        op.execute(f"DROP INDEX {name}")
