"""The HTTP API: TradingView's webhook, history, charts, live streams (docs/api.md)."""
