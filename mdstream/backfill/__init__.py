"""History of the venues, asked for by hand: `mdstream backfill` (docs/backfill.md)."""
