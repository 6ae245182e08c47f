"""Past trades of the venues, and the repair of gaps with them (docs/repair.md)."""
