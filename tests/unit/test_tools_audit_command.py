"""`mdstream audit` as a command: what it takes in on a running system, and which exit status means what."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from click.testing import CliRunner

from mdstream.audit.trades import MINUTE_NS, Scope
from mdstream.errors import BrokerError, SettingsError
from mdstream.tools import audit

NOW_S = 1_767_625_290.5
"""Half a second after 15:01:30."""
MINUTE = int(NOW_S) // 60


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdstream.tools.audit.time.time", lambda: NOW_S)


@pytest.mark.parametrize(
    ("begin", "end", "minutes", "received_before_s"),
    [
        (None, "1m", (0, MINUTE - 1), NOW_S - 30),
        ("1h", "1m", (MINUTE - 60, MINUTE - 1), NOW_S - 30),
        (None, "2h", (0, MINUTE - 120), NOW_S - 30),
        (None, "0s", (0, MINUTE), NOW_S - 30),
        (None, "2026-01-05T15:10", (0, MINUTE + 9), (MINUTE + 9) * 60),
    ],
)
def test_what_was_received_in_the_last_half_minute_is_left_out_unless_the_end_is_later(
    begin: str | None, end: str, minutes: tuple[int, int], received_before_s: float
) -> None:
    """By default the end is a minute ago. Trades made before it were received before the last half minute, unless
    late."""
    scope = audit._scope(begin, end, (), ())
    assert (scope.first_minute, scope.end_minute) == minutes
    assert scope.received_before_ns == int(received_before_s * 1e9)


def test_now_takes_in_everything() -> None:
    """For a system in which nothing is running."""
    scope = audit._scope(None, "now", (), ())
    assert scope.end_minute == Scope.end_minute
    assert scope.received_before_ns > 1 << 64 > NOW_S * 1e9 + MINUTE_NS


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BrokerError("no Kafka broker answers"), audit.COULD_NOT_AUDIT),
        (KafkaConnectionError("gone"), audit.COULD_NOT_AUDIT),
        (ZeroDivisionError("a mistake of ours"), audit.COULD_NOT_AUDIT),
    ],
)
def test_a_failure_is_not_reported_as_a_difference(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    """Exit status 1 says that something differs, and nothing else does: whoever watches it need not read the text."""

    async def fail(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr(audit, "audit_of_hops", fail)
    done = CliRunner().invoke(audit.command, [])
    assert done.exit_code == status
    assert 1 not in {status, *(code for verdict, code in audit.EXIT_STATUS.items() if verdict != "differ")}


def test_a_wrong_setting_is_reported_by_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which ends with 2, as for every command."""

    async def fail(*_: object, **__: object) -> Any:
        raise SettingsError("no such thing")

    monkeypatch.setattr(audit, "audit_of_hops", fail)
    assert isinstance(CliRunner().invoke(audit.command, []).exception, SettingsError)
