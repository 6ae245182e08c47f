"""`mdstream simulate`."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import click

from mdstream.errors import MdstreamError
from mdstream.simulator.server import MIB, Options, Simulator
from mdstream.simulator.venues import EXCHANGES
from mdstream.simulator.venues.base import canonical

_SYMBOL = re.compile(r"^[A-Z0-9]{2,30}$")


def _venues(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    unknown = [name for name in names if name not in EXCHANGES]
    if unknown or not names:
        raise click.BadParameter(f"{', '.join(unknown) or 'none given'}: there are {', '.join(EXCHANGES)}")
    return names


def _symbols(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    symbols = tuple(canonical(part.strip()) for part in value.split(",") if part.strip())
    wrong = [symbol for symbol in symbols if not _SYMBOL.match(symbol)]
    if wrong or not symbols:
        raise click.BadParameter(f"{', '.join(wrong) or 'none given'}: expected pairs like BTCUSDT,ETHUSDT")
    return symbols


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9440, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: a free one.")
@click.option("--venues", default=",".join(EXCHANGES), show_default=True, callback=_venues, help="Venues to serve.")
@click.option(
    "--rate", default=1000, show_default=True, type=click.IntRange(1, 50_000), help="Frames a second, all together."
)
@click.option("--seed", default=1, show_default=True, help="Same seed, same market.")
@click.option("--symbols", callback=_symbols, help="Tradable pairs, like BTCUSDT,ETHUSDT.  [default: all]")
@click.option("--trades", type=click.IntRange(1), help="Stop producing after so many trades.  [default: never]")
@click.option("--journal", type=click.Path(path_type=Path), help="Append every trade that was sent to this file.")
@click.option("--first-id", type=click.IntRange(1, 2**52), help="First trade id.  [default: from the time]")
@click.option(
    "--send-queue",
    default=8,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="MiB that a client may leave unread.",
)
def command(
    host: str,
    port: int,
    venues: tuple[str, ...],
    rate: int,
    seed: int,
    symbols: tuple[str, ...] | None,
    trades: int | None,
    journal: Path | None,
    first_id: int | None,
    send_queue: int,
) -> None:
    """Serve simulated venues on this machine: their real protocols, a made-up market.

    Prints the variables that point `mdstream ingest` at them, then serves until Ctrl-C. The market is one of prices
    that wander and jump, trades whose ids count up by one, quotes and books; it moves for what is subscribed to.

    \b
    Examples:
      mdstream simulate
      mdstream simulate --venues binance,okx --symbols BTCUSDT,ETHUSDT --rate 5000
      mdstream simulate --port 0 --trades 100000 --journal sent.jsonl
      BINANCE_WS_URL=ws://127.0.0.1:9440/binance/stream mdstream ingest --provider binance --symbols BTCUSDT

    \b
    While it runs:
      curl localhost:9440/status
      curl -X POST localhost:9440/pause      (or /resume)

    The journal holds one JSON line a trade that was sent to a subscriber: the truth to compare everything else with.
    It is complete once the simulator has stopped. docs/simulator.md tells what is simulated and what is not.
    """
    options = Options(
        host=host,
        port=port,
        venues=venues,
        rate=rate,
        seed=seed,
        symbols=symbols,
        most_trades=trades,
        journal=journal,
        first_id=first_id,
        send_queue_bytes=send_queue * MIB,
    )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(options))


async def _serve(options: Options) -> None:
    until = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, until.set)
    simulator = Simulator(options, lambda: click.echo(f"finished: {options.most_trades} trades were sent; Ctrl-C ends"))
    try:
        try:
            _announce(options, await simulator.start())
            await simulator.run(until)
        finally:
            await simulator.stop()
    except OSError as error:
        raise MdstreamError(f"cannot write the journal {options.journal}: {error.strerror}") from error
    status = simulator.status()
    click.echo(f"stopped: {status['frames']} frames, trades {status['trades']}", err=True)


def _announce(options: Options, port: int) -> None:
    """Where the venues are, in the shell's language: whoever starts this reads it from stdout."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    for name in options.venues:
        exchange = EXCHANGES[name]
        click.echo(f"export {exchange.url_variable}=ws://{host}:{port}/{name}{exchange.path}")


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it is installed (everywhere but on Windows), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
