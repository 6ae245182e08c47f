"""The Faust app of a role: `faust -A mdstream worker`, with MDSTREAM_ROLE naming the role (core by default)."""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, cast

from faust.serializers.schemas import Schema
from faust.types import TP
from faust.web.drivers import aiohttp as aiohttp_web
from mode.supervisors import CrashingSupervisor
from prometheus_client import CollectorRegistry

from mdstream import collector, config, kafka
from mdstream.config import Settings
from mdstream.errors import MdstreamError, SettingsError
from mdstream.transport.batch import Partition
from mdstream.transport.driver import Consumer, Transport
from mdstream.transport.host import Host
from mdstream.transport.offsets import Offsets, start_of
from mdstream.transport.recovery import CacheTable, CacheTables
from mdstream.watchdog.guard import Watchdog
from mdstream.watchdog.rule import Lane, Limits, State
from topics import Topics

log = logging.getLogger(__name__)
said = logging.getLogger("mdstream.worker")

ROLES = {
    "core": ("agents.canonical", "agents.latest", "agents.bars"),
    "files": ("agents.files",),
    "nats": ("agents.nats",),
    "timescale": ("agents.timescale",),
}
"""The agents of each role. A sink is a role of its own, so that one that is stuck stops nothing else."""

PAGES = ("mdstream.web.health",)
"""The pages that every role's worker has."""

TALKATIVE = {
    "mode": logging.WARNING,
    "faust": logging.WARNING,
    "mdstream.app": logging.WARNING,
    "mdstream.transport": logging.WARNING,
    "aiokafka": logging.CRITICAL,
}
"""What is shown of those who tell of each service, topic and rebalance: ninety lines until a worker is up. aiokafka
logs each failed attempt to connect; the watchdog says once that Kafka is away."""

NOTHING_LOST = "nothing is lost: the next worker goes on at the last checkpoint"
SESSION_S = 6.0
WEB_PORT = 6066

Restore = Callable[[set[Partition]], Awaitable[Mapping[Partition, int | None]]]
Release = Callable[[set[Partition]], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]
Reason = Callable[[], str | None]


class BatchSchema(Schema[Any, Any]):
    """Gives an agent its Batch of a chunk as it is: the records in it are decoded by the agent, all at once."""

    def update(self, **_: Any) -> None:
        """Nothing is serialized here. Faust decodes once for all channels with the same key type: each has its own."""
        self.key_type, self.value_type = cast(Any, self), None
        self.key_serializer = self.value_serializer = None

    def compile(self, app: Any, **_: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, **_: Any) -> Any:
            return create_event(None, message.value.pop(), message.headers, message)

        return decode


class Web(aiohttp_web.Web):
    """Faust's web server without its own start page: "/" is ours."""

    production_blueprints = ()


class App(Host):
    """A Faust app whose batched topics come as mdstream.transport.batch.Batch."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.settings = settings
        self.topic_map = Topics(settings)
        self.batched_topics: Counter[str] = Counter()
        self.registry = CollectorRegistry()
        self._keepers: list[tuple[frozenset[str], Restore, Release]] = []
        self._before: list[Hook] = []
        self._after: list[Hook] = []
        self._reasons: list[Reason] = []
        self.watchdog = Watchdog(
            settings.bootstrap_servers, _limits(settings), self._look, reads=True, fate=lambda: NOTHING_LOST
        )
        super().__init__(
            f"{settings.topic_prefix}.{settings.role}",
            broker=[f"kafka://{server}" for server in settings.bootstrap_servers.split(",")],
            **options,
        )

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Transport:
        return Transport(self.conf.broker_producer, self)

    @property
    def batched_consumer(self) -> Consumer:
        """The consumer, as the transport makes it."""
        consumer = self.consumer
        assert isinstance(consumer, Consumer)
        return consumer

    def _new_web(self) -> Web:
        return Web(self)

    def positions(self) -> Mapping[TP, Offsets]:
        """How far each batched partition that is ours has come; none before the worker has started."""
        return self._consumer.positions() if isinstance(self._consumer, Consumer) else {}

    # -- what agents declare

    def batched(self, *names: str) -> Any:
        """A channel of Batches of the named topics, for one agent."""
        self.batched_topics.update(names)
        return self.topic(*names, schema=BatchSchema(), acks=False)

    def cache_table(self, name: str) -> Any:
        """A table of symbol to a public event, both as the canonical topic has them: bytes, so partitions agree too."""
        return self.Table(
            name, key_type=bytes, value_type=bytes, use_partitioner=True, partitions=self.settings.partitions
        )

    def keep(self, names: Collection[str], *, restore: Restore, release: Release) -> None:
        """Call `restore` whenever partitions of these topics are assigned, before the first Batch, and `release`
        before they are taken away. `restore` returns the position to read each from, None for the committed offset; of
        several agents of one topic the earliest counts."""
        self._keepers.append((frozenset(names), restore, release))

    def around(self, *, before: Hook, after: Hook) -> None:
        """Await `before` ahead of the first assignment and `after` when the worker stops."""
        self._before.append(before)
        self._after.insert(0, after)

    def run_beside(self, run: Hook) -> None:
        """Run a coroutine function for as long as the worker lives; what it raises ends the worker."""
        self.task(run)

    def holds(self, reason: Reason) -> None:
        """Ask `reason` why an agent keeps its input on purpose, a database that is away for instance; None: it does
        not. While it does, the worker is not ready, and never stuck."""
        self._reasons.append(reason)

    # -- what the transport calls

    async def restore(self, committed: Mapping[TP, int | None]) -> dict[TP, int]:
        """Where to read batched partitions from, after their state was restored."""
        wanted = [({Partition(*tp) for tp in committed if tp.topic in names}, each) for names, each, _ in self._keepers]
        restored = await asyncio.gather(*(restore(mine) for mine, restore in wanted if mine))
        found = [{TP(*partition): at for partition, at in positions.items()} for positions in restored]
        starts = {tp: start_of((at[tp] for at in found if tp in at), offset) for tp, offset in committed.items()}
        return {tp: start for tp, start in starts.items() if start is not None}

    async def release(self, tps: Collection[TP]) -> None:
        """Let every agent make safe what it took of these partitions."""
        for names, _, release in self._keepers:
            mine = {Partition(*tp) for tp in tps if tp.topic in names}
            if mine:
                await release(mine)

    # -- life

    def _create_directories(self) -> None:
        try:
            self.settings.data_dir.mkdir(parents=True, exist_ok=True)
            super()._create_directories()
        except OSError as error:
            raise SystemExit(f"mdstream: MDSTREAM_DATA_DIR={self.settings.data_dir}: {error.strerror}") from None

    async def on_start(self) -> None:
        if logging.root.level <= logging.DEBUG:  # asked for with --log-level: all of it
            _quiet(dict.fromkeys(TALKATIVE, logging.NOTSET))
        try:
            await self._set_up()
        except MdstreamError as error:  # for whoever starts us to mend: one line, no traceback
            raise SystemExit(f"mdstream: {error}") from None
        self.watchdog.start()
        self.add_future(self.watchdog.pulse())
        await super().on_start()

    async def on_started(self) -> None:
        await super().on_started()
        said.info("%s is up: http://%s:%s/health", self.conf.id, self.conf.web_bind, self.conf.web_port)

    def _look(self) -> State:
        """What the watchdog sees of us."""
        epoch = self.rebalancing_count
        lanes = {Partition(*tp): Lane(epoch, at.committable, at.delivered) for tp, at in self.positions().items()}
        holding = next(filter(None, (reason() for reason in self._reasons)), None)
        return State(lanes, settled=epoch > 0 and not self.rebalancing, holding=holding)

    async def _set_up(self) -> None:
        self._check_port()
        # A consumer that subscribes before its topics exist is assigned none of them, also later.
        await kafka.create_topics(
            self.settings.bootstrap_servers, self.topic_map, replication=self.settings.replication
        )
        for hook in self._before:
            await hook()
        collector.tune()

    def _check_port(self) -> None:
        """Raises SettingsError where the web server's port is taken: Faust would say so with a traceback only."""
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
        await self.watchdog.stop()
        if isinstance(self._consumer, Consumer):
            await self._consumer.release()
        await super().on_stop()
        for hook in self._after:
            await hook()


def _quiet(levels: Mapping[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def _limits(settings: Settings) -> Limits:
    """The watchdog's. A core worker's position moves once a checkpoint: the time between two is no stall."""
    more_s = settings.checkpoint_interval_s
    exit_s = settings.stuck_exit_s and settings.stuck_exit_s + more_s
    return Limits(ready_s=settings.stuck_ready_s + more_s, exit_s=exit_s, start_s=settings.start_allowance_s)


def build(settings: Settings | None = None) -> App:
    """The app of the settings' role, with its agents. Raises SettingsError for a role that has none."""
    settings = settings or config.load()
    modules = ROLES.get(settings.role)
    if modules is None:
        raise SettingsError(f"MDSTREAM_ROLE={settings.role}: there is {', '.join(ROLES)}")
    app = App(
        settings,
        web_host=settings.http_host,
        web_bind=settings.http_host,
        web_port=settings.http_port or WEB_PORT,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        TableManager=CacheTables,
        Table=CacheTable,
        agent_supervisor=CrashingSupervisor,
        store="memory://",
        datadir=settings.data_dir / "faust",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=kafka.FETCH_BYTES,
        broker_commit_interval=1.0,
        # With Faust's defaults a join waits for 60 s; the group then takes over within 10.
        broker_session_timeout=SESSION_S,
        broker_rebalance_timeout=SESSION_S,
        broker_heartbeat_interval=2.0,
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
