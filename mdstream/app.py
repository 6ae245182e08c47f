"""The Faust app of a role: `faust -A mdstream worker`, with MDSTREAM_ROLE naming the role (core by default)."""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, cast

from faust.serializers.schemas import Schema
from faust.types import TP
from faust.web.drivers import aiohttp as aiohttp_web
from mode.supervisors import CrashingSupervisor
from yarl import URL

from mdstream import config, kafka
from mdstream.config import Settings
from mdstream.errors import MdstreamError, SettingsError
from mdstream.http.listening import Runner
from mdstream.http.metrics import new_registry
from mdstream.kafka.reading import FETCH_BYTES
from mdstream.records import Partition
from mdstream.roles.state_log import StateLog
from mdstream.transport import collector
from mdstream.transport.credentials import credentials
from mdstream.transport.driver import Consumer, Transport
from mdstream.transport.host import Host
from mdstream.transport.offsets import Offsets
from mdstream.transport.recovery import CacheTable, CacheTables
from mdstream.watchdog.guard import Watchdog, exit_stuck
from mdstream.watchdog.rule import Limits, PartitionProgress, State
from topics import Topics

log = logging.getLogger(__name__)
worker_log = logging.getLogger("mdstream.worker")

ROLES = {
    "core": ("agents.canonical", "agents.latest", "agents.bars"),
    "files": ("agents.files",),
    "nats": ("agents.nats",),
    "timescale": ("agents.timescale",),
}
"""The agents of each role. Each sink is a role of its own, so that a stuck sink stops nothing else."""

PAGES = ("mdstream.web.health",)
"""The pages of every worker, whatever its role."""

TALKATIVE = {
    "mode": logging.WARNING,
    "faust": logging.WARNING,
    "mdstream.app": logging.WARNING,
    "mdstream.transport": logging.WARNING,
    "aiokafka": logging.CRITICAL,
}
"""Log levels of libraries that log every service, topic and rebalance: ninety lines until a worker is up. aiokafka
logs each failed connection attempt; the watchdog logs once that Kafka is unreachable."""

NOTHING_LOST = "nothing is lost: the next worker goes on at the last checkpoint"
STOP_LIMIT_S = 40.0
"""How long a worker may take to stop: its clients wait for Kafka, which may be away for hours."""
NOT_STOPPED = f"not stopped after {STOP_LIMIT_S:.0f} s; {NOTHING_LOST}"
TABLES_LIMIT_S = 1.0
"""How long the tables' last writes are awaited before partitions are given up: well within the time for that."""
SESSION_S = 6.0
HEARTBEAT_S = 0.5
"""A worker learns of a rebalance with its next heartbeat, and all wait for the last worker to learn of it."""
WEB_PORT = 6066
ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  compared with, never listened on

Restore = Callable[[Mapping[Partition, int]], Awaitable[Mapping[Partition, int]]]
Release = Callable[[set[Partition]], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]
Reason = Callable[[], str | None]


class BatchSchema(Schema[Any, Any]):
    """Passes an agent the Batch of a chunk unchanged: the agent decodes its records, all at once."""

    def update(self, **_: Any) -> None:
        """Nothing is serialized here. Faust decodes once per key type for all channels, so each gets its own."""
        self.key_type, self.value_type = cast(Any, self), None
        self.key_serializer = self.value_serializer = None

    def compile(self, app: Any, **_: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, **_: Any) -> Any:
            return create_event(None, message.value.pop(), message.headers, message)

        return decode


class Web(aiohttp_web.Web):
    """Faust's web server with our limits and without its pages: "/" is ours, /table and /router do not exist."""

    default_blueprints = ()
    production_blueprints = ()

    def __init__(self, app: Host, **options: Any) -> None:
        super().__init__(app, **options)
        self._runner = Runner(self.web_app)


class App(Host):
    """A Faust app whose batched topics arrive as mdstream.transport.batch.Batch."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.settings = settings
        self.topic_map = Topics(settings)
        self.batched_topics: Counter[str] = Counter()
        self.registry = new_registry()
        self._keepers: list[tuple[frozenset[str], Restore, Release]] = []
        self._before: list[Hook] = []
        self._after: list[Hook] = []
        self._reasons: list[Reason] = []
        self.watchdog = Watchdog(
            settings.bootstrap_servers, _limits(settings), self._watched_state, reads=True, outcome=lambda: NOTHING_LOST
        )
        super().__init__(
            f"{settings.topic_prefix}.{settings.role}",
            broker=[f"kafka://{server}" for server in str(settings.bootstrap_servers).split(",")],
            broker_credentials=credentials(settings.bootstrap_servers.security),
            producer_compression_type=None if settings.kafka.compression == "none" else settings.kafka.compression,
            **options,
        )

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Transport:
        return Transport(self.conf.broker_producer, self)

    @property
    def batched_consumer(self) -> Consumer:
        """The consumer that the transport made."""
        consumer = self.consumer
        assert isinstance(consumer, Consumer)
        return consumer

    def _new_web(self) -> Web:
        return Web(self)

    def positions(self) -> Mapping[TP, Offsets]:
        """The offsets of each batched partition that we own; empty before the worker has started."""
        return self._consumer.positions() if isinstance(self._consumer, Consumer) else {}

    # -- what agents declare

    def batched(self, *names: str) -> Any:
        """A channel of Batches of the named topics, for one agent."""
        self.batched_topics.update(names)
        return self.topic(*names, schema=BatchSchema(), acks=False)

    def cache_table(self, name: str) -> Any:
        """A table from symbol to public event, both as the canonical topic's bytes, so that partitions match too."""
        return self.Table(
            name, key_type=bytes, value_type=bytes, use_partitioner=True, partitions=self.settings.partitions
        )

    def keep(self, names: Collection[str], *, restore: Restore, release: Release) -> None:
        """Call `restore` when partitions of these topics are assigned, before the first Batch, and `release` before
        they are revoked. `restore` gets the group's offset of each and returns the offset to read from; where several
        agents share a topic, the earliest counts."""
        self._keepers.append((frozenset(names), restore, release))

    def around(self, *, before: Hook, after: Hook) -> None:
        """Await `before` before the first assignment and `after` when the worker stops."""
        self._before.append(before)
        self._after.insert(0, after)

    def run_beside(self, run: Hook) -> None:
        """Run a coroutine function as long as the worker runs; an exception from it ends the worker."""
        self.task(run)

    @cached_property
    def state_log(self) -> StateLog:
        """The checkpoint log that all agents of this worker share."""
        log = StateLog(self.settings.bootstrap_servers, self.topic_map.state.name)
        self.around(before=log.start, after=log.stop)
        return log

    def overtaken(self, partition: Partition) -> None:
        """Report that another worker wrote the state of a partition we own: it has to be taken over again."""
        self.batched_consumer.overtaken(TP(*partition))

    def holds(self, reason: Reason) -> None:
        """Register a function that returns why an agent holds its input back on purpose, such as an unreachable
        database, or None. While one returns a reason, the worker is not ready, and never stuck."""
        self._reasons.append(reason)

    # -- what the transport calls

    async def restore(self, starts: Mapping[TP, int]) -> dict[TP, int]:
        """Restore the state of batched partitions; the offsets to read from."""
        given = {Partition(*tp): start for tp, start in starts.items()}
        wanted = [({p: at for p, at in given.items() if p.topic in names}, each) for names, each, _ in self._keepers]
        restored = await asyncio.gather(*(restore(mine) for mine, restore in wanted if mine))
        return {TP(*p): min(found[p] for found in restored if p in found) for p in given}

    async def release(self, tps: Collection[TP]) -> None:
        """Have every agent finish and save what it took from these partitions."""
        for names, _, release in self._keepers:
            mine = {Partition(*tp) for tp in tps if tp.topic in names}
            if mine:
                await release(mine)
        if self._producer is not None:  # of the tables' changelogs alone, which the next owner reads
            with suppress(TimeoutError):
                await asyncio.wait_for(self._producer.flush(), TABLES_LIMIT_S)

    async def _producer_flush(self, logger: Any) -> None:
        """Nothing: Faust's step of each rebalance and stop, where it waits without a limit while a broker is away."""

    # -- life

    def _create_directories(self) -> None:
        try:
            self.settings.data_dir.mkdir(parents=True, exist_ok=True)
            super()._create_directories()
        except OSError as error:
            raise SystemExit(f"mdstream: MDSTREAM_DATA_DIR={self.settings.data_dir}: {error.strerror}") from None

    async def on_start(self) -> None:
        if logging.root.level <= logging.DEBUG:  # asked for with --log-level: show everything
            _quiet(dict.fromkeys(TALKATIVE, logging.NOTSET))
        try:
            await self._set_up()
        except MdstreamError as error:  # the operator's to fix: one line, no traceback
            raise SystemExit(f"mdstream: {error}") from None
        self.watchdog.start()
        self.add_future(self.watchdog.pulse())
        await super().on_start()

    async def on_started(self) -> None:
        await super().on_started()
        worker_log.info("%s is up: http://%s:%s/health", self.conf.id, self.conf.web_bind, self.conf.web_port)

    def _watched_state(self) -> State:
        """The state that the watchdog judges."""
        epoch = self.rebalancing_count
        partitions = {
            Partition(*tp): PartitionProgress(epoch, at.committable, at.delivered)
            for tp, at in self.positions().items()
        }
        if isinstance(self._consumer, Consumer):  # owned but not read yet: no progress either
            partitions |= {Partition(*tp): PartitionProgress(epoch, -1, 0) for tp in self._consumer.unpositioned()}
        holding = next(filter(None, (reason() for reason in self._reasons)), None)
        return State(partitions, settled=epoch > 0 and not self.rebalancing, assignments=epoch, holding=holding)

    async def _set_up(self) -> None:
        self._check_port()
        self._advertise()
        # A consumer that subscribes before its topics exist is never assigned any of them.
        changelogs = (self.topic_map.changelog(table.changelog_topic_name) for table in self.tables.values())
        await kafka.create_topics(
            self.settings.bootstrap_servers, [*self.topic_map, *changelogs], replication=self.settings.replication
        )
        for hook in self._before:
            await hook()
        collector.tune()

    def _advertise(self) -> None:
        """Take the advertised address from the settings, whatever --web-port made of it."""
        if self.settings.canonical_url:
            self.conf.canonical_url = URL(self.settings.canonical_url)
        if self.tables and self.conf.canonical_url.host in ANYWHERE:
            log.warning(
                "this worker advertises %s, where the other workers reach only themselves: "
                "set NODE_CANONICAL_URL=http://HOST:%d, as they reach it",
                self.conf.canonical_url,
                self.conf.web_port,
            )

    def _check_port(self) -> None:
        """Raises SettingsError when the web server's port is taken: Faust would only print a traceback."""
        host, port = self.conf.web_bind, self.conf.web_port
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise SettingsError(
                    f"the web pages cannot listen on {host}:{port} ({error.strerror}): "
                    "choose another port with --port, --web-port or HTTP_PORT"
                ) from None

    async def on_stop(self) -> None:
        limit = threading.Timer(STOP_LIMIT_S, exit_stuck, [lambda: NOT_STOPPED])
        limit.daemon = True
        limit.start()
        await self.watchdog.stop()
        if isinstance(self._consumer, Consumer) and self._consumer.started:
            await self._consumer.release()
            await self._consumer.leave()  # first: whatever the rest waits for, other workers go on
        await super().on_stop()
        for hook in self._after:
            await hook()


def _quiet(levels: Mapping[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def _limits(settings: Settings) -> Limits:
    """The watchdog's limits. A core worker's position moves once per checkpoint: the time between two is no stall."""
    more_s, limits = settings.checkpoint_interval_s, settings.watchdog
    exit_s = min(limits.stuck_exit_s, limits.core_stuck_exit_s if settings.role == "core" else limits.stuck_exit_s)
    exit_s += more_s if exit_s else 0
    return Limits(ready_s=limits.stuck_ready_s + more_s, exit_s=exit_s, start_s=limits.start_allowance_s)


def build(settings: Settings | None = None) -> App:
    """The app of the settings' role, with its agents. Raises SettingsError for a role that has none."""
    settings = settings or config.load()
    modules = ROLES.get(settings.role)
    if modules is None:
        raise SettingsError(f"MDSTREAM_ROLE={settings.role}: choose from {', '.join(ROLES)}")
    app = App(
        settings,
        web_host=settings.http.host,
        web_bind=settings.http.host,
        web_port=settings.http.port or WEB_PORT,
        canonical_url=settings.canonical_url,
        topic_partitions=settings.partitions,
        topic_allow_declare=False,  # they exist, see App._set_up
        TableManager=CacheTables,
        Table=CacheTable,
        agent_supervisor=CrashingSupervisor,
        store="memory://",
        datadir=settings.data_dir / "faust",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES,
        broker_commit_interval=1.0,
        # With Faust's defaults a join takes up to 60 s; with these the group takes over within 10 s.
        broker_session_timeout=SESSION_S,
        broker_rebalance_timeout=SESSION_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_max_poll_interval=300.0,
        table_standby_replicas=0,
        stream_wait_empty=False,
        topic_disable_leader=True,
        worker_redirect_stdouts=False,
    )
    _quiet(TALKATIVE)
    for module in (*modules, *PAGES):
        importlib.import_module(module).attach(app, settings)
    return app
