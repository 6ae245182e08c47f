"""An event loop in a thread of its own: a plain `for` also works where a loop runs already, as in a notebook, and the
connection lives on while its user computes."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import closing
from typing import Generic, TypeVar

from mdstream.errors import MdstreamError

T = TypeVar("T")


def iterate(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """What an asynchronous generator yields, in the caller's thread. It is closed when this one is."""
    with closing(_Background(items)) as background:
        while (item := background.next()) is not None:
            yield item


class _Background(Generic[T]):
    def __init__(self, items: AsyncGenerator[T, None]) -> None:
        self._items = items
        self._reading: asyncio.Task[T | None] | None = None
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._run, name="mdstream-client", daemon=True)
        self._thread.start()

    def next(self) -> T | None:
        """The next item; None after the last. Ctrl-C interrupts it: then only `close` may follow."""
        if not self._thread.is_alive():
            raise MdstreamError(
                "this loop began before a fork, and its thread is the parent's: begin another loop here"
            )
        return asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()

    def close(self) -> None:
        """Return when everything has ended. At the end of the program, and after a fork, the thread no longer runs."""
        if sys.is_finalizing() or not self._thread.is_alive():
            return
        ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        ended.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        if threading.current_thread() is self._thread:  # the garbage collector runs in any
            return
        ended.result()
        self._thread.join()

    # -- in the thread

    def _run(self) -> None:
        with self._runner:
            self._loop.run_forever()

    async def _next(self) -> T | None:
        self._reading = asyncio.current_task()
        return await anext(self._items, None)

    async def _end(self) -> None:
        if self._reading is not None and not self._reading.done():  # its waiting caller was interrupted
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._items.aclose()
