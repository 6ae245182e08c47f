"""`mdstream simulate`."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Mapping
from pathlib import Path

import click

from mdstream.errors import MdstreamError, SettingsError
from mdstream.simulator.faults.kinds import Spec, from_text
from mdstream.simulator.history import MAX_FILLS
from mdstream.simulator.listing import canonical
from mdstream.simulator.rest import Budget
from mdstream.simulator.server import MIB, Options, Simulator
from mdstream.simulator.venues import EXCHANGES, RESTS
from mdstream.venues import rest_setting, ws_setting

_SYMBOL = re.compile(r"^[A-Z0-9]{2,30}(-(PERP|[0-9]{8}))?$")
_BUDGET = re.compile(r"([a-z_]+)=([1-9][0-9]{0,8})(?:/([0-9]{1,6}(?:\.[0-9]{1,3})?)s?)?")


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
        expected = "expected pairs like BTCUSDT,ETHUSDT, or contracts like BTCUSDT-PERP"
        raise click.BadParameter(f"{', '.join(wrong) or 'none given'}: {expected}")
    return symbols


def _budgets(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Budget]:
    budgets = {}
    for value in values:
        match = _BUDGET.fullmatch(value)
        if match is None or match[1] not in RESTS or float(match[3] or 1) == 0:
            names = ", ".join(RESTS)
            raise click.BadParameter(f"{value}: expected VENUE=COUNT or VENUE=COUNT/SECONDS, with VENUE one of {names}")
        venue, most, per_s = match[1], int(match[2]), match[3]
        budgets[venue] = Budget(most, float(per_s) if per_s else RESTS[venue].venue_budget.per_s)
    return budgets


def _faults(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Spec, ...]:
    try:
        return tuple(map(from_text, values))
    except SettingsError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9440, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: a free one.")
@click.option("--venues", default=",".join(EXCHANGES), show_default=True, callback=_venues, help="Venues to serve.")
@click.option(
    "--rate", default=1000, show_default=True, type=click.IntRange(1, 50_000), help="Frames per second in total."
)
@click.option("--seed", default=1, show_default=True, help="Same seed, same market.")
@click.option("--symbols", callback=_symbols, help="Tradable, like BTCUSDT,BTCUSDT-PERP.  [default: all]")
@click.option("--trades", type=click.IntRange(1), help="Stop producing after so many trades.  [default: never]")
@click.option(
    "--journal", type=click.Path(path_type=Path), help="Append every trade of a subscribed topic to this file."
)
@click.option("--first-id", type=click.IntRange(1, 2**52), help="First trade id.  [default: from the time]")
@click.option(
    "--send-queue",
    default=8,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="MiB that a client may leave unread.",
)
@click.option(
    "--history",
    default=MAX_FILLS,
    show_default=True,
    type=click.IntRange(1, 100_000_000),
    help="Trades that the REST endpoints remember, of all instruments together (33 bytes each).",
)
@click.option(
    "--rest-budget",
    "rest_budgets",
    multiple=True,
    callback=_budgets,
    metavar="VENUE=COUNT[/SECONDS]",
    help="REST budget instead of the venue's own; may be repeated, once for each venue.  "
    "[default: binance=6000/60, binance_coinm and binance_usdm=2400/60 (weight), "
    "bybit and bybit_linear=600/5, okx=20/2, coinbase=10/1, kraken=1/1 (requests)]",
)
@click.option(
    "--linger",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 86_400),
    help="Seconds that a market continues after its last subscriber left; 0: it stops at once.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    callback=_faults,
    metavar="VENUE:KIND[:key=value,...]",
    help="A fault, see above; may be repeated.",
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
    history: int,
    rest_budgets: dict[str, Budget],
    linger: float,
    faults: tuple[Spec, ...],
) -> None:
    """Serve simulated venues on this machine: their real protocols, a synthetic market, faults on demand.

    Prints the variables that point `mdstream ingest` and `mdstream repair` at them, then serves until Ctrl-C. The
    market has prices that wander and jump, trades whose ids count up by one, quotes and books. Only subscribed topics
    produce events. REST serves the same trades as the websockets, with the venues' own limits.

    \b
    Examples:
      mdstream simulate
      mdstream simulate --venues binance,okx --symbols BTCUSDT,ETHUSDT --rate 5000
      mdstream simulate --port 0 --trades 100000 --journal made.jsonl
      mdstream simulate --fault binance:stall:at=30s,for=20s
      mdstream simulate --linger 60 --fault okx:disconnect:every=90s,seed=7 \\
                        --fault coinbase:drop:share=0.001,run=20,symbols=BTCUSD+ETHUSD
      BINANCE_WS_URL=ws://127.0.0.1:9440/binance/stream mdstream ingest --provider binance --symbols BTCUSDT

    \b
    While it runs:
      curl localhost:9440/status
      curl -X POST localhost:9440/pause      (or /resume)
      curl 'localhost:9440/binance/api/v3/aggTrades?symbol=BTCUSDT&limit=5'
      curl localhost:9440/faults
      curl -X POST localhost:9440/faults -d '{"venue":"okx","kind":"delay","ms":800,"for_s":10}'
      curl -X DELETE localhost:9440/faults/f1      (or /faults: all of them)

    \b
    Faults, their own parameters and defaults:
      disconnect      cut the connections: one=false (true: only one, at random)
      close           close them: code=1012 reason=Service restart
      shutdown        announce a restart, as Binance and OKX do, and close the connections when the fault ends
      refuse          refuse handshakes: status=503 (0: cut them off) rest=false (REST too)
      slow_handshake  answer handshakes late: ms=5000
      stall           no data, no heartbeats; answers and pings go on: replay=false (send it all at the end)
      delay           every frame late: ms=1000
      duplicate       frames twice: share=0.1 late_ms=0
      reorder         frames shuffled among window=20, or those of ms=200
      drop            trades not sent, REST has them: share=0.01 run=1 (in a row; with run alone: the next ones of each
                      instrument, once) unrecoverable=false (nor does REST have them)
      malformed       garbage behind good frames: share=0.05 how=any|cut|json|types|binary replace=false (instead)
      sequence_reset  ids begin again: first_id=1
      clock_skew      the venue's times are off: ms=5000 (negative: behind)

    \b
    All kinds take:
      at=30s       begin then (after the start, or after the POST)      [default: at once]
      for=20s      end after so long                                    [default: when it is deleted]
      every=60s    recur, after random pauses of that mean length       [default: once]
      seed=7       decides what is random                               [default: --seed]
      symbols=A+B  these alone, by canonical name                       [default: all]
    As JSON the same with at_s, for_s, every_s in seconds and symbols as a list.

    The journal has one JSON line for each trade of a subscribed topic, whatever the faults did to it: the ground truth
    for comparisons. It is complete once the simulator has stopped. Details: docs/simulator.md.
    """
    options = Options(
        host=host,
        port=port,
        venues=venues,
        rate=rate,
        seed=seed,
        symbols=symbols,
        max_trades=trades,
        journal=journal,
        first_id=first_id,
        send_queue_bytes=send_queue * MIB,
        history=history,
        rest_budgets=rest_budgets,
        linger_s=linger,
        faults=faults,
    )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(options))


async def _serve(options: Options) -> None:
    until = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, until.set)
    simulator = Simulator(options, click.echo)
    try:
        try:
            _announce(options, await simulator.start(), simulator.addresses)
            await simulator.run(until)
        finally:
            await simulator.stop()
    except OSError as error:
        raise MdstreamError(f"cannot write the journal {options.journal}: {error.strerror}") from error
    status = simulator.status()
    click.echo(f"stopped: {status['frames']} frames, trades {status['trades']}", err=True)


def _announce(options: Options, port: int, addresses: Mapping[str, str]) -> None:
    """Print the venues' addresses as shell exports: the caller reads them from stdout."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    for name in options.venues:
        if name in RESTS:
            click.echo(f"export {rest_setting(name)}=http://{host}:{port}/{name}")
        click.echo(f"export {ws_setting(name)}={addresses[name]}")


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop's loop if it is installed (everywhere but on Windows), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
