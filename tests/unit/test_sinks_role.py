"""A sink role ends in order: nothing is written after its sinks were closed, whatever they were doing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sink_builders import batch, records, trade

from mdstream.config import load
from mdstream.errors import SinkError
from mdstream.roles.sink import SinkRole
from mdstream.sinks import loop as sink_loop
from mdstream.sinks.base import Chunk, Refusal


class Down:
    """A sink whose target is down: with `hangs` it never answers, else it fails."""

    name = "down"

    def __init__(self, *, hangs: bool = False, retriable: bool = True) -> None:
        self._hangs, self._retriable = hangs, retriable
        self.did: list[str] = []

    async def open(self) -> None:
        raise SinkError(self.name, "nowhere", "away", retriable=self._retriable)

    async def write(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
        self.did.append("write")
        if self._hangs:
            await asyncio.Event().wait()
        raise SinkError(self.name, "nowhere", "away")

    async def close(self) -> None:
        self.did.append("close")

    def metrics(self) -> dict[str, float]:
        return {}


@pytest.mark.parametrize("hangs", [True, False])
async def test_stop_ends_the_writing_before_it_closes_the_sinks(hangs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later write would reopen what was closed."""
    monkeypatch.setattr(sink_loop, "MIN_RETRY_S", 0)
    sink, acknowledged = Down(hangs=hangs), list[int]()
    role = SinkRole("files", load(), [sink])
    running = asyncio.create_task(role.run())
    await role.process(batch(records(trade()), acknowledged=acknowledged))
    async with asyncio.timeout(5):
        while "write" not in sink.did:  # noqa: ASYNC110  what is watched is a plain list
            await asyncio.sleep(0)
        await role.stop()
        await running
    assert sink.did[-1] == "close"
    assert acknowledged == []


async def test_start_ends_where_an_operator_has_to_fix_something() -> None:
    """Before anything is read; a target that may come back by itself is waited for instead."""
    with pytest.raises(SinkError):
        await SinkRole("files", load(), [Down(retriable=False)]).start()
