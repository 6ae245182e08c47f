"""What every part of mdstream asks of a Kafka broker besides records: is it there, what can it do, which topics.

Brokers differ in two ways that matter here: some have no idempotent producer, and the end offset that one reports may
be lower than the true one (docs/decisions.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaClient, AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    NodeNotReadyError,
    NoError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.protocol.transaction import InitProducerIdRequest

from mdstream.cluster import Brokers, Cluster
from mdstream.errors import AccessError, BrokerError
from mdstream.kafka_diagnosis import FAILURES, why
from mdstream.kafka_security import options
from topics import Topic

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_MS = 10_000
ADMIN_TIMEOUT_MS = 30_000
"""A broker that has just started takes its time to make topics."""
NAMED_LIMIT_S, NAMED_EVERY_S = 15.0, 0.2
"""How long a broker that answers may name no broker, itself included, and how often it is asked."""
FETCH_BYTES = 1 << 19
STOP_LIMIT_S = 1.0
"""A TLS connection may wait half a minute for the other side's farewell; nothing is left to say by then."""
STALL_S = 30.0
"""A read that has not reached the end of a log and gets nothing for so long is taken for stuck."""
TAIL_S = 3.0
"""So long is read past the reported end, which may be short by the last batch."""


async def unreachable(bootstrap_servers: Brokers, error: BaseException) -> BrokerError:
    """The error to show when no broker answers, or none takes us. Raises SettingsError where a file cannot be used."""
    if reason := await why(Cluster.of(bootstrap_servers)):
        return AccessError(f"Kafka at {reason}")
    return BrokerError(
        f"no Kafka broker answers at {bootstrap_servers} ({error}): start one with `mdstream broker` or `make up`, "
        "or set KAFKA_BOOTSTRAP_SERVERS"
    )


def lost(bootstrap_servers: Brokers, error: BaseException) -> BrokerError:
    """The error to show when a broker that answered fails later."""
    return BrokerError(f"the Kafka broker at {bootstrap_servers} failed: {error!r}")


@asynccontextmanager
async def admin(bootstrap_servers: Brokers) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client. Raises BrokerError where no broker answers."""
    client = await _admin_client(bootstrap_servers)
    try:
        yield client
    except NodeNotReadyError as error:  # the brokers' advertised addresses are not those that we began with
        raise await unreachable(bootstrap_servers, error) from error
    except KafkaError as error:
        raise lost(bootstrap_servers, error) from error
    finally:
        await client.close()


async def _admin_client(bootstrap_servers: Brokers) -> AIOKafkaAdminClient:
    """A client that knows a broker. A broker that has just come back answers before its cluster counts it in again, and
    names none until then: it is asked anew, as no request of such a client would go anywhere.
    """
    deadline = time.monotonic() + NAMED_LIMIT_S
    while True:
        client = AIOKafkaAdminClient(**options(bootstrap_servers), request_timeout_ms=ADMIN_TIMEOUT_MS)
        try:
            await client.start()
        except FAILURES as error:
            await client.close()
            raise await unreachable(bootstrap_servers, error) from error
        if client._client.cluster.brokers():  # noqa: SLF001  the client has no other way to tell
            return client
        await client.close()
        if reason := await why(Cluster.of(bootstrap_servers)):  # a refused token looks like this to aiokafka
            raise AccessError(f"Kafka at {reason}")
        if time.monotonic() > deadline:
            raise BrokerError(f"{bootstrap_servers} answers, but its cluster has no broker: look at the brokers' logs")
        await asyncio.sleep(NAMED_EVERY_S)


async def create_topics(bootstrap_servers: Brokers, topics: Iterable[Topic], *, replication: int = 1) -> list[str]:
    """Declare the topics that are not there yet and wait until the broker shows all; the names of the new ones.

    Raises BrokerError where the broker refuses one, or an existing topic has another partition count.
    """
    wanted = {topic.name: topic for topic in topics}
    async with admin(bootstrap_servers) as client:
        present = await client.list_topics()
        missing = [topic for name, topic in wanted.items() if name not in present]
        new = [NewTopic(t.name, t.partitions, replication, topic_configs=t.config) for t in missing]
        deadline = time.monotonic() + NAMED_LIMIT_S
        while new and (fenced := await _create(client, new)):
            if time.monotonic() > deadline:
                raise BrokerError(f"topics were not created: {fenced}")
            await asyncio.sleep(NAMED_EVERY_S)
        await _wait_until_shown(client, wanted)
    return [topic.name for topic in missing]


async def _create(client: AIOKafkaAdminClient, new: list[NewTopic]) -> str | None:
    """Why the cluster cannot make them yet: it has not counted in a broker that has just come (back); else None.

    Raises BrokerError where it will not.
    """
    response = await client.create_topics(new)
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        text = f"{error.__name__} {' '.join(filter(None, message))}"
        if error is InvalidReplicationFactorError and "fenced" in text:
            return f"{name}: {text}"
        if error not in (NoError, TopicAlreadyExistsError):
            raise BrokerError(f"topic {name} was not created: {text}")
    return None


async def _wait_until_shown(client: AIOKafkaAdminClient, wanted: dict[str, Topic], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        shown = {
            t["topic"]: len(t["partitions"]) for t in await client.describe_topics(list(wanted)) if not t["error_code"]
        }
        if set(shown) == set(wanted) and all(shown.values()):
            break
        if time.monotonic() > deadline:
            raise BrokerError(
                f"topics still missing after {limit_s:.0f} s: {', '.join(sorted(set(wanted) - set(shown)))}"
            )
        await asyncio.sleep(0.1)
    for name, topic in wanted.items():
        if shown[name] != topic.partitions:
            raise BrokerError(
                f"topic {name} has {shown[name]} partitions, the settings say {topic.partitions}: "
                f"set MDSTREAM_PARTITIONS={shown[name]} or recreate the topics"
            )


async def delete_topics(bootstrap_servers: Brokers, names: Iterable[str], limit_s: float = 30.0) -> None:
    """Delete those of the topics that are there, and wait until the broker shows them no more.

    Raises BrokerError where the broker refuses one.
    """
    async with admin(bootstrap_servers) as client:
        wanted = set(names)
        doomed = sorted(wanted.intersection(await client.list_topics()))
        if not doomed:
            return
        response = await client.delete_topics(doomed)
        for name, code, *_ in response.topic_error_codes:
            if (error := for_code(code)) is not NoError:
                raise BrokerError(f"topic {name} was not deleted: {error.__name__}")
        deadline = time.monotonic() + limit_s
        while left := wanted.intersection(await client.list_topics()):
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"topics still there {limit_s:.0f} s after they were deleted: {', '.join(sorted(left))}"
                )
            await asyncio.sleep(0.1)


async def has_idempotent_producer(bootstrap_servers: Brokers) -> bool:
    """Whether the broker hands out producer ids. Raises BrokerError where none answers."""
    client = AIOKafkaClient(**options(bootstrap_servers), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await client.bootstrap()
        node = client.get_random_node()
        # Right after a start Apache Kafka may answer "coordinator is loading": ask again.
        for _ in range(50):
            response = await client.send(
                node, InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
            )
            error = for_code(response.error_code)
            if not error.retriable or response.error_code == -1:
                break
            await asyncio.sleep(0.2)
    except FAILURES as error:
        raise await unreachable(bootstrap_servers, error) from error
    finally:
        await client.close()
    return error is NoError


@asynccontextmanager
async def reader(
    bootstrap_servers: Brokers, *, max_partition_fetch_bytes: int = FETCH_BYTES, fetch_max_wait_ms: int = 200
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer outside any group, to assign and seek by hand. Raises BrokerError where no broker answers."""
    consumer = AIOKafkaConsumer(
        **options(bootstrap_servers),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        fetch_max_wait_ms=fetch_max_wait_ms,
        max_partition_fetch_bytes=max_partition_fetch_bytes,
    )
    try:
        try:
            await consumer.start()
        except FAILURES as error:
            raise await unreachable(bootstrap_servers, error) from error
        try:
            yield consumer
        except KafkaError as error:
            raise lost(bootstrap_servers, error) from error
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(consumer.stop(), STOP_LIMIT_S)


class LogEnd:
    """Tells when a consumer has read partitions to the end they had when this was made.

    The reported end alone does not say it: a broker may report one that is too low, and a compacted or
    transactional log may end in offsets that hold no record. So a fetch has to come back empty as well; on a topic that
    is written to all the time, TAIL_S of reading past the reported end stand for that.
    """

    def __init__(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], *, quiet_s: float = 0.5) -> None:
        self._consumer, self._ends, self._quiet_s = consumer, ends, quiet_s
        self._passed_at: float | None = None
        self._empty_since: float | None = None

    async def reached(self, *, empty: bool) -> bool:
        """To be asked after each fetch, with whether it was empty. Raises BrokerError where STALL_S brought nothing."""
        now = time.monotonic()
        if not empty:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
        quiet_s = 0.0 if self._empty_since is None else now - self._empty_since
        if self._passed_at is None:
            behind = [tp for tp, end in self._ends.items() if await self._consumer.position(tp) < end]
            if behind and quiet_s >= STALL_S:
                where = ", ".join(f"{tp.topic}[{tp.partition}]" for tp in behind)
                raise BrokerError(f"the broker gave nothing for {STALL_S:.0f} s, but there is more to read: {where}")
            if behind:
                return False
            self._passed_at = now
        return quiet_s >= self._quiet_s or now - self._passed_at >= TAIL_S


async def read_to_end(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition], *, quiet_s: float = 0.5
) -> AsyncIterator[list[ConsumerRecord]]:
    """Chunks of records from each partition's current position to its end (LogEnd).

    Raises BrokerError where nothing comes for STALL_S although the end is not reached.
    """
    partitions = list(partitions)
    if not partitions:  # getmany would take none for all
        return
    end = LogEnd(consumer, await consumer.end_offsets(partitions), quiet_s=quiet_s)
    while True:
        chunk = await consumer.getmany(*partitions, timeout_ms=200)
        for records in chunk.values():
            yield records
        if await end.reached(empty=not chunk):
            return


async def read_until(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> AsyncIterator[list[ConsumerRecord]]:
    """Chunks of records from each partition's current position until it has come to its end here. To be given a time
    limit: an end that the log does not have is waited for."""
    behind = set(ends)
    while behind := {tp for tp in behind if await consumer.position(tp) < ends[tp]}:
        for records in (await consumer.getmany(*behind, timeout_ms=200)).values():
            yield records


async def partition_counts(bootstrap_servers: Brokers) -> dict[str, int]:
    """Every topic of the broker with the number of its partitions. Raises BrokerError where no broker answers."""
    async with admin(bootstrap_servers) as client:
        # All topics, not the wanted ones: to ask a broker for a topic by name may create it.
        return {t["topic"]: len(t["partitions"]) for t in await client.describe_topics()}


async def partitions_of(bootstrap_servers: Brokers, topic: str) -> list[TopicPartition]:
    """The partitions of a topic. Raises BrokerError where there is no such topic."""
    count = (await partition_counts(bootstrap_servers)).get(topic, 0)
    if not count:
        raise BrokerError(
            f"there is no topic {topic} at {bootstrap_servers}: run `mdstream topics --create`, "
            "or check MDSTREAM_TOPIC_PREFIX and KAFKA_BOOTSTRAP_SERVERS"
        )
    return [TopicPartition(topic, number) for number in range(count)]
