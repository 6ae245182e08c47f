"""The broker's answers: a function for each request, from the request's struct to the fields of the response."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiokafka.errors import (
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    NoError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol import admin, commit, coordination, fetch, group, metadata, offset, produce, transaction
from aiokafka.protocol.api import RequestStruct

from mdstream.broker.group import Group, Position
from mdstream.broker.log import Log, RefusedError
from mdstream.broker.store import Store

OK, UNKNOWN = NoError.errno, UnknownTopicOrPartitionError.errno
NODE = 1
LATEST, EARLIEST = -1, -2
TOPIC = 2
"""DescribeConfigs' code for a topic; a broker is 4."""

Fields = dict[str, Any]
Answer = Callable[[Any, str], Fields | Awaitable[Fields | None] | None]

SUPPORTED = (
    (produce.ProduceRequest, 3, 7),
    (fetch.FetchRequest, 4, 4),
    (offset.OffsetRequest, 1, 2),
    (metadata.MetadataRequest, 1, 4),
    (commit.OffsetCommitRequest, 2, 3),
    (commit.OffsetFetchRequest, 1, 3),
    (coordination.FindCoordinatorRequest, 0, 1),
    (group.JoinGroupRequest, 0, 2),
    (group.HeartbeatRequest, 0, 1),
    (group.LeaveGroupRequest, 0, 1),
    (group.SyncGroupRequest, 0, 1),
    (admin.DescribeGroupsRequest, 0, 0),
    (admin.ListGroupsRequest, 0, 0),
    (admin.ApiVersionRequest, 0, 1),
    (admin.CreateTopicsRequest, 0, 2),
    (admin.DeleteTopicsRequest, 0, 1),
    (admin.DeleteRecordsRequest, 0, 0),
    (transaction.InitProducerIdRequest, 0, 0),
    (admin.DescribeConfigsRequest, 0, 0),
)
"""The supported requests, with their first and last version: the versions that need no code of their own."""

STRUCTS: dict[tuple[int, int], type[RequestStruct]] = {
    (request.API_KEY, struct.API_VERSION): struct
    for request, first, last in SUPPORTED
    for struct in request._CLASSES  # noqa: SLF001  the pinned version's list of them
    if first <= struct.API_VERSION <= last
}
VERSIONS = [(request.API_KEY, first, last) for request, first, last in SUPPORTED]


class Api:
    """The broker behind its socket; `host` and `port` are the address that clients are told."""

    def __init__(self, store: Store, host: str, port: int) -> None:
        self.store, self._host, self._port = store, host, port
        self.groups: dict[str, Group] = {}
        self._producers = 0
        self._answers: dict[int, Answer] = {
            request.API_KEY: getattr(self, f"_{request.__name__.removesuffix('Request').lower()}")
            for request, _, _ in SUPPORTED
        }

    async def answer(self, request: RequestStruct, client: str) -> bytes | None:
        """The response, encoded; None if the client wants none."""
        fields = self._answers[request.API_KEY](request, client)
        if inspect.isawaitable(fields):
            fields = await fields
        if fields is None:
            return None
        schema = request.RESPONSE_TYPE.SCHEMA
        return bytes(schema.encode([fields.get(name, 0) for name in schema.names]))

    def tick(self) -> None:
        """Call several times a second."""
        for each in self.groups.values():
            each.tick()

    # -- records

    def _produce(self, request: Any, _: str) -> Fields | None:
        topics = [
            (topic, [(number, *self._append(topic, number, content, request)) for number, content in partitions])
            for topic, partitions in request.topics
        ]
        return {"topics": topics} if request.required_acks else None

    def _append(self, topic: str, number: int, content: bytes, request: Any) -> tuple[int, ...]:
        """Error, offset, append time, and from version 5 on the log's start offset."""
        log = self.store.log(topic, number)
        error, first = UNKNOWN, -1
        if log is not None:
            try:
                error, first = OK, self.store.append(log, content)
            except RefusedError as refused:
                error = refused.code
        start = () if request.API_VERSION < 5 else (-1 if log is None else log.start,)
        return (error, first, -1, *start)

    async def _fetch(self, request: Any, _: str) -> Fields:
        answer, size = self._read(request)
        if size < request.min_bytes and request.max_wait_time > 0:
            logs = [log for _, _, log in self._fetched(request) if log is not None]
            await self.store.wait_for_records(logs, request.max_wait_time / 1000)
            answer, _size = self._read(request)
        return {"topics": answer}

    def _fetched(self, request: Any) -> Iterator[tuple[str, tuple[int, int, int], Log | None]]:
        for topic, partitions in request.topics:
            for each in partitions:
                yield topic, each, self.store.log(topic, each[0])

    def _read(self, request: Any) -> tuple[list[tuple[str, list[tuple[Any, ...]]]], int]:
        """The requested partitions with their records, and the records' bytes; an error counts as `min_bytes`."""
        left, size = request.max_bytes, 0
        answer: list[tuple[str, list[tuple[Any, ...]]]] = [(topic, []) for topic, _ in request.topics]
        found = dict(answer)
        for topic, (number, start, max_bytes), log in self._fetched(request):
            if log is None or not log.start <= start <= log.end:
                error = UNKNOWN if log is None else OffsetOutOfRangeError.errno
                found[topic].append((number, error, -1, -1, [], b""))
                size += request.min_bytes
                continue
            content = log.read(start, min(max_bytes, left)) if left > 0 else b""
            left, size = left - len(content), size + len(content)
            found[topic].append((number, OK, log.end, log.end, [], content))
        return answer, size

    def _offset(self, request: Any, _: str) -> Fields:
        def offset_of(topic: str, number: int, time_ms: int) -> tuple[int, int, int, int]:
            log = self.store.log(topic, number)
            if log is None:
                return number, UNKNOWN, -1, -1
            if time_ms in (LATEST, EARLIEST):
                return number, OK, -1, log.end if time_ms == LATEST else log.start
            at, when = log.since(time_ms) or (-1, -1)
            return number, OK, when, at

        return {"topics": [(topic, [offset_of(topic, *each) for each in wanted]) for topic, wanted in request.topics]}

    def _deleterecords(self, request: Any, _: str) -> Fields:
        def delete(topic: str, number: int, until: int) -> tuple[int, int, int]:
            log = self.store.log(topic, number)
            if log is None:
                return number, -1, UNKNOWN
            until = log.end if until == LATEST else until
            if not 0 <= until <= log.end:
                return number, -1, OffsetOutOfRangeError.errno
            log.delete_before(until)
            return number, log.start, OK

        return {"topics": [(topic, [delete(topic, *each) for each in wanted]) for topic, wanted in request.topics]}

    def _initproducerid(self, request: Any, _: str) -> Fields:
        if request.transactional_id is not None:
            return {"error_code": -1, "producer_id": -1, "producer_epoch": -1}
        self._producers += 1
        # Ids start at the clock, so that a producer from before our restart never shares its id with a new one.
        return {"producer_id": (time.time_ns() >> 20 << 16) + self._producers % (1 << 16), "producer_epoch": 0}

    # -- topics

    def _metadata(self, request: Any, _: str) -> Fields:
        names = list(self.store.topics) if request.topics is None else request.topics
        return {
            "brokers": [(NODE, self._host, self._port, None)],
            "cluster_id": "mdstream",
            "controller_id": NODE,
            "topics": [
                self._shown(name, make=request.API_VERSION < 4 or request.allow_auto_topic_creation) for name in names
            ],
        }

    def _shown(
        self, name: str, *, make: bool
    ) -> tuple[int, str, bool, list[tuple[int, int, int, list[int], list[int]]]]:
        topic = self.store.find_or_create(name) if make else self.store.topics.get(name)
        if topic is None:
            return UNKNOWN, name, False, []
        return OK, name, False, [(OK, number, NODE, [NODE], [NODE]) for number in range(len(topic.logs))]

    def _createtopics(self, request: Any, _: str) -> Fields:
        only_check = bool(request.API_VERSION and request.validate_only)
        errors = [(each[0], *self._create(*each, only_check=only_check)) for each in request.create_topic_requests]
        return {"topic_errors": [error if request.API_VERSION else error[:2] for error in errors]}

    def _create(
        self, name: str, partitions: int, replicas: int, placed: list[Any], config: list[Any], *, only_check: bool
    ) -> tuple[int, str | None]:
        if name in self.store.topics:
            return TopicAlreadyExistsError.errno, f"topic {name} exists already"
        partitions = len(placed) or (1 if partitions == -1 else partitions)
        if partitions < 1:
            return InvalidPartitionsError.errno, "a topic needs at least one partition"
        if replicas not in (-1, 1):
            return InvalidReplicationFactorError.errno, "there is one broker"
        try:
            if not only_check:
                self.store.create(name, partitions, {key: value for key, value in config if value is not None})
        except ValueError as error:
            return InvalidConfigurationError.errno, str(error)
        return OK, None

    def _deletetopics(self, request: Any, _: str) -> Fields:
        def delete(name: str) -> tuple[str, int]:
            if name not in self.store.topics:
                return name, UNKNOWN
            self.store.delete(name)
            for each in self.groups.values():
                each.offsets = {tp: position for tp, position in each.offsets.items() if tp[0] != name}
            return name, OK

        return {"topic_error_codes": [delete(name) for name in request.topics]}

    def _describeconfigs(self, request: Any, _: str) -> Fields:
        def describe(kind: int, name: str, wanted: list[str] | None) -> tuple[Any, ...]:
            topic = self.store.topics.get(name) if kind == TOPIC else None
            if topic is None and kind == TOPIC:
                return UNKNOWN, None, kind, name, []
            config = {} if topic is None else topic.config
            shown = [(key, value, False, False, False) for key, value in config.items() if not wanted or key in wanted]
            return OK, None, kind, name, shown

        return {"resources": [describe(*each) for each in request.resources]}

    # -- groups

    def _group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group(name))

    def _findcoordinator(self, request: Any, _: str) -> Fields:  # noqa: ARG002  there is one broker, for every group
        return {"error_message": None, "coordinator_id": NODE, "host": self._host, "port": self._port}

    async def _joingroup(self, request: Any, client: str) -> Fields:
        session_s = request.session_timeout / 1000
        rebalance_s = request.rebalance_timeout / 1000 if request.API_VERSION else session_s
        joined = await self._group(request.group).join(
            request.member_id,
            client,
            request.protocol_type,
            request.group_protocols,
            session_s=session_s,
            rebalance_s=rebalance_s,
        )
        return {
            "error_code": joined.error,
            "generation_id": joined.generation,
            "group_protocol": joined.protocol,
            "leader_id": joined.leader,
            "member_id": joined.member,
            "members": joined.members,
        }

    async def _syncgroup(self, request: Any, _: str) -> Fields:
        synced = await self._group(request.group).sync(
            request.member_id, request.generation_id, dict(request.group_assignment)
        )
        return {"error_code": synced.error, "member_assignment": synced.assignment}

    def _heartbeat(self, request: Any, _: str) -> Fields:
        return {"error_code": self._group(request.group).heartbeat(request.member_id, request.generation_id)}

    def _leavegroup(self, request: Any, _: str) -> Fields:
        return {"error_code": self._group(request.group).leave(request.member_id)}

    def _offsetcommit(self, request: Any, _: str) -> Fields:
        given = {
            (topic, number): Position(at, text)
            for topic, partitions in request.topics
            for number, at, text in partitions
        }
        known = {tp: position for tp, position in given.items() if self.store.log(*tp) is not None}
        error = self._group(request.consumer_group).commit(
            request.consumer_id, request.consumer_group_generation_id, known
        )
        return {
            "topics": [
                (topic, [(number, error if (topic, number) in known else UNKNOWN) for number, _, _ in partitions])
                for topic, partitions in request.topics
            ]
        }

    def _offsetfetch(self, request: Any, _: str) -> Fields:
        found = self.groups[request.consumer_group].offsets if request.consumer_group in self.groups else {}
        wanted = request.topics
        if wanted is None:
            wanted = [(topic, [n for name, n in found if name == topic]) for topic in sorted({t for t, _ in found})]
        nothing = Position(-1, "")
        return {
            "topics": [
                (topic, [(number, *found.get((topic, number), nothing), OK) for number in numbers])
                for topic, numbers in wanted
            ]
        }

    def _listgroups(self, _request: Any, _: str) -> Fields:
        return {"groups": [(each.name, each.protocol_type) for each in self.groups.values()]}

    def _describegroups(self, request: Any, _: str) -> Fields:
        return {"groups": [self._described(name) for name in request.groups]}

    def _described(self, name: str) -> tuple[Any, ...]:
        found = self.groups.get(name)
        if found is None:
            return OK, name, "Dead", "", "", []
        members = [
            (m.id, m.client, "/127.0.0.1", dict(m.protocols).get(found.protocol, b""), m.assignment)
            for m in found.members.values()
        ]
        return OK, name, found.state.value, found.protocol_type, found.protocol, members

    # -- the broker itself

    def _apiversion(self, request: Any, _: str) -> Fields:  # noqa: ARG002  all clients are told the same
        return {"api_versions": VERSIONS}
