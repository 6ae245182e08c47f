"""The HTTP API: TradingView's webhook (docs/api.md)."""
