"""Broker checks and topic administration: is a broker reachable, what can it do, which topics exist.

Brokers differ in two ways that matter here: some have no idempotent producer, and some report an end offset lower than
the true one (decision 11).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    InvalidReplicationFactorError,
    KafkaError,
    NodeNotReadyError,
    NoError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.protocol.transaction import InitProducerIdRequest

from mdstream.config.cluster import Brokers, Cluster
from mdstream.errors import AccessError, BrokerError
from mdstream.kafka.diagnosis import FAILURES, why
from mdstream.kafka.security import options
from topics import Topic

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_MS = 10_000
ADMIN_TIMEOUT_MS = 30_000
"""A broker that has just started creates topics slowly."""
NAMED_LIMIT_S, NAMED_EVERY_S = 15.0, 0.2
"""How long a cluster that has just started may name no broker, or have no coordinator, and how often it is polled."""


async def unreachable(bootstrap_servers: Brokers, error: BaseException) -> BrokerError:
    """The error to show if no broker answers, or none lets us in. Raises SettingsError if a file cannot be used."""
    if reason := await why(Cluster.of(bootstrap_servers)):
        return AccessError(f"Kafka at {reason}")
    return BrokerError(
        f"no Kafka broker answers at {bootstrap_servers} ({error}): start one with `mdstream broker` or `make up`, "
        "or set KAFKA_BOOTSTRAP_SERVERS"
    )


def lost(bootstrap_servers: Brokers, error: BaseException) -> BrokerError:
    """The error to show when a broker that answered fails later."""
    return BrokerError(f"the Kafka broker at {bootstrap_servers} failed: {error!r}")


class Admin(AIOKafkaAdminClient):  # type: ignore[misc]  # aiokafka ships no types
    """aiokafka's admin client, which asks one broker: if that one has died, this one asks the others."""

    async def _send_request(self, request: Any, node_id: int | None = None) -> Any:
        if node_id is not None:
            return await super()._send_request(request, node_id)
        return await self.ask(request)

    async def _send_to_controller(self, request: Any) -> Any:
        controller = self._client.cluster.controller
        return await self.ask(request, None if controller is None else controller.nodeId)

    async def ask(self, request: Any, first: int | None = None) -> Any:
        """The answer of a broker, each of which passes on what is the controller's to do.

        Raises NodeNotReadyError if no broker is there.
        """
        brokers = [broker.nodeId for broker in self._client.cluster.brokers()]
        for node_id in sorted(brokers, key=lambda node_id: (node_id != first, random.random())):
            with suppress(NodeNotReadyError):
                return await self._client.send(node_id, request)
        raise NodeNotReadyError(f"none of {len(brokers)} brokers")

    async def find_coordinator(self, group_id: str, coordinator_type: int = 0) -> int:
        """The broker that keeps the group. There is none yet where the cluster has just started or lost a broker."""
        deadline = time.monotonic() + NAMED_LIMIT_S
        while True:
            try:
                node_id: int = await super().find_coordinator(group_id, coordinator_type)
            except GroupCoordinatorNotAvailableError:
                if time.monotonic() > deadline:
                    raise
            else:
                return node_id
            await asyncio.sleep(NAMED_EVERY_S)


@asynccontextmanager
async def admin(bootstrap_servers: Brokers) -> AsyncIterator[Admin]:
    """An admin client. Raises BrokerError if no broker answers."""
    client = await _admin_client(bootstrap_servers)
    try:
        yield client
    except NodeNotReadyError as error:  # the brokers advertise other addresses than the bootstrap ones
        raise await unreachable(bootstrap_servers, error) from error
    except KafkaError as error:
        raise lost(bootstrap_servers, error) from error
    finally:
        await client.close()


async def _admin_client(bootstrap_servers: Brokers) -> Admin:
    """A client that knows a broker. A restarted broker answers before it has rejoined its cluster, and names no broker
    until then: it is polled, as such a client could send no request.
    """
    deadline = time.monotonic() + NAMED_LIMIT_S
    while True:
        client = Admin(**options(bootstrap_servers), request_timeout_ms=ADMIN_TIMEOUT_MS)
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
    """Create the missing topics and wait until the broker shows all. Returns the names of the new ones.

    Raises BrokerError if the broker refuses one, or an existing topic has another partition count.
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


async def _create(client: Admin, new: list[NewTopic]) -> str | None:
    """Why the cluster cannot create them yet (a broker that has just started has not joined it), or None.

    Raises BrokerError if the cluster refuses one.
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


async def _wait_until_shown(client: Admin, wanted: dict[str, Topic], limit_s: float = 30.0) -> None:
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
    """Delete the topics that exist and wait until the broker no longer shows them.

    Raises BrokerError if the broker refuses one.
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
    """Whether the broker hands out producer ids. Raises BrokerError if none answers."""
    async with admin(bootstrap_servers) as client:
        # Right after a start Apache Kafka may answer "coordinator is loading": ask again.
        for _ in range(50):
            response = await client.ask(InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000))
            error = for_code(response.error_code)
            if not error.retriable or response.error_code == -1:
                break
            await asyncio.sleep(0.2)
    return error is NoError


async def partition_counts(bootstrap_servers: Brokers) -> dict[str, int]:
    """Every topic of the broker with the number of its partitions. Raises BrokerError if no broker answers."""
    async with admin(bootstrap_servers) as client:
        # All topics, not the wanted ones: asking a broker for a topic by name may create it.
        return {t["topic"]: len(t["partitions"]) for t in await client.describe_topics()}


async def partitions_of(bootstrap_servers: Brokers, topic: str) -> list[TopicPartition]:
    """The partitions of a topic. Raises BrokerError if there is no such topic."""
    count = (await partition_counts(bootstrap_servers)).get(topic, 0)
    if not count:
        raise no_topic(bootstrap_servers, topic)
    return [TopicPartition(topic, number) for number in range(count)]


def no_topic(bootstrap_servers: Brokers, topic: str) -> BrokerError:
    """The error for a topic that the broker does not have."""
    return BrokerError(
        f"there is no topic {topic} at {bootstrap_servers}: run `mdstream topics --create`, "
        "or check MDSTREAM_TOPIC_PREFIX and KAFKA_BOOTSTRAP_SERVERS"
    )
