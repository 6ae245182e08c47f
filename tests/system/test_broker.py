"""The embedded broker over its socket, with real clients: what Kafka does, and memory that stays bounded."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from processes import Processes, free_port, wait_until

from mdstream.broker.server import serving
from mdstream.broker.store import Store
from mdstream.embedded.broker import answers

pytestmark = pytest.mark.system

MIB = 1 << 20
TP = TopicPartition("t", 0)


@asynccontextmanager
async def broker(store: Store) -> AsyncIterator[str]:
    """A broker on this loop, with the topic t; its address."""
    store.create("t", 1, {"message.timestamp.type": "LogAppendTime"})
    port = free_port()
    async with serving(store, port, advertise=port):
        yield f"127.0.0.1:{port}"


@asynccontextmanager
async def producer(address: str) -> AsyncIterator[AIOKafkaProducer]:
    made = AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def consumer(address: str, **options: object) -> AsyncIterator[AIOKafkaConsumer]:
    made = AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False, **options)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def test_fetch_of_a_long_log_is_as_quick_as_of_a_short_one() -> None:
    """Its end is read within the 25 ms that a worker's fetch may wait, with 20,000 batches before it.

    A broker that scans the log for each fetch would return nothing in this time, and a worker would make no progress.
    """
    store = Store(512 * MIB)
    async with broker(store) as address, producer(address) as made:
        await made.send_and_wait("t", b"x")
        log, sample = store.topics["t"].logs[0], store.topics["t"].logs[0].read(0, 1)
        unknown = bytearray(sample)  # as a producer without idempotence would write it
        while log.end < 20_000:
            log.append(_anonymous(unknown), 1)
        async with consumer(address, fetch_max_wait_ms=25) as reader:
            reader.assign([TP])
            took = []
            for _ in range(20):
                reader.seek(TP, log.end - 1)
                began = time.monotonic()
                found = await reader.getmany(timeout_ms=1000)
                took.append(time.monotonic() - began)
                assert [record.offset for record in found[TP]] == [log.end - 1]
        assert sorted(took)[10] < 0.1


def _anonymous(batch: bytearray) -> bytes:
    from aiokafka.record.util import calc_crc32c

    struct.pack_into(">qhi", batch, 43, -1, -1, -1)
    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))
    return bytes(batch)


async def test_records_come_as_soon_as_they_are_written() -> None:
    """A fetch that waits is answered by the append, not by the end of its wait."""
    async with (
        broker(Store(MIB)) as address,
        producer(address) as made,
        consumer(address, fetch_max_wait_ms=20_000) as reader,
    ):
        reader.assign([TP])
        reader.seek(TP, 0)
        waiting = asyncio.create_task(reader.getone())
        await asyncio.sleep(0.5)
        await made.send_and_wait("t", b"news")
        assert (await asyncio.wait_for(waiting, 5)).value == b"news"


async def test_what_is_kept_stays_within_the_limit_and_readers_go_on_at_the_beginning() -> None:
    """Ten times the limit is written: the oldest is gone, the end is there, and DeleteRecords frees the rest."""
    store = Store(MIB)
    async with broker(store) as address, producer(address) as made:
        for _ in range(10):
            await asyncio.gather(*[await made.send("t", b"x" * 100_000) for _ in range(10)])
        store.expire()
        assert store.size <= MIB
        async with consumer(address, auto_offset_reset="earliest") as reader:
            reader.assign([TP])
            reader.seek(TP, 0)  # long gone
            first = await asyncio.wait_for(reader.getone(), 10)
            [start], [end] = (await reader.beginning_offsets([TP])).values(), (await reader.end_offsets([TP])).values()
            assert first.offset == start > 80
            assert end == 100
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        try:
            assert await admin.delete_records({TP: RecordsToDelete(99)}) == {TP: 99}
        finally:
            await admin.close()
        assert store.size < 2 * 100_000


async def test_resident_memory_does_not_grow_once_the_limit_is_reached(tmp_path: Path) -> None:
    """Eight times the limit is written, a quarter of it to partitions that are 120 times slower than the busy one.

    Dropped batches that stay resident, a little in each partition, would be twice the limit in the end.
    """
    limit, slow, large, small = 16 * MIB, 120, os.urandom(900_000), os.urandom(8_000)
    port = free_port()
    with Processes(tmp_path) as processes:
        process = processes.spawn(
            [sys.executable, "-m", "mdstream.broker", port, "--keep-mb", limit // MIB], name="broker"
        )
        wait_until(lambda: answers(port), what="the broker")
        address = f"127.0.0.1:{port}"
        await _create_topic(address, "t", 1 + slow)
        async with producer(address) as made:
            written, full = 0, 0
            while written < 8 * limit:
                sends = [await made.send("t", large, partition=0) for _ in range(3)]
                sends += [await made.send("t", small, partition=1 + number) for number in range(slow)]
                await asyncio.gather(*sends)
                written += 3 * len(large) + slow * len(small)
                if not full and written > 2 * limit:
                    full = _resident_bytes(process.pid)
        assert _resident_bytes(process.pid) < full + limit / 2


async def _create_topic(address: str, name: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1)])
    finally:
        await admin.close()


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_committed_offsets_are_those_of_the_group_for_all_its_topics() -> None:
    """Asked for by name or all at once; those of a deleted topic are forgotten."""
    async with broker(Store(MIB)) as address:
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        try:
            await admin.create_topics([NewTopic("u", 2, 1)])
            async with consumer(address, group_id="g") as reader:
                reader.subscribe(["t", "u"])
                await reader.getmany(timeout_ms=2000)
                await reader.commit({TP: 0, TopicPartition("u", 1): 0})
            assert set(await admin.list_consumer_group_offsets("g")) == {TP, TopicPartition("u", 1)}
            await admin.delete_topics(["u"])
            assert set(await admin.list_consumer_group_offsets("g")) == {TP}
            assert await admin.list_consumer_groups() == [("g", "consumer")]
        finally:
            await admin.close()


async def test_newer_clients_get_the_supported_versions() -> None:
    """librdkafka and kcat ask in version 3: the answer is one of version 0, with error 35 and the list (KIP-511)."""
    async with broker(Store(MIB)) as address:
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port), family=socket.AF_INET)
        request = struct.pack(">hhih", 18, 3, 7, -1) + b"\0\2x\2y\0"
        writer.write(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        number, error, count = struct.unpack_from(">ihi", await reader.readexactly(length))
        assert (number, error) == (7, 35)
        assert count > 15
        writer.close()


@pytest.mark.parametrize("message", [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">ihhi", 8, 999, 0, 1), b"\0\0\0\1x"])
async def test_invalid_request_ends_the_connection_and_nothing_else(message: bytes) -> None:
    """As Kafka does; the next client is answered."""
    async with broker(Store(MIB)) as address, producer(address) as made:
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(message)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await made.send_and_wait("t", b"x")
