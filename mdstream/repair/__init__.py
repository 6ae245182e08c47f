"""Repair of gaps with the venues' past trades (docs/repair.md)."""
