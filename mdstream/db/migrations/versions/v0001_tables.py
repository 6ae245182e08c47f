"""The first tables, with the rows of the older service's.

Revision ID: 0001
Revises: nothing
"""

from __future__ import annotations

from alembic import op

from mdstream.db import legacy, timescale

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

TABLES = {
    # The columns of a key are in the order of a search. An instrument's ticks are found by symbol and time (index
    # below); their key only detects repeats.
    "market_data_ticks": """(
        exchange text NOT NULL,
        symbol text NOT NULL,
        timestamp timestamptz NOT NULL,
        source text NOT NULL,
        trade_id text NOT NULL,
        price double precision,
        size double precision,
        side text,
        seq bigint,
        ts_exchange_ns bigint,
        ts_recv_ns bigint,
        extra jsonb,
        PRIMARY KEY (exchange, symbol, timestamp, source, trade_id)
    )""",
    "market_data_quotes": """(
        symbol text NOT NULL,
        timestamp timestamptz NOT NULL,
        seq bigint NOT NULL,
        exchange text NOT NULL,
        source text NOT NULL,
        bid double precision,
        bid_size double precision,
        ask double precision,
        ask_size double precision,
        ts_exchange_ns bigint,
        ts_recv_ns bigint NOT NULL,
        PRIMARY KEY (symbol, timestamp, seq)
    )""",
    "market_data_ohlcv": """(
        exchange text NOT NULL,
        symbol text NOT NULL,
        interval text NOT NULL,
        timestamp timestamptz NOT NULL,
        open double precision,
        high double precision,
        low double precision,
        close double precision,
        volume double precision,
        quote_volume double precision,
        trades bigint,
        revision bigint NOT NULL DEFAULT 0,
        extra jsonb,
        PRIMARY KEY (exchange, symbol, interval, timestamp)
    )""",
    "market_data_feed_events": """(
        symbol text NOT NULL,
        timestamp timestamptz NOT NULL,
        event_id text NOT NULL,
        type text NOT NULL,
        source text NOT NULL,
        state text,
        reason text,
        previous text,
        first_id text,
        last_id text,
        missing bigint,
        took_ns bigint,
        silent_since_ns bigint,
        ts_recv_ns bigint NOT NULL,
        PRIMARY KEY (symbol, timestamp, event_id)
    )""",
}

INDEXES = {
    "market_data_ticks_symbol_time": "market_data_ticks (symbol, timestamp DESC)",
    "market_data_ohlcv_symbol_time": "market_data_ohlcv (symbol, interval, timestamp DESC)",
    "market_data_feed_events_time": "market_data_feed_events (timestamp DESC)",
}
"""For the history queries. Those for quotes come with revision 0002."""


def upgrade() -> None:
    connection = op.get_bind()
    legacy.set_aside(connection, TABLES)
    for name, columns in TABLES.items():
        op.execute(f"CREATE TABLE {name} {columns}")
    for name, on in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON {on}")
    if timescale.offered(connection):
        timescale.make_hypertables(connection)  # before there are rows: it would rewrite them
    legacy.take_over(connection)


def downgrade() -> None:
    for name in TABLES:
        op.execute(f"DROP TABLE {name}")
    legacy.put_back(op.get_bind())
