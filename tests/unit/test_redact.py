"""mdstream/net/redact.py: what of an address may be shown."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mdstream.cli import cli
from mdstream.config import Settings
from mdstream.config.fields import settings_of
from mdstream.net.redact import redacted, scrubbed

secrets = st.text(st.characters(codec="ascii", exclude_characters=" &\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85"), min_size=6)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://host:9443/ws", "wss://host:9443/ws"),
        ("wss://user:password@host/ws", "wss://host/ws"),
        ("wss://host/ws?apikey=abc", "wss://host/ws?apikey=***"),
        ("wss://host/ws?apikey=abc&depth=5#x", "wss://host/ws?apikey=***&depth=***#***"),
        ("https://host/?abc", "https://host/?***"),
        ("https://u:p@host?next=https://other/", "https://host?next=***"),
        ("nats://token@host:4222", "nats://host:4222"),
        ("nats://user:p@ss@host", "nats://host"),
        ("user:pass@host:4222", "host:4222"),
        ("nats://host:4222", "nats://host:4222"),
        ("wss://user:p?ss@host", "wss://***"),
        ("wss://host/ws?apikey=a@b", "wss://***"),
    ],
)
def test_address_is_shown_without_user_and_values(url: str, shown: str) -> None:
    """What identifies the server stays; where it cannot be distinguished from a secret, nothing does."""
    assert redacted(url) == shown


@given(secrets)
def test_no_password_or_value_is_ever_shown(secret: str) -> None:
    """Whatever characters it has, escaped or not."""
    secret = f"S{secret}E"
    for url in (f"wss://user:{secret}@host/ws", f"wss://host/ws?apikey={secret}", f"wss://u@host/?a=1&k={secret}"):
        assert secret not in redacted(url)
        assert secret not in scrubbed(f"{url} cannot be reached: '{url}': refused")


def test_text_keeps_all_but_the_secrets() -> None:
    """Errors of libraries quote the address they were given."""
    message = "wss://h/ws?key=abc isn't a valid URI; 404, url='https://u:p@h/x?k=1', see https://h/y."
    assert scrubbed(message) == "wss://h/ws?key=*** isn't a valid URI; 404, url='https://h/x?k=***', see https://h/y."


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    """Every command there is, as its words."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


def test_no_help_shows_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Help is pasted into tickets: it names a setting, and never shows its value."""
    for field in settings_of(Settings):
        if "SecretStr" in str(field.annotation):
            monkeypatch.setenv(str(field.alias), "wss://user:geheim@host/?key=geheim")
    found = list(commands(cli))
    assert {("db", "upgrade"), ("ingest",), ("audit",)} < set(found)
    for command in found:
        message = CliRunner().invoke(cli, [*command, "--help"])
        assert (message.exit_code, "geheim" in message.output) == (0, False), command
