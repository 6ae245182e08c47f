"""What the demo shows in the terminal: a live table, or plain lines where the output is no terminal."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

EVERY_S = 0.5
PLAIN_EVERY_S = 2.0
SIDE_STYLES = {"buy": "green", "sell": "red"}


def stored(data: Path) -> int | None:
    """Trades in the SQLite database; None while it is not there."""
    database = data / "market_data.db"
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=0.2) as connection:
            (count,) = connection.execute("SELECT max(rowid) FROM trades").fetchone()
            return int(count or 0)
    except sqlite3.Error:
        return None


def table(latest: dict[str, Any], page: str, rows: int | None) -> Group:
    """The latest prices as a table, with what is stored below."""
    made = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("instrument", "venue", "last", "size", "side", "bid", "ask"):
        made.add_column(column, justify="left" if column in ("instrument", "venue", "side") else "right")
    for symbol, said in latest.items():
        trade, quote = said["trade"] or {}, said["quote"] or {}
        style = SIDE_STYLES.get(trade.get("side") or "", "")
        made.add_row(
            symbol,
            Text(trade.get("provider") or quote.get("provider", ""), style="dim"),
            Text(_number(trade.get("price")), style=style),
            _number(trade.get("size")),
            Text(trade.get("side") or "", style=style),
            _number(quote.get("bid")),
            _number(quote.get("ask")),
        )
    below = f"{rows:,} trades in SQLite" if rows is not None else "SQLite: not yet"
    return Group(made, Text(f"\n{below}   {page}   {page}feeds   Ctrl-C stops everything", style="dim"))


def watch(look: Any, page: str, data: Path) -> None:
    """Show the latest prices until interrupted. Raises what `look` raises."""
    console = Console()
    if not console.is_terminal:
        while True:
            latest = look()
            trades = ", ".join(f"{s} {_number((v['trade'] or {}).get('price'))}" for s, v in latest.items())
            print(f"{trades}; stored trades: {stored(data)}", flush=True)
            time.sleep(PLAIN_EVERY_S)
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            live.update(table(look(), page, stored(data)))
            time.sleep(EVERY_S)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.8g}"  # noqa: RUF001  a dash for "nothing"
