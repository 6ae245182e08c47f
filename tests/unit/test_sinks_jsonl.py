"""events.jsonl holds each event once, whole lines only, whatever happens to the process or the disk."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sink_builders import TRADES, records, trade

from mdstream import events
from mdstream.errors import BrokerError, SinkError
from mdstream.records import Partition
from mdstream.sinks import jsonl, position, rotation
from mdstream.sinks.base import Chunk, decode
from mdstream.sinks.jsonl import JsonlSink
from mdstream.sinks.position import Position, Written

MIB = 1 << 20


class Log:
    """The topic as the broker has it: `values` by offset."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.requested = 0
        self.away = False

    async def value_at(self, partition: Partition, offset: int) -> bytes | None:
        self.requested += 1
        if self.away:
            raise BrokerError("no broker answers")
        return self.values[offset] if offset < len(self.values) else None

    def fill(self, count: int, **fields: object) -> None:
        self.values = [events.encode(trade(n, **fields)) for n in range(count)]

    def chunk(self, first: int, following: int) -> Chunk:
        made, _ = decode(TRADES, records(*self.values[first:following], first=first))
        return made

    def text(self, first: int, following: int) -> bytes:
        return b"".join(value + b"\n" for value in self.values[first:following])


@pytest.fixture
def log() -> Log:
    made = Log()
    made.fill(100)
    return made


class Sinks:
    """Makes sinks in one folder, as many as a test needs."""

    def __init__(self, folder: Path, log: Log) -> None:
        self._folder, self._log = folder, log
        self._alive: list[JsonlSink] = []

    def __call__(self, *, rotate_bytes: int = 256 * MIB, compress: bool = False) -> JsonlSink:
        sink = JsonlSink(self._folder, value_at=self._log.value_at, rotate_bytes=rotate_bytes, compress=compress)
        self._alive.append(sink)
        return sink

    async def die(self, sink: JsonlSink) -> None:
        """Close its descriptors and release its lock, as the kernel does for a killed process."""
        self._alive.remove(sink)
        await sink.close()

    async def close(self) -> None:
        for sink in self._alive:
            await sink.close()


@pytest.fixture
async def make(tmp_path: Path, log: Log) -> AsyncIterator[Sinks]:
    sinks = Sinks(tmp_path, log)
    yield sinks
    await sinks.close()


async def test_lines_are_the_values_as_on_the_topic(make: Sinks, log: Log, tmp_path: Path) -> None:
    sink = make()
    await sink.write([log.chunk(0, 3), log.chunk(3, 5)])
    assert (tmp_path / "events.jsonl").read_bytes() == log.text(0, 5)
    assert sink.lines == 5


async def test_a_number_with_two_contents_is_written_twice_and_reported(
    make: Sinks, log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    seq        0  1  1'  1     the file is what the topic is; the same bytes again are a repeat
    """
    again = events.encode(trade(1, price=9.5))
    log.values = [*log.values[:2], again, log.values[1]]
    sink = make()
    await sink.write([log.chunk(0, 2)])
    assert sink.metrics()["seq_conflicts_total"] == 0
    await sink.write([log.chunk(2, 4)])
    assert (tmp_path / "events.jsonl").read_bytes() == log.text(0, 4)
    assert sink.metrics()["seq_conflicts_total"] == 1
    [reply] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert reply.message.startswith(
        "jsonl: trade.BTCUSDT: 1 events have a number (seq) that is stored with another content"
    )


async def test_an_event_over_several_lines_becomes_one(make: Sinks, tmp_path: Path) -> None:
    """A foreign producer may format its JSON; the file stays one event a line."""
    spread = msgspec.json.format(events.encode(trade(1)), indent=2)
    made, _ = decode(TRADES, records(trade(0), spread, trade(2)))
    await make().write([made])
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert [events.decode(line) for line in lines] == [trade(0), trade(1), trade(2)]


async def test_what_comes_again_is_not_written_again(make: Sinks, log: Log, tmp_path: Path) -> None:
    """offsets  0 ....... 10            written
    6 .................. 20   again after a crash: 10 to 19 are new
    """
    first = make()
    await first.write([log.chunk(0, 10)])
    await make.die(first)
    second = make()
    await second.write([log.chunk(6, 9)])
    await second.write([log.chunk(9, 20)])
    assert (tmp_path / "events.jsonl").read_bytes() == log.text(0, 20)
    assert (second.lines, second.repeats) == (10, 4)
    assert log.requested == 1, "the broker is asked once, however many chunks come again"


async def test_a_topic_recreated_is_written_from_its_beginning(make: Sinks, log: Log, tmp_path: Path) -> None:
    """Offsets below the recorded one are no repeats where the log is another one."""
    old = log.text(0, 10)
    first = make()
    await first.write([log.chunk(0, 10)])
    await make.die(first)
    log.fill(20, price=1.5)
    second = make()
    await second.write([log.chunk(0, 8)])
    await second.write([log.chunk(8, 20)])
    assert (tmp_path / "events.jsonl").read_bytes() == old + log.text(0, 20)


async def test_a_shorter_topic_recreated_is_written_too(make: Sinks, log: Log, tmp_path: Path) -> None:
    """The broker has no record yet where the last one was written from."""
    sink = make()
    await sink.write([log.chunk(0, 10)])
    old = log.text(0, 10)
    log.fill(3, price=1.5)
    await sink.write([log.chunk(0, 3)])
    assert (tmp_path / "events.jsonl").read_bytes() == old + log.text(0, 3)


async def test_without_a_broker_to_ask_nothing_is_written(make: Sinks, log: Log, tmp_path: Path) -> None:
    """It can be checked later whether these are repeats: a guess would lose or double events."""
    sink = make()
    await sink.write([log.chunk(0, 10)])
    log.away = True
    with pytest.raises(BrokerError):
        await sink.write([log.chunk(5, 15)])
    log.away = False
    await sink.write([log.chunk(5, 15)])
    assert (tmp_path / "events.jsonl").read_bytes() == log.text(0, 15)


@pytest.mark.parametrize("torn", [b"x", b'{"type":"trade","sym', b'{"type":"trade"}\n{"ty'])
async def test_what_a_crash_left_behind_the_record_is_cut_off(
    make: Sinks, log: Log, tmp_path: Path, torn: bytes
) -> None:
    """Killed between writing lines and recording them: they will come again, so they are removed."""
    first = make()
    await first.write([log.chunk(0, 10)])
    await make.die(first)
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(torn)
    await make().write([log.chunk(10, 12)])
    assert (tmp_path / "events.jsonl").read_bytes() == log.text(0, 12)


@hypothesis.settings(max_examples=25, deadline=None)  # each example syncs files a dozen times
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=8), st.binary(max_size=20))
async def test_lines_are_the_log_whatever_is_repeated_and_torn(
    tmp_path_factory: pytest.TempPathFactory, crashes: list[tuple[int, int]], torn: bytes
) -> None:
    """Any number of crashes, each with a step back and a torn tail: the file is the log's beginning, exactly."""
    folder = tmp_path_factory.mktemp("jsonl")
    log = Log()
    log.fill(60)
    at = 0
    for back, ahead in crashes:
        sink = JsonlSink(folder, value_at=log.value_at, rotate_bytes=MIB, compress=False)
        await sink.open()
        start = max(0, at - back)
        end = min(60, start + ahead)
        if end > start:
            await sink.write([log.chunk(start, end)])
        at = max(at, end)
        await sink.close()
        with (folder / "events.jsonl").open("ab") as file:
            file.write(torn)
    final = JsonlSink(folder, value_at=log.value_at, rotate_bytes=MIB, compress=False)
    await final.open()
    await final.close()
    assert (folder / "events.jsonl").read_bytes() == log.text(0, at)


async def test_a_deleted_file_is_recreated(make: Sinks, log: Log, tmp_path: Path) -> None:
    """Also while it is being written. Repeated events are then written again, as they are nowhere else."""
    sink = make()
    await sink.write([log.chunk(0, 10)])
    (tmp_path / "events.jsonl").unlink()
    await sink.write([log.chunk(5, 15)])
    assert (tmp_path / "events.jsonl").read_bytes() == log.text(5, 15)


async def test_a_file_without_a_record_keeps_its_whole_lines(make: Sinks, log: Log, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b'{"from":"before"}\n{"tor')
    await make().write([log.chunk(0, 1)])
    assert (tmp_path / "events.jsonl").read_bytes() == b'{"from":"before"}\n' + log.text(0, 1)


async def test_a_second_writer_takes_a_file_of_its_own(make: Sinks, log: Log, tmp_path: Path) -> None:
    """And the first file is free again when its writer is gone."""
    first, second = make(), make()
    await first.write([log.chunk(0, 1)])
    await second.write([log.chunk(1, 2)])
    assert (tmp_path / "events-2.jsonl").read_bytes() == log.text(1, 2)
    await make.die(first)
    await make().write([log.chunk(2, 3)])
    assert (tmp_path / "events.jsonl").read_bytes() == log.text(0, 1) + log.text(2, 3)


async def test_a_position_file_that_is_damaged_stops_the_start(make: Sinks, tmp_path: Path) -> None:
    """Guessing would lose or double lines: an operator has to decide."""
    (tmp_path / "events.jsonl.position").write_text("{")
    with pytest.raises(SinkError, match=r"is damaged.*delete it, the latest lines may then repeat") as caught:
        await make().open()
    assert not caught.value.retriable


async def test_a_position_file_of_a_newer_version_stops_the_start(make: Sinks, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl.position").write_text('{"version":2,"length":0,"topics":{}}')
    with pytest.raises(SinkError, match=r"events\.jsonl\.position is of a newer mdstream"):
        await make().open()


async def test_a_data_dir_that_is_a_file_stops_the_start(tmp_path: Path, log: Log) -> None:
    (tmp_path / "data").write_text("")
    sink = JsonlSink(tmp_path / "data", value_at=log.value_at, rotate_bytes=MIB, compress=False)
    with pytest.raises(SinkError, match=r"jsonl cannot write .*events\.jsonl: .*data: File exists") as caught:
        await sink.open()
    assert not caught.value.retriable
    await sink.close()


def test_positions_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "p"
    written = Written(17, {TRADES: Position(5, zlib.crc32(b"x")), Partition("md.bars", 3): Position(1, 0)}, "aside")
    position.save(path, written)
    assert position.load(path) == written
    assert [other.name for other in tmp_path.iterdir()] == ["p"]


# ------------------------------------------------------------------------------------------------------------ rotation


async def test_a_file_of_full_size_is_put_aside(make: Sinks, log: Log, tmp_path: Path) -> None:
    """It is closed after the group that fills it; the lines of all files together are the log."""
    sink = make(rotate_bytes=len(log.text(0, 10)))
    for first in range(0, 50, 5):
        await sink.write([log.chunk(first, first + 5)])
    put_aside = list(rotation.left_plain(tmp_path / "events.jsonl"))
    assert (len(put_aside), sink.rotations) == (5, 5)
    assert b"".join(path.read_bytes() for path in put_aside) == log.text(0, 50)
    assert (tmp_path / "events.jsonl").read_bytes() == b""


async def test_a_crash_amid_putting_aside_repeats_nothing(make: Sinks, log: Log, tmp_path: Path) -> None:
    """Killed after the renaming, before that was recorded: the lines are in the file put aside."""
    first = make()
    await first.write([log.chunk(0, 10)])
    await make.die(first)
    recorded = position.load(tmp_path / "events.jsonl.position")
    assert recorded is not None
    target = rotation.aside(tmp_path / "events.jsonl", datetime(2026, 1, 5, 15, tzinfo=UTC))
    position.save(tmp_path / "events.jsonl.position", msgspec.structs.replace(recorded, aside=target.name))
    (tmp_path / "events.jsonl").rename(target)
    await make().write([log.chunk(5, 15)])
    assert (tmp_path / "events.jsonl").read_bytes() == log.text(10, 15)


async def test_a_crash_before_the_renaming_goes_on_in_the_same_file(make: Sinks, log: Log, tmp_path: Path) -> None:
    first = make()
    await first.write([log.chunk(0, 10)])
    await make.die(first)
    recorded = position.load(tmp_path / "events.jsonl.position")
    assert recorded is not None
    position.save(tmp_path / "events.jsonl.position", msgspec.structs.replace(recorded, aside="events-never-1.jsonl"))
    await make().write([log.chunk(5, 15)])
    assert (tmp_path / "events.jsonl").read_bytes() == log.text(0, 15)


def test_names_of_files_put_aside_are_free_and_distinguished(tmp_path: Path) -> None:
    """Several in one second, compressed or not; those of the second writer are not the first one's."""
    now = datetime(2026, 1, 5, 15, tzinfo=UTC)
    path, other = tmp_path / "events.jsonl", tmp_path / "events-2.jsonl"
    names = []
    for suffix in ("", ".gz", ""):
        target = rotation.aside(path, now)
        names.append(target.name)
        target.with_name(target.name + suffix).touch()
    rotation.aside(other, now).touch()
    assert names == [f"events-20260105T150000Z-{n}.jsonl" for n in (1, 2, 3)]
    assert [left.name for left in rotation.left_plain(path)] == [names[0], names[2]]
    assert [left.name for left in rotation.left_plain(other)] == ["events-2-20260105T150000Z-1.jsonl"]


def test_a_compressed_file_has_the_same_lines(tmp_path: Path) -> None:
    """The plain one goes when the compressed one is complete."""
    plain = tmp_path / "events-20260105T150000Z-1.jsonl"
    plain.write_bytes(b"line\n" * 1000)
    compressor = rotation.Compressor()
    compressor.add(plain)
    compressor._thread.shutdown()
    (compressed,) = tmp_path.iterdir()
    assert compressed.name == "events-20260105T150000Z-1.jsonl.gz"
    assert gzip.decompress(compressed.read_bytes()) == b"line\n" * 1000


def test_a_compression_that_is_interrupted_leaves_the_plain_file(tmp_path: Path) -> None:
    plain = tmp_path / "events-20260105T150000Z-1.jsonl"
    plain.write_bytes(b"line\n")
    compressor = rotation.Compressor()
    compressor._closing.set()
    compressor._compress(plain)
    assert [path.name for path in tmp_path.iterdir()] == [plain.name]


async def test_files_that_a_stop_left_plain_are_compressed_at_the_next_start(make: Sinks, tmp_path: Path) -> None:
    plain = tmp_path / "events-20260105T150000Z-1.jsonl"
    plain.write_bytes(b"line\n")
    sink = make(compress=True)
    await sink.open()
    assert sink._compressor is not None
    sink._compressor._thread.shutdown()
    assert not plain.exists()
    assert rotation.zipped(plain).exists()


def test_the_end_of_the_last_line_is_found_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", 4)
    path = tmp_path / "f"
    for content, end in ((b"", 0), (b"abcdefgh", 0), (b"ab\ncdefghij", 3), (b"abc\n", 4), (b"a\nb\n", 4)):
        path.write_bytes(content)
        with FileIO(path, "a+") as file:
            assert jsonl._end_of_last_line(file, len(content)) == end
