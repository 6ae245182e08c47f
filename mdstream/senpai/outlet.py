"""Messages as they are published: the subject, without the prefix, and the payload. Pure.

features.BTCUSDT    signals.BTCUSDT    alerts
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mdstream.senpai.messages import Alert, Features, Message, encode
from mdstream.sinks.subjects import encode_token

MAX_TOKEN = 1_024
"""A longer symbol has no subject: a server closes the connection on a line of 4,096 bytes."""


class Output(NamedTuple):
    """As nats_protocol.batch takes it. It has no number: what is stored once is told by the position stored with it."""

    tail: str
    seq: None
    value: bytes


class Outlet:
    """Turns messages into outputs; `refused` counts those whose symbol is too long."""

    def __init__(self) -> None:
        self.refused = 0
        self._tokens: dict[str, str] = {}

    def outputs(self, messages: Iterable[Message]) -> list[Output]:
        """In their order."""
        made: list[Output] = []
        for message in messages:
            if isinstance(message, Alert):
                made.append(Output("alerts", None, encode(message)))
                continue
            token = self._tokens.get(message.symbol)
            if token is None:  # the engine bounds symbols
                token = self._tokens[message.symbol] = encode_token(message.symbol)
            if len(token) > MAX_TOKEN:
                self.refused += 1
                continue
            kind = "features" if isinstance(message, Features) else "signals"
            made.append(Output(f"{kind}.{token}", None, encode(message)))
        return made


def commands(prefix: str, outputs: Iterable[Output]) -> bytes:
    """The commands that publish them to current subscribers."""
    return b"".join(
        part
        for output in outputs
        for part in (f"PUB {prefix}.{output.tail} {len(output.value)}\r\n".encode(), output.value, b"\r\n")
    )
