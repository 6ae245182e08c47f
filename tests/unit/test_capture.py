"""mdstream/replay/capture.py: what is written is read back, what is broken is named, what is interrupted is whole."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.errors import CaptureError, SettingsError
from mdstream.replay import capture
from mdstream.replay.capture import Frame, Merge, Reader, Writer

LINE = b'{"recv_ns":1,"provider":"okx","frame":"{}"}\n'
FRAMES = [Frame(1, "okx", b'{"a":1}'), Frame(2, "binance", '{"b":"\u00e9"}'.encode()), Frame(2, "okx", b"\xff\x00")]


def write(path: Path, frames: list[Frame]) -> Path:
    with Writer(path) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@given(recv_ns=st.integers(0, 2**63 - 1), provider=st.text(max_size=10), frame=st.binary(max_size=200))
def test_a_line_gives_back_the_frame_it_was_made_of(recv_ns: int, provider: str, frame: bytes) -> None:
    """Any bytes survive, UTF-8 or not, and a line holds no newline but its last."""
    line = capture.encode_line(Frame(recv_ns, provider, frame))
    assert line.index(b"\n") == len(line) - 1
    assert capture.decode_line(line) == Frame(recv_ns, provider, frame)


def test_a_frame_that_is_not_utf8_is_kept_in_base64() -> None:
    """The extra field tells readers in other languages how to read it."""
    line = json.loads(capture.encode_line(Frame(1, "dtc", b"\xff\x00")))
    assert line == {"recv_ns": 1, "provider": "dtc", "frame": "/wA=", "encoding": "base64"}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_reader_gives_the_frames_of_a_file_in_their_order(tmp_path: Path, name: str) -> None:
    """Plain and gzipped files hold the same lines."""
    path = write(tmp_path / name, FRAMES)
    assert list(Reader(path)) == FRAMES
    raw = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    assert raw == b"".join(map(capture.encode_line, FRAMES))


def test_reader_passes_over_empty_lines(tmp_path: Path) -> None:
    """A file that was edited by hand may end in one."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE + b"\n" + LINE + b"\n")
    assert len(list(Reader(path))) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"not json\n", "not a line of a capture: JSON is malformed"),
        (b'{"recv_ns":1,"provider":"okx"}\n', "missing required field `frame`"),
        (b'{"recv_ns":"x","provider":"okx","frame":""}\n', "Expected `int`, got `str` - at `$.recv_ns`"),
        (b'{"recv_ns":1,"provider":"okx","frame":"*","encoding":"base64"}\n', "its frame is not base64"),
        (b'{"recv_ns":1,"provider":"okx","frame":"","encoding":"rot13"}\n', "Invalid enum value 'rot13'"),
        (LINE[:20], "not a line of a capture"),
        (b'{"recv_ns":1,"provider":"okx","frame":"\xff"}\n', "not a line of a capture"),
    ],
)
def test_reader_names_the_line_that_is_corrupt(tmp_path: Path, text: bytes, reason: str) -> None:
    """What came before it is given first; the error has path, line and reason."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE + LINE + text)
    frames = iter(Reader(path))
    assert [next(frames), next(frames)] == [Frame(1, "okx", b"{}")] * 2
    with pytest.raises(CaptureError) as caught:
        next(frames)
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert reason in str(caught.value)


def test_reader_names_the_line_a_cut_gzip_file_ends_in(tmp_path: Path) -> None:
    """A truncated download is distinguished from a whole file."""
    path = write(tmp_path / "a.jsonl.gz", [Frame(n, "okx", b"%d" % n) for n in range(1000)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CaptureError, match=r"a\.jsonl\.gz, line \d+: .*ended before"):
        list(Reader(path))


def test_reader_refuses_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded whatever file it is given."""
    monkeypatch.setattr(capture, "MAX_LINE_BYTES", 100)
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE + b"x" * 1000)
    with pytest.raises(CaptureError, match="line 2: longer than 100 bytes"):
        list(Reader(path))


def test_reader_refuses_a_frame_that_no_topic_can_carry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with its line, not left for the broker to refuse."""
    monkeypatch.setattr(capture, "MAX_FRAME_BYTES", 10)
    path = write(tmp_path / "a.jsonl", [Frame(1, "okx", b"x" * 11)])
    with pytest.raises(CaptureError, match="line 1: a frame of 11 bytes: at most 10 can be carried"):
        list(Reader(path))


def test_reader_refuses_a_provider_that_nobody_knows(tmp_path: Path) -> None:
    """Only if it gets the list of providers: a capture may be older than a provider's file."""
    path = write(tmp_path / "a.jsonl", FRAMES)
    assert list(Reader(path)) == FRAMES
    with pytest.raises(CaptureError, match="line 2: no provider 'binance': there are okx"):
        list(Reader(path, providers={"okx"}))


def test_reader_reports_its_progress(tmp_path: Path) -> None:
    """From nothing to all of it; for the progress bar."""
    reader = Reader(write(tmp_path / "a.jsonl", FRAMES))
    assert reader.fraction == 0
    assert list(reader)
    assert reader.fraction == 1


def test_reader_says_that_a_file_is_missing(tmp_path: Path) -> None:
    """One line, like every error of a capture."""
    with pytest.raises(CaptureError, match="No such file"):
        list(Reader(tmp_path / "none.jsonl"))


def test_writer_refuses_a_file_that_exists(tmp_path: Path) -> None:
    """A recording cannot be repeated: only --force replaces one."""
    path = write(tmp_path / "a.jsonl", FRAMES)
    with pytest.raises(SettingsError, match=r"a\.jsonl exists: choose another name, or --force to replace it"):
        Writer(path)
    with Writer(path, overwrite=True):
        pass
    assert list(Reader(path)) == []


def write_until(path: Path, text: bytes, error: BaseException) -> None:
    """Write one frame and `text` as it stands, then fail with `error`."""
    with Writer(path) as writer:
        writer.write(FRAMES[0])
        writer._file.write(text)
        raise error


def test_writer_keeps_whole_lines_when_it_is_interrupted(tmp_path: Path) -> None:
    """What was recorded before an error is there under its name, and nothing else is."""
    path = tmp_path / "a.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_until(path, b"", KeyboardInterrupt())
    assert list(Reader(path)) == FRAMES[:1]
    assert list(tmp_path.iterdir()) == [path]


def test_writer_cuts_the_line_that_a_full_disk_broke(tmp_path: Path) -> None:
    """The last line of a file is complete also where the last write was not."""
    path = tmp_path / "a.jsonl"
    with pytest.raises(OSError, match="disk full"):
        write_until(path, b'{"recv_ns":2,"prov', OSError("disk full"))
    assert list(Reader(path)) == FRAMES[:1]


def test_writer_leaves_nothing_when_it_fails_before_the_first_frame(tmp_path: Path) -> None:
    """An unreachable broker leaves no empty capture behind."""
    with pytest.raises(RuntimeError), Writer(tmp_path / "a.jsonl"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_merge_gives_items_by_time_until_a_source_has_none() -> None:
    """
    p0  1 2     5          1 2 3 come out; 5 has to wait, as p1's next may be 4
    p1        3
    """
    merge: Merge[str, int] = Merge(["p0", "p1"])
    for time in (1, 2, 5):
        merge.add("p0", time, time)
    merge.add("p1", 3, 3)
    assert list(merge.take()) == [1, 2, 3]
    assert merge.empty() == ["p1"]
    assert list(merge.take(idle={"p1"})) == [5]


@given(st.lists(st.lists(st.integers(0, 50), max_size=20), min_size=1, max_size=4))
def test_merge_keeps_every_sources_order(sources: list[list[int]]) -> None:
    """Also where a source steps back in time; sorted sources come out sorted."""
    merge: Merge[int, tuple[int, int]] = Merge(list(range(len(sources))))
    for source, times in enumerate(sources):
        for index, time in enumerate(times):
            merge.add(source, time, (source, index))
    got = list(merge.take(idle=set(range(len(sources)))))
    for source, times in enumerate(sources):
        assert [index for s, index in got if s == source] == list(range(len(times)))
    if all(times == sorted(times) for times in sources):
        out: Iterator[int] = (sources[s][i] for s, i in got)
        assert list(out) == sorted(t for times in sources for t in times)
