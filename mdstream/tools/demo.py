"""`mdstream demo`: everything on this machine, with one command."""

from __future__ import annotations

import click

from mdstream.demo import show
from mdstream.demo.stack import stack
from mdstream.run.supervisor import interrupt_on_signals, timed_say


@click.command(name="demo")
@click.option(
    "--rate", type=click.IntRange(1, 20_000), default=300, show_default=True, help="Simulated frames a second."
)
@click.option("--live", is_flag=True, help="Connect to the real venues instead of simulated ones.")
def command(rate: int, live: bool) -> None:
    """Everything that a deployment has, on this machine; shows the latest prices and what is stored.

    That is a broker, PostgreSQL and a NATS server with JetStream; simulated venues and an ingestor for each; a core
    worker, gap repair, the roles that write SQLite and JSONL, PostgreSQL, and NATS; senpai, whose page shows features
    and signals; and the HTTP API, with what is stored.

    The simulated Binance stalls about once a minute, and OKX loses trades: /feeds on the printed page shows which
    source is followed, and the lost trades are repaired.

    A part that ends is started again, and the end of its log is shown.

    Nothing else is needed, nothing is left running afterwards. Trades are kept in MDSTREAM_DATA_DIR (./data), the
    processes' logs in its folder logs; what the broker, PostgreSQL and NATS hold is deleted at the end.
    """
    interrupt_on_signals()
    say = timed_say()

    try:
        with stack(rate=rate, live=live, say=say) as running:
            say(f"prices flow: {running.page}")
            show.watch(running)
    except KeyboardInterrupt:
        say("stopped")
