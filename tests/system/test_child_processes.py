"""mdstream/embedded/child.py and mdstream/run/supervisor.py: real processes that end, hang, and say something."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from processes import free_port, wait_until

from mdstream.embedded.child import Child, last_lines
from mdstream.embedded.nats import EmbeddedNats
from mdstream.errors import MdstreamError
from mdstream.run.supervisor import PartError, Supervisor

pytestmark = pytest.mark.system

PARENT = """
import sys, time
from pathlib import Path
from mdstream.embedded.child import Child
child = Child([sys.executable, "-c", "import time; time.sleep(600)"], Path("child.log"))
print("child", child.pid, flush=True)
time.sleep(600)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"


def python(code: str, log: Path) -> Child:
    return Child([sys.executable, "-c", code], log)


@pytest.fixture
def deaf(tmp_path: Path) -> Iterator[Child]:
    """A process that ignores SIGTERM."""
    log = tmp_path / "log"
    child = python(DEAF, log)
    assert child.wait_until(lambda: "ready" in log.read_text(), 60)
    yield child
    child.kill()


def test_output_is_appended_to_the_log(tmp_path: Path) -> None:
    """Both streams of one child after the other's; the last lines are those that an error shows."""
    log = tmp_path / "log"
    for word in ("one", "two"):
        python(f"import sys; print('{word}'); print('{word} failed', file=sys.stderr)", log).wait(60)
    assert set(log.read_text().split("\n")) == {"one", "one failed", "two", "two failed", ""}
    assert set(last_lines(log, 2)) == {"two", "two failed"}


def test_wait_ends_with_the_process(tmp_path: Path) -> None:
    """A process that ended will never be up: nobody waits for the limit."""
    child = python("raise SystemExit(3)", tmp_path / "log")
    began = time.monotonic()
    assert not child.wait_until(lambda: False, 300)
    assert time.monotonic() - began < 60
    assert child.status == 3


def test_wait_has_a_limit(deaf: Child) -> None:
    """The process goes on: its owner decides."""
    assert not deaf.wait_until(lambda: False, 0.1)
    assert deaf.status is None


def test_process_that_does_not_stop_is_killed(deaf: Child) -> None:
    """It may ignore SIGTERM for as long as it likes; what has ended cannot be killed."""
    deaf.signal(signal.SIGTERM)
    deaf.wait(0.2)
    assert deaf.status is None
    for _ in range(2):
        deaf.kill()
        assert deaf.status == -signal.SIGKILL


def test_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """SIGKILL leaves the parent no time to stop it."""
    log = tmp_path / "log"
    parent = Child([sys.executable, "-c", PARENT], log, cwd=tmp_path)
    assert parent.wait_until(lambda: "child" in log.read_text(), 60)
    pid = int(log.read_text().split()[1])
    assert is_running(pid)
    parent.kill()
    wait_until(lambda: not is_running(pid), what="the end of the child")


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than one that only waits for its exit status to be read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_server_that_cannot_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own words are in the error; process and temporary folder are gone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        server = EmbeddedNats(taken.getsockname()[1])
        at = rf"the embedded NATS server at nats://127\.0\.0\.1:{server.port}: it does not start in {tmp_path}"
        with pytest.raises(MdstreamError, match=rf"{at}\S*: .*address already in use\S*: choose another port"):
            server.start()
    assert not server.running
    assert list(tmp_path.iterdir()) == []


def test_server_with_a_folder_that_it_cannot_write_to_names_the_file(tmp_path: Path) -> None:
    """And what to set."""
    path = tmp_path / "nats.conf"
    path.mkdir()
    with pytest.raises(MdstreamError) as caught:
        EmbeddedNats(4222, folder=tmp_path).start()
    assert str(caught.value) == (
        f"the embedded NATS server at nats://127.0.0.1:4222: {path} cannot be used (Is a directory): "
        "choose another folder (MDSTREAM_DATA_DIR or --data)"
    )


class Output:
    """What a supervisor said about parts, and what it showed of their output."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.lines: list[tuple[str, str]] = []

    def supervisor(self, logs: Path) -> Supervisor:
        return Supervisor(logs, {}, say=self.words.append, show=lambda part, line: self.lines.append((part, line)))


def test_part_that_ends_is_shown_and_started_again(tmp_path: Path) -> None:
    """Each line of its output once, with its name, also that of the second run."""
    output = Output()
    with output.supervisor(tmp_path) as parts:
        parts.start("help", "--help", stage=0)

        def ended(times: int) -> bool:
            parts.restart_ended()
            return len(output.words) == times

        wait_until(lambda: ended(2), what="two ends")
    assert output.words == [
        "help ended with status 0, and is started again in 1 s",
        "help ended with status 0, and is started again in 2 s",
        "stopping",
    ]
    assert output.lines == [("help", line) for line in (tmp_path / "help.log").read_text().splitlines()]
    assert sum(line.startswith("Usage: ") for _, line in output.lines) == 2


@pytest.mark.usefixtures("ctrl_c")
def test_stopping_goes_on_when_ctrl_c_is_pressed_again_and_nobody_reads(tmp_path: Path) -> None:
    """As with `mdstream run ... | tee FILE`. Else the parts would end in any order, and some much later."""
    stopping = False

    def say(words: str) -> None:
        nonlocal stopping
        stopping = words == "stopping"
        raise BrokenPipeError

    def show(part: str, line: str) -> None:
        if stopping:
            os.kill(os.getpid(), signal.SIGINT)
            raise BrokenPipeError(part, line)

    with Supervisor(tmp_path, {}, say=say, show=show) as parts:
        started = [parts.start(f"broker{stage}", "broker", "--port", str(free_port()), stage=stage) for stage in (1, 0)]
        children = [part.child for part in started if part.child is not None]
        for part in started:
            wait_until(lambda log=part.log: log.stat().st_size, what="a broker")  # type: ignore[misc]
    assert [child.status for child in children] == [0, 0]
    assert [last_lines(part.log)[-1] for part in started] == ["stopped"] * 2


def test_part_with_wrong_arguments_ends_the_run(tmp_path: Path) -> None:
    """Status 2: a restart would not help. The error shows the end of its log."""
    output = Output()
    with (
        output.supervisor(tmp_path) as parts,
        pytest.raises(PartError, match=r"nonsense ended with status 2.*\n.*") as e,
    ):
        parts.wait(lambda: False, parts.start("nonsense", "nonsense", stage=0), 300)
    assert last_lines(tmp_path / "nonsense.log")[-1] in str(e.value)
    assert output.lines[-1][0] == "nonsense"
