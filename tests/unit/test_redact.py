"""mdstream/redact.py: what of an address may be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.redact import redacted, scrubbed

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
    """What identifies the server stays; where it cannot be told from a secret, nothing does."""
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
    said = "wss://h/ws?key=abc isn't a valid URI; 404, url='https://u:p@h/x?k=1', see https://h/y."
    assert scrubbed(said) == "wss://h/ws?key=*** isn't a valid URI; 404, url='https://h/x?k=***', see https://h/y."
