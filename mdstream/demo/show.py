"""The demo's output: a live table, or plain lines if stdout is not a terminal."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mdstream.demo.stack import DemoStack
from mdstream.demo.stored import Stored

EVERY_S = 0.5
PLAIN_EVERY_S = 2.0
SIDE_STYLES = {"buy": "green", "sell": "red"}


def table(latest: dict[str, Any], pages: str, stored: Stored, senpai: str) -> Group:
    """The latest prices as a table, with what is stored and how SenpAI is below."""
    made = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("instrument", "venue", "last", "size", "side", "bid", "ask"):
        made.add_column(column, justify="left" if column in ("instrument", "venue", "side") else "right")
    for symbol, prices in latest.items():
        trade, quote = prices["trade"] or {}, prices["quote"] or {}
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
    kept = (
        f"{_count(stored.trades)} trades in SQLite   {_count(stored.rows)} rows in PostgreSQL   "
        f"{_count(stored.messages)} messages in NATS"
    )
    return Group(made, Text(f"\n{kept}\nSenpAI: {senpai}\n{pages}   Ctrl-C stops everything", style="dim"))


def watch(stack: DemoStack) -> None:
    """Show the latest prices, and what is stored, until interrupted. Raises PartError."""
    console = Console()
    if not console.is_terminal:
        while True:
            prices = ", ".join(f"{s} {_number((v['trade'] or {}).get('price'))}" for s, v in stack.latest().items())
            stored = stack.stored()
            print(
                f"{prices}; stored trades: {_count(stored.trades)}, database rows: {_count(stored.rows)}, "
                f"NATS messages: {_count(stored.messages)}; SenpAI: {stack.senpai()}",
                flush=True,
            )
            time.sleep(PLAIN_EVERY_S)
    pages = f"{stack.page}   {stack.page}feeds   {stack.chart_page}   {stack.senpai_page}"
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            live.update(table(stack.latest(), pages, stack.stored(), stack.senpai()))
            time.sleep(EVERY_S)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.8g}"  # noqa: RUF001  a dash for "nothing"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"  # noqa: RUF001
