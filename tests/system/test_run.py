"""`mdstream run` and the demo as their users meet them: parts that die come back, nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import databases
import pytest
from processes import Process, Processes, free_port, run_mdstream, wait_until
from venues import Venues

pytestmark = pytest.mark.system

WANTED = ("--provider", "binance", "--symbols", "BTCUSDT,ETHUSDT", "--provider", "okx", "--symbols", "BTCUSDT")
NOWHERE = {f"{name}_WS_URL": "ws://127.0.0.1:1" for name in ("BINANCE", "COINBASE", "OKX")}


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder that the user whom PostgreSQL runs as may enter, also where root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="mdstream-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def processes(tmp_path: Path, data: Path) -> Iterator[Processes]:
    """Nothing is configured but the data folder."""
    with Processes(tmp_path, {"MDSTREAM_DATA_DIR": str(data), "MDSTREAM_PARTITIONS": "4"}) as running:
        yield running


def _words(pid: str, name: str) -> list[str]:
    return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace").split("\0")


class Running:
    """A run, by what it prints."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def message(self, pattern: str) -> str:
        """What a pattern's group found first in the output; waits until it is there."""
        found = wait_until(lambda: re.search(pattern, self.process.output()), what=pattern)
        assert found is not None
        return found[1]

    def newest_ns(self) -> int:
        """When the newest trade of all was received, 0 where there is none."""
        try:
            page = self.message(r"latest prices (http://\S+/) ")
            with urllib.request.urlopen(f"{page}latest/", timeout=5) as answer:
                latest: dict[str, Any] = json.load(answer)["symbols"]
        except OSError:
            return 0
        return max((each["trade"]["ts_recv"] for each in latest.values() if each["trade"]), default=0)

    def wait_for_news(self) -> None:
        before = self.newest_ns()
        wait_until(lambda: self.newest_ns() > before, what="a newer trade")

    def children(self) -> dict[int, str]:
        """Its parts, and what they were started with: command line and environment."""
        own = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid): " ".join(_words(pid, "cmdline") + _words(pid, "environ")) for pid in own}

    def kill(self, part: str, matches: Callable[[str], bool]) -> None:
        """SIGKILL to a part; returns when the run says that it is started again."""
        [pid] = [pid for pid, command in self.children().items() if matches(command)]
        before = self.process.output().count(f"{part} was ended by signal 9, and is started again")
        os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: self.process.output().count(f"{part} was ended by signal 9, and is started again") > before,
            what=f"the restart of {part}",
        )

    def interrupt(self) -> None:
        """Ctrl-C; nothing may be left."""
        left = list(self.children())
        self.process.signal(signal.SIGINT)
        assert self.process.wait() == 0, self.process.output()
        assert self.process.output().endswith("stopped\n")
        assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]


@pytest.mark.usefixtures("default_ports")
def test_run_goes_on_after_its_parts_died_and_keeps_the_database_over_a_restart(
    processes: Processes, data: Path, tmp_path: Path
) -> None:
    """One command from the venues to all sinks. The broker's topics are recreated, with the same partitions; a worker
    is started again; Ctrl-C ends all; the next run finds the rows of the one before."""
    venues = Venues.start(processes, tmp_path / "journal", "--rate", 300)
    run = Running(processes.mdstream("run", *WANTED, env=venues.urls))
    run.wait_for_news()
    url = run.message(r"PostgreSQL (postgresql://\S+) \(embedded\)")
    wait_until(lambda: databases.ask(url, "SELECT count(*) FROM market_data_ticks")[0][0], what="rows")

    run.kill("broker", lambda command: " broker --port " in command)
    run.wait_for_news()
    address = run.message(r"broker (127.0.0.1:\d+) \(embedded")
    topics = run_mdstream("topics", "--json", env={"KAFKA_BOOTSTRAP_SERVERS": address, "MDSTREAM_PARTITIONS": "4"})
    assert topics.returncode == 0, topics.stderr
    run.kill("core", lambda command: " MDSTREAM_ROLE=core " in command)
    run.wait_for_news()
    ended = datetime.now(UTC)
    run.interrupt()
    assert (data / "logs" / "core.log").read_text()

    again = Running(processes.mdstream("run", *WANTED[:4], "--sinks", "timescale", env=venues.urls))
    url = again.message(r"PostgreSQL (postgresql://\S+) \(embedded\)")
    again.message(r"(latest prices)")
    assert databases.ask(url, "SELECT count(*) FROM market_data_ticks WHERE timestamp < %s", ended)[0][0] > 0
    again.interrupt()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "no Kafka broker answers at 127.0.0.1:1"),
        ({"MARKET_DATA_DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/d"}, "database u@127.0.0.1:1/d: "),
        ({"NATS_URL": "nats://u:secret@127.0.0.1:1"}, "no NATS server answers at 127.0.0.1:1"),
    ],
)
def test_run_uses_what_is_configured_or_says_that_it_does_not_answer(
    data: Path, given: dict[str, str], message: str
) -> None:
    """An embedded server instead of the one that was meant would take the data where nobody looks for it."""
    done = run_mdstream("run", *WANTED, env={"MDSTREAM_DATA_DIR": str(data), **given})
    assert done.returncode == 1
    assert message in done.stderr
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--provider", "binance", "--symbols", "BTCUSDT", "--sinks", "oracle"),
            "oracle: choose from files, timescale",
        ),
        (("--provider", "nobody", "--symbols", "BTCUSDT"), "nobody"),
        (("--provider", "binance", "--provider", "okx", "--symbols", "BTCUSDT"), "every --provider needs its own"),
    ],
)
def test_run_refuses_what_it_cannot_do_before_it_starts_anything(options: tuple[str, ...], message: str) -> None:
    """Exit status 2, as for every wrong argument."""
    done = run_mdstream("run", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.usefixtures("default_ports")
def test_demo_without_a_network_says_at_once_what_it_cannot_reach(processes: Processes) -> None:
    """Each ingestor's own words, long before the wait for the first price is over."""
    demo = processes.mdstream("demo", "--live", env=NOWHERE)
    for provider in ("binance", "okx", "coinbase"):
        message = re.compile(rf" s  {provider}: .*cannot be reached")
        wait_until(lambda message=message: message.search(demo.output()), what=message.pattern, limit_s=50)  # type: ignore[misc]
    assert demo.running


@pytest.mark.usefixtures("default_ports")
def test_demo_shows_the_last_words_of_a_part_that_died_and_starts_it_again(processes: Processes) -> None:
    """Which part, how it ended, and the end of its log."""
    run = Running(processes.mdstream("demo", "--rate", 300))
    run.process.wait_for("prices flow")
    run.kill("ingest-okx", lambda command: " ingest --provider okx " in command)
    run.process.wait_for("okx connected")
    wait_until(lambda: any(" ingest --provider okx " in each for each in run.children().values()), what="its return")
    run.interrupt()


@pytest.mark.usefixtures("default_ports")
def test_demo_goes_on_when_its_broker_died(processes: Processes) -> None:
    """The broker holds records in memory, so all topics begin anew under the ingestors, the workers and the sinks."""
    run = Running(processes.mdstream("demo", "--rate", 300))

    def stored() -> int:
        counts = re.findall(r"stored trades: ([\d,]+)", run.process.output())
        return int(counts[-1].replace(",", "")) if counts else 0

    wait_until(lambda: stored() > 1_000, what="stored trades", limit_s=120)
    run.kill("broker", lambda command: " broker --port " in command)
    before = stored()
    wait_until(lambda: stored() > before + 3_000, what="trades of after the broker's return", limit_s=180)
    run.interrupt()


@pytest.mark.parametrize(("command", "variable"), [("postgres", "MARKET_DATA_DATABASE_URL"), ("nats", "NATS_URL")])
def test_embedded_server_alone_prints_the_variable_that_points_at_it(
    processes: Processes, command: str, variable: str
) -> None:
    """A line for the shell, as the simulator's; and a second one at its port says that it is taken."""
    port = free_port()
    server = processes.mdstream(command, "--port", port, "--temporary")
    printed = re.compile(rf"^export {variable}=\w+://\S*127\.0\.0\.1:{port}(/market_data)?$", re.MULTILINE)
    wait_until(lambda: printed.search(server.output()), what=printed.pattern)
    again = run_mdstream(command, "--port", port, "--temporary")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == (
        f"mdstream: port {port} on 127.0.0.1 cannot be used (Address already in use): choose another one with --port\n"
    )
    assert server.stop() == 0
