"""`mdstream worker`: what it hands on to the process that becomes the worker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mdstream import config
from mdstream.tools import worker


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The command lines that would replace this process; no broker is asked for."""
    started: list[list[str]] = []

    async def reachable(_bootstrap_servers: str) -> None:
        return None

    def execv(_path: str, args: list[str]) -> None:
        started.append(args)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("MDSTREAM_ROLE", "MDSTREAM_WARNED", "HTTP_PORT", "NODE_CANONICAL_URL"):
        os.environ.pop(name, None)
    monkeypatch.setattr(worker, "_reachable", reachable)
    monkeypatch.setattr(os, "execv", execv)
    return started


def run(*args: Any) -> None:
    result = CliRunner().invoke(worker.command, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("variable", "args", "role"),
    [(None, (), "core"), ("nats", (), "nats"), ("nats", ("files",), "files"), (None, ("files",), "files")],
)
def test_the_role_is_the_argument_or_else_the_setting(
    begun: list[list[str]], variable: str | None, args: tuple[str, ...], role: str
) -> None:
    """MDSTREAM_ROLE holds where no role is named; a container's environment is as good as its command."""
    if variable is not None:
        os.environ["MDSTREAM_ROLE"] = variable
    run(*args)
    assert len(begun) == 1
    assert os.environ["MDSTREAM_ROLE"] == role


def test_the_role_may_stand_in_the_file(begun: list[list[str]]) -> None:
    """As every setting may."""
    Path("mdstream.toml").write_text('role = "timescale"\n')
    run()
    assert begun
    assert os.environ["MDSTREAM_ROLE"] == "timescale"


def test_the_port_does_not_go_by_fausts_option(begun: list[list[str]]) -> None:
    """With it Faust forgets NODE_CANONICAL_URL."""
    run("core", "--port", 6070)
    assert "--web-port" not in begun[0]
    assert os.environ["HTTP_PORT"] == "6070"


def test_a_warning_about_settings_is_logged_once(begun: list[list[str]], caplog: pytest.LogCaptureFixture) -> None:
    """The process becomes Faust, which loads the settings again."""
    os.environ["MDSTREAM_FILES_PORT"] = "6067"
    run()
    config.load()
    assert begun
    assert caplog.messages == ["MDSTREAM_FILES_PORT is not a setting of mdstream: it has no effect"]


def test_a_child_of_the_worker_warns_too(begun: list[list[str]], caplog: pytest.LogCaptureFixture) -> None:
    """It inherits the environment, and has a log of its own."""
    os.environ |= {"MDSTREAM_FILES_PORT": "6067", "MDSTREAM_WARNED": str(os.getppid())}
    config.load()
    assert len(caplog.messages) == 1
