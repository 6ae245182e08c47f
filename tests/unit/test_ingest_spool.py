"""The spool: what was written is read, in order, after any end of the process; what is damaged is kept and told."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.errors import SpoolError
from mdstream.ingest import spool
from mdstream.ingest.spool import Spool, Spooled

MAX_BYTES = 1 << 30


def record(number: int, size: int = 8) -> Spooled:
    headers = [("p", b"okx"), ("t", b"\0" * 8), ("k", b"trade"), ("via", b"ws"), ("c", b"\1" * 8)]
    return Spooled("md.raw.crypto", number % 4, b"BTCUSDT", b"%0*d" % (size, number), 1_767_625_200_000, headers)


def open_spool(folder: Path, *markets: str, max_bytes: int = MAX_BYTES) -> Spool:
    return Spool(folder, markets or ("crypto",), max_bytes=max_bytes)


def everything(of: Spool) -> list[Spooled]:
    """What is in it, released."""
    found: list[Spooled] = []
    while records := of.read():
        found += records
    return found


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 1000)


@pytest.mark.usefixtures("small_segments")
def test_spool_gives_back_what_it_was_given(tmp_path: Path) -> None:
    """In order, over several segments; nothing is left on disk."""
    own, records = open_spool(tmp_path), [record(n) for n in range(100)]
    for start in range(0, 100, 7):
        own.write(records[start : start + 7])
    assert len([name for name in files(tmp_path) if name.endswith(".spool")]) > 5
    assert everything(own) == records
    assert (own.bytes, list(tmp_path.iterdir())) == (0, [])


def test_spool_can_be_written_while_it_is_read(tmp_path: Path) -> None:
    """What comes meanwhile is read next."""
    own = open_spool(tmp_path)
    own.write([record(0)])
    assert own.read() == [record(0)]
    own.write([record(1)])
    assert own.read() == [record(1)]
    assert own.read() == ()
    own.write([record(2)])
    assert everything(own) == [record(2)]


def test_record_that_was_in_the_spool_says_so() -> None:
    """By the header `via`; the others stay."""
    assert record(1).record[3] == [*record(1).headers[:3], ("via", b"spool"), *record(1).headers[4:]]


@pytest.mark.usefixtures("small_segments")
def test_spool_of_a_dead_process_is_read_first(tmp_path: Path) -> None:
    """From the start of the segment that Kafka did not have whole."""
    dead = open_spool(tmp_path)
    for n in range(50):
        dead.write([record(n)])
    first = dead.read()
    dead.read()
    dead.close()
    heir = open_spool(tmp_path)
    assert heir.bytes > 0
    heir.write([record(50)])
    assert everything(heir) == [record(n) for n in range(len(first), 51)]
    assert list(tmp_path.iterdir()) == []


def test_spool_of_a_living_process_or_of_other_markets_is_left_alone(tmp_path: Path) -> None:
    """Two ingestors share a data folder; one of stocks cannot send what is for the topic of crypto."""
    living, other = open_spool(tmp_path), open_spool(tmp_path, "crypto", "equities")
    living.write([record(1)])
    other.write([record(2)])
    other.close()
    assert open_spool(tmp_path).read() == ()
    living.close()
    assert everything(open_spool(tmp_path, "equities", "crypto")) == [record(1), record(2)]


def test_full_spool_takes_nothing_and_keeps_what_it_has(tmp_path: Path) -> None:
    """All of a write or none of it; the error names the setting."""
    own = open_spool(tmp_path, max_bytes=1000)
    own.write([record(1)])
    with pytest.raises(SpoolError, match=r"the spool is full: 0 MiB of 0 .MDSTREAM_SPOOL_MB."):
        own.write([record(2), record(3, size=1000)])
    own.write([record(4)])
    assert everything(own) == [record(1), record(4)]


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond it: a write fails as on a full disk, after a part of it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_full_disk_leaves_no_half_record(tmp_path: Path) -> None:
    """A write that fails in the middle is undone; once there is room the next one follows the last that succeeded."""
    own = open_spool(tmp_path)
    own.write([record(1, size=3000)])
    with largest_file(4096), pytest.raises(SpoolError, match=r"cannot write the spool .*: File too large"):
        own.write([record(2, size=3000)])
    own.write([record(3)])
    assert everything(own) == [record(1, size=3000), record(3)]


def test_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    """Where, and why."""
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(SpoolError, match=r"cannot write the spool .*/spool: (Not a directory|File exists)"):
        open_spool(tmp_path / "spool").write([record(1)])


@given(cut=st.integers(0, 2000), flip=st.none() | st.integers(0, 1999))
def test_damaged_segment_is_read_up_to_the_damage(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int | None
) -> None:
    """Cut off anywhere or with a wrong byte anywhere: what is read is the beginning of what was written, as it was."""
    folder = tmp_path_factory.mktemp("spool")
    dead, records = open_spool(folder), [record(n) for n in range(20)]
    dead.write(records)
    dead.close()
    (path,) = folder.rglob("*.spool")
    data = bytearray(path.read_bytes())[:cut]
    if flip is not None and flip < len(data):
        data[flip] ^= 0x55
    path.write_bytes(data)
    heir = open_spool(folder)
    found = everything(heir)
    assert found == records[: len(found)]
    size = len(path.read_bytes()) if path.exists() else 0
    assert size == 0
    heir.write([record(99)])
    assert everything(heir) == [record(99)]


def test_damaged_segment_is_kept_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For whoever wants to look; nobody reads it again."""
    dead = open_spool(tmp_path)
    dead.write([record(1), record(2)])
    dead.close()
    (path,) = tmp_path.rglob("*.spool")
    path.write_bytes(path.read_bytes()[:-1])
    assert everything(open_spool(tmp_path)) == [record(1)]
    assert "damaged after" in caplog.text
    assert files(tmp_path) == ["00000000.damaged"]
    assert open_spool(tmp_path).bytes == 0


def test_segment_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody made a folder of it, or the disk is failing: it is told, and left alone."""
    dead = open_spool(tmp_path)
    for number in (1, 2):
        dead.write([record(number)])
        dead._seal()
    dead.close()
    first = min(tmp_path.rglob("*.spool"))
    first.unlink()
    first.mkdir()
    heir = open_spool(tmp_path)
    assert everything(heir) == [record(2)]
    assert f"{first} cannot be read: Is a directory; its records are lost" in caplog.text
