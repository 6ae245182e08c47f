"""The watchdog of one process: a thread with its own event loop and Kafka client.

It shares neither with what it watches: it has to detect an agent that blocks the main loop, and a client whose fetcher
died. From the main loop it reads one immutable State, replaced twice a second.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from mdstream import kafka
from mdstream.config.cluster import Brokers
from mdstream.errors import AccessError, BrokerError, SettingsError
from mdstream.records import Partition
from mdstream.watchdog.rule import Limits, Rule, State, Verdict

log = logging.getLogger(__name__)

EXIT_STUCK = 75
"""EX_TEMPFAIL of sysexits.h: restart the process."""
PULSE_S = 0.5
MAX_ASK_S = 5.0
EXIT_DELAY_S = 2.0
"""From the 503 on /live to the exit: a process that recovers meanwhile continues, and probes of /live see the 503."""
JOIN_LIMIT_S = 5.0


class Watchdog:
    """Watches the state that `read_state` returns. `reads`: see Rule. `outcome`: what becomes of waiting data (logged).

    `read_state` is called on the main loop, `outcome` on another thread.
    """

    def __init__(
        self,
        bootstrap_servers: Brokers,
        limits: Limits,
        read_state: Callable[[], State],
        *,
        reads: bool,
        outcome: Callable[[], str],
    ) -> None:
        self.rule = Rule(limits, reads=reads)
        self._bootstrap_servers, self._read_state, self._outcome = bootstrap_servers, read_state, outcome
        self._ask_s = min(MAX_ASK_S, limits.ready_s / 2, limits.exit_s / 4 or MAX_ASK_S)
        self._state = State(settled=False)
        self._pulses = 0
        self._answered_s = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name="watchdog", daemon=True)

    # -- on the main loop

    def start(self) -> None:
        """Start watching."""
        self._answered_s = time.monotonic()
        self._thread.start()

    async def pulse(self) -> None:
        """Publish the state, and that the loop is turning, until cancelled."""
        while True:
            self._state = self._read_state()
            self._pulses += 1
            await asyncio.sleep(PULSE_S)

    async def stop(self) -> None:
        """Stop watching: shutdown has its own limits."""
        self._stopping.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, JOIN_LIMIT_S)

    # -- from any thread

    @property
    def unanswered_s(self) -> float:
        """Seconds since Kafka last answered."""
        return time.monotonic() - self._answered_s

    @property
    def verdict(self) -> Verdict:
        """The current verdict on the process."""
        return self.rule.verdict(self._state, self.unanswered_s)

    # -- on the watchdog's thread

    def _main(self) -> None:
        asyncio.run(self._watch())

    async def _watch(self) -> None:
        asking = asyncio.create_task(self._ask())
        last_s, dead_s, was = time.monotonic(), None, "ok"
        while not self._stopping.is_set() and not asking.done():
            await asyncio.sleep(PULSE_S)
            now_s = time.monotonic()
            # At most twice the interval: beyond that this process was suspended.
            self.rule.pulsed(self._pulses, min(now_s - last_s, 2 * PULSE_S))
            last_s = now_s
            verdict = self.verdict
            was = _report(verdict, was)
            dead_s = None if verdict.live else dead_s or now_s
            if dead_s is not None and now_s - dead_s >= EXIT_DELAY_S:
                exit_stuck(partial(self._reason, verdict))
        asking.cancel()
        await asyncio.wait([asking])
        if not asking.cancelled():
            asking.result()  # raises its error, into the log

    async def _ask(self) -> None:
        """Ask Kafka forever; a failed connection is replaced. A refusal of our credentials is logged once."""
        refusal = ""
        while True:
            try:
                async with kafka.reader(self._bootstrap_servers) as consumer:
                    refusal = ""
                    await self._ask_by(consumer)
            except (AccessError, SettingsError) as error:
                if refusal != (refusal := str(error)):
                    log.error("%s", error)  # noqa: TRY400  the line is enough
            except (BrokerError, KafkaError, OSError, TimeoutError) as error:
                log.debug("no answer for the watchdog: %s", error)
            await asyncio.sleep(self._ask_s)

    async def _ask_by(self, consumer: AIOKafkaConsumer) -> None:
        last_s: float | None = None
        while True:
            state = self._state
            ends = await _ends(consumer, state.partitions)
            now_s = time.monotonic()
            counted_s = 0.0 if last_s is None else min(now_s - last_s, 2 * self._ask_s)
            self.rule.answered(state, ends, counted_s)
            self._answered_s = last_s = now_s
            await asyncio.sleep(self._ask_s)

    def _reason(self, verdict: Verdict) -> str:
        where = f"; the event loop is at {_main_line()}" if self.rule.frozen_s >= self.rule.limits.ready_s else ""
        return f"{'; '.join(verdict.problems)}{where}; {self._outcome()}"


def exit_stuck(reason: Callable[[], str]) -> NoReturn:
    """Log the reason and end the process with 75.

    No clean-up: it would need the stuck parts. A crash loses nothing, by design.
    """
    # In a thread: a log pipe that nobody reads, or a lock held by the frozen loop, must not block the exit.
    last_line = threading.Thread(target=lambda: log.critical("%s; exit %d", reason(), EXIT_STUCK), daemon=True)
    try:
        last_line.start()
        last_line.join(EXIT_DELAY_S)
    finally:
        os._exit(EXIT_STUCK)


def _report(verdict: Verdict, was: str) -> str:
    """Log one line when the status becomes stuck or unreachable, and one when it no longer is."""
    if verdict.status != was and verdict.status in ("stuck", "unreachable"):
        log.warning("%s", "; ".join(verdict.problems))
    elif verdict.status != was and was in ("stuck", "unreachable"):
        log.warning("no longer %s: %s", was, verdict.status)
    return verdict.status


async def _ends(consumer: AIOKafkaConsumer, partitions: Mapping[Partition, object]) -> dict[Partition, int]:
    """The end of each partition's log from its leader: one request per broker. Without partitions: just a request."""
    if not partitions:
        await consumer.topics()
        return {}
    found = await consumer.end_offsets([TopicPartition(*partition) for partition in partitions])
    return {Partition(tp.topic, tp.partition): end for tp, end in found.items()}


def _main_line() -> str:
    """The main thread's current position: file, line, function."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001  the documented way
    if frame is None:
        return "an unknown place"
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, {frame.f_code.co_name}"
