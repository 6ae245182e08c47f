"""`mdstream replay` and `mdstream record`: frames into the raw topics and out again, byte for byte."""

from __future__ import annotations

import itertools
import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest
from processes import BIN, Processes, run_mdstream
from servers import read_topic

from mdstream.kafka.publisher import Partitioner
from mdstream.replay.capture import Frame, Reader, Writer
from mdstream.venues.providers import PROVIDERS

pytestmark = pytest.mark.system

START_NS = 1_767_625_200_000_000_000
MS = 1_000_000
CONTRACT = (
    b'{"arg":{"channel":"trades","instId":"BTC-USDT-SWAP"},"data":[{"instId":"BTC-USDT-SWAP","tradeId":"7","px":"1.5",'
    b'"sz":"35","side":"buy","ts":"1767625200000"}]}'
)


def trade(symbol: str, number: int) -> bytes:
    data = {"e": "trade", "s": symbol, "t": number, "p": "1.5", "q": "2", "T": START_NS // MS + number, "m": True}
    return json.dumps({"stream": f"{symbol.lower()}@trade", "data": data}, separators=(",", ":")).encode()


def capture(path: Path, count: int, *, step_ns: int = MS) -> list[Frame]:
    """Write a capture of `count` frames: trades of seven instruments in turn, now and then an OKX pong, and of OKX's
    contracts one whose size is known and one whose is not."""
    others = {49: (b"pong", ""), 24: (CONTRACT, "0.01"), 34: (CONTRACT, "")}
    frames = []
    with Writer(path) as writer:
        for n in range(count):
            if n % 50 in others:
                frame = Frame(START_NS + n * step_ns, "okx", *others[n % 50])
            else:
                frame = Frame(START_NS + n * step_ns, "binance", trade(f"S{n % 7}USDT", n))
            frames.append(frame)
            writer.write(frame)
    return frames


def keyed(frame: Frame) -> tuple[bytes, bytes]:
    """The key and kind of its raw record: a contract is named canonically only with what it is worth."""
    if frame.frame == CONTRACT:
        return b"BTCUSDT-PERP" if frame.contract_size else b"BTC-USDT-SWAP", b"trade"
    return (b"okx", b"other") if frame.provider == "okx" else (json.loads(frame.frame)["data"]["s"].encode(), b"trade")


@pytest.fixture
def topics(env: dict[str, str]) -> dict[str, str]:
    """The environment, its topics declared."""
    done = run_mdstream("topics", "--create", env=env)
    assert done.returncode == 0, done.stderr
    return env


async def test_replay_writes_what_the_ingestor_would_have_written(
    topics: dict[str, str], prefix: str, tmp_path: Path
) -> None:
    """Value untouched, key and kind from the provider, its own receive time, the key's partition, in order."""
    frames = capture(tmp_path / "a.jsonl", 500)
    done = run_mdstream("replay", tmp_path / "a.jsonl", "--as-fast-as-possible", env=topics)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("published 500 frames of ")
    records = await read_topic(topics["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.raw.crypto")
    by_time = sorted(records, key=lambda record: int.from_bytes(dict(record.headers)["t"], "big"))
    assert [record.value for record in by_time] == [frame.frame for frame in frames]
    partition_of = Partitioner(4)
    for record, frame in zip(by_time, frames, strict=True):
        key, kind = keyed(frame)
        assert record.key == key
        assert record.partition == partition_of(key)
        assert record.headers == (
            ("p", frame.provider.encode()),
            ("t", frame.recv_ns.to_bytes(8, "big")),
            ("k", kind),
            ("via", b"replay"),
            *([("v", frame.contract_size.encode())] if frame.contract_size else []),
        )
    for partition in range(4):
        times = [dict(r.headers)["t"] for r in records if r.partition == partition]
        assert times == sorted(times)


async def test_replay_splits_a_frame_of_several_instruments(
    topics: dict[str, str], prefix: str, tmp_path: Path
) -> None:
    """As the ingestor does, where the capture holds the venue's whole frames."""
    elements = [
        f'{{"T":"t","i":{n},"S":"{symbol}","p":1,"s":1,"t":"2026-01-05T15:00:00Z"}}'
        for n, symbol in enumerate(("AAPL", "MSFT"))
    ]
    with Writer(tmp_path / "a.jsonl") as writer:
        writer.write(Frame(START_NS, "alpaca", f"[{','.join(elements)}]".encode()))
    done = run_mdstream("replay", tmp_path / "a.jsonl", "--as-fast-as-possible", env=topics)
    assert done.stdout.startswith("published 1 frames of "), done.stderr
    records = await read_topic(topics["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.raw.equities")
    assert {record.key: record.value for record in records} == {
        b"AAPL": f"[{elements[0]}]".encode(),
        b"MSFT": f"[{elements[1]}]".encode(),
    }


async def test_recording_a_replayed_capture_gives_the_same_capture(topics: dict[str, str], tmp_path: Path) -> None:
    """Also across partitions: the merge by receive time restores the order the frames came in."""
    frames = capture(tmp_path / "a.jsonl", 3000)
    assert run_mdstream("replay", tmp_path / "a.jsonl", "--as-fast-as-possible", env=topics).returncode == 0
    copy = tmp_path / "copy.jsonl.gz"
    done = run_mdstream("record", copy, "--from-beginning", "--to-end", env=topics)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("recorded 3,000 frames to ")
    assert list(Reader(copy)) == frames


def test_record_takes_only_the_instruments_and_providers_asked_for(topics: dict[str, str], tmp_path: Path) -> None:
    """`--symbol` and `--provider` narrow it; either may be repeated."""
    frames = capture(tmp_path / "a.jsonl", 200)
    assert run_mdstream("replay", tmp_path / "a.jsonl", "--as-fast-as-possible", env=topics).returncode == 0
    options = ("--from-beginning", "--to-end")
    done = run_mdstream(
        "record", tmp_path / "b.jsonl", "--symbol", "S1USDT", "--symbol", "s2usdt", *options, env=topics
    )
    assert done.returncode == 0, done.stderr
    wanted = [f for f in frames if b'"S1USDT"' in f.frame or b'"S2USDT"' in f.frame]
    assert list(Reader(tmp_path / "b.jsonl")) == wanted
    done = run_mdstream("record", tmp_path / "c.jsonl", "--provider", "okx", *options, env=topics)
    assert list(Reader(tmp_path / "c.jsonl")) == [f for f in frames if f.provider == "okx"]


def test_record_finishes_its_file_on_ctrl_c(topics: dict[str, str], processes: Processes, tmp_path: Path) -> None:
    """What was received is there, whole, and the command ends with success."""
    frames = capture(tmp_path / "a.jsonl", 100)
    live = tmp_path / "live.jsonl"
    recording = processes.mdstream("record", live, "--from-beginning", env=topics)
    assert run_mdstream("replay", tmp_path / "a.jsonl", "--as-fast-as-possible", env=topics).returncode == 0
    recording.wait_for(": 100 frames")  # its progress line
    recording.signal(signal.SIGINT)
    assert recording.wait() == 0, recording.output()
    assert list(Reader(live)) == frames
    assert not live.with_name("live.jsonl.part").exists()


def test_record_refuses_to_replace_a_file(topics: dict[str, str], tmp_path: Path) -> None:
    """Exit status 2 and what to do; no file changes."""
    path = tmp_path / "a.jsonl"
    path.write_text("precious")
    done = run_mdstream("record", path, "--to-end", env=topics)
    assert done.returncode == 2
    assert "a.jsonl exists: choose another name, or --force to replace it" in done.stderr
    assert path.read_text() == "precious"


async def test_replay_publishes_what_comes_before_a_corrupt_line(
    topics: dict[str, str], prefix: str, tmp_path: Path
) -> None:
    """It names the line and says how many frames the broker has."""
    path = tmp_path / "a.jsonl"
    capture(path, 1500)
    path.write_bytes(path.read_bytes() + b'{"recv_ns":1,"prov')
    done = run_mdstream("replay", path, "--as-fast-as-possible", env=topics)
    assert done.returncode == 1
    assert "published 1,500 frames of " in done.stderr
    assert f"mdstream: {path}, line 1501: not a line of a capture" in done.stderr
    records = await read_topic(topics["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.raw.crypto")
    assert len(records) == 1500


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            '{"recv_ns":1,"provider":"mtgox","frame":"{}"}',
            f"no provider 'mtgox': there are {', '.join(sorted(PROVIDERS))}",
        ),
        ("time,price\n1,2", "not a line of a capture"),
    ],
)
def test_replay_publishes_nothing_of_a_file_that_is_no_capture(
    env: dict[str, str], tmp_path: Path, line: str, problem: str
) -> None:
    """The first lines are read before the first is published: the error needs no broker."""
    path = tmp_path / "a.jsonl"
    path.write_text(line + "\n")
    done = run_mdstream("replay", path, env={**env, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{path}, line 1: {problem}" in done.stderr


def test_replay_says_that_the_topics_are_missing(env: dict[str, str], tmp_path: Path) -> None:
    """One line, with the command that makes them."""
    capture(tmp_path / "a.jsonl", 10)
    done = run_mdstream("replay", tmp_path / "a.jsonl", env=env)
    assert done.returncode == 1
    assert "run `mdstream topics --create`" in done.stderr


async def test_replay_keeps_the_pace_and_now_gives_present_times(
    topics: dict[str, str], prefix: str, tmp_path: Path
) -> None:
    """
    recorded   0 . 100 ms . 200 ms ... 1 s       ten times faster, the times of publishing
    published  0 10 20 ... 100 ms
    """
    capture(tmp_path / "a.jsonl", 11, step_ns=100 * MS)
    before = time.time_ns()
    done = run_mdstream("replay", tmp_path / "a.jsonl", "--speed", "10", "--now", env=topics)
    after = time.time_ns()
    assert done.returncode == 0, done.stderr
    records = await read_topic(topics["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.raw.crypto")
    times = sorted(int.from_bytes(dict(record.headers)["t"], "big") for record in records)
    assert before < times[0]
    assert times[-1] < after
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [10 * MS] * 10


def test_replay_in_a_loop_goes_on_until_it_is_stopped(
    topics: dict[str, str], processes: Processes, tmp_path: Path
) -> None:
    """Ctrl-C is how a loop ends: that is a success."""
    capture(tmp_path / "a.jsonl", 20, step_ns=5 * MS)
    replaying = processes.mdstream("replay", tmp_path / "a.jsonl", "--now", "--loop", env=topics)
    replaying.wait_for("frames")  # the first progress line, rounds later
    replaying.signal(signal.SIGINT)
    assert replaying.wait() == 0, replaying.output()
    published = replaying.output().rsplit("published ", 1)[1].split()[0]
    assert int(published.replace(",", "")) > 20


def test_replay_stopped_before_the_end_is_no_success(
    topics: dict[str, str], processes: Processes, tmp_path: Path
) -> None:
    """A script can see whether a capture was published completely."""
    capture(tmp_path / "a.jsonl", 1000, step_ns=100 * MS)
    replaying = processes.mdstream("replay", tmp_path / "a.jsonl", env=topics)
    replaying.wait_for("frames")
    replaying.signal(signal.SIGTERM)
    assert replaying.wait() == 130, replaying.output()
    assert "stopped before the end" in replaying.output()


def test_replay_shows_a_bar_on_a_terminal(topics: dict[str, str], tmp_path: Path) -> None:
    """On a pipe it prints plain lines instead (the other tests read them)."""
    capture(tmp_path / "a.jsonl", 30, step_ns=20 * MS)
    own, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [BIN / "mdstream", "replay", tmp_path / "a.jsonl"],
            env={**os.environ, **topics, "TERM": "xterm"},
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=60,
            check=False,
        )
        shown = os.read(own, 1 << 16).decode()
    finally:
        os.close(own)
        os.close(theirs)
    assert done.returncode == 0
    assert "replay a.jsonl" in shown
    assert "━" in shown
