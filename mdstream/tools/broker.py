"""`mdstream broker`: the embedded broker in the foreground."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

import click

from mdstream.embedded import DEFAULT_PORT, EmbeddedBroker
from mdstream.errors import BrokerError

MIB = 1 << 20
LOOK_S = 0.5


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="Port on 127.0.0.1."
)
@click.option(
    "--report-every",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds between memory reports.",
)
def command(port: int, report_every: float) -> None:
    """A Kafka-compatible broker in the foreground, for trying things out. Ctrl-C stops it.

    It keeps everything in memory and frees nothing: when it stops, all topics are gone. For data that must last use
    Apache Kafka (`make up`).

    \b
    mdstream broker                           at 127.0.0.1:9092, where every command looks by default
    mdstream broker --port 19092              then: export KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:19092
    """
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the signature is signal's
        stopped.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    with EmbeddedBroker(port) as broker:
        click.echo(
            f"Kafka-compatible broker at {broker.bootstrap}, in memory only: what it holds is gone when it stops"
        )
        _watch(broker, stopped, report_every)
    click.echo("stopped")


def _watch(broker: EmbeddedBroker, stopped: threading.Event, report_every_s: float) -> None:
    """Report its memory until `stopped` is set. Raises BrokerError where the broker ends by itself."""
    report_at = time.monotonic()
    while not stopped.wait(LOOK_S):
        if not broker.running:
            raise BrokerError("the embedded broker ended by itself, and with it all it held: start it again")
        if time.monotonic() >= report_at:
            report_at += report_every_s
            held = broker.resident_bytes()
            if held is not None:
                click.echo(f"{time.strftime('%H:%M:%S')} resident memory {held / MIB:.0f} MiB")
