"""OHLCV bars of canonical trades, in event time: pure (docs/bars.md)."""
