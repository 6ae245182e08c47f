"""Asking venues over REST (docs/repair.md, docs/instruments.md)."""
