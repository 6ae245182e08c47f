"""Who may send an alert."""

from __future__ import annotations

import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.api.access import Access, client, networks, plain, within

BODY = b'{"ticker":"BTCUSDT","exchange":"BINANCE","close":93741.2,"time":"2026-01-05T15:00:00Z"}'
SIGNED = "45ec926e1f058fb304b0cec9cab2964e05e43016d01cbabddbbf6e1af5e01d80"
"""By the secret test-secret: made by another program."""
TRADINGVIEW = networks(["52.89.214.238", "34.212.75.30"])
secrets = st.binary(min_size=1, max_size=100)


@pytest.mark.parametrize("signature", [SIGNED, SIGNED.upper(), f"sha256={SIGNED}", f"  {SIGNED} "])
def test_the_signature_of_the_body_is_accepted_in_hex(signature: str) -> None:
    """With or without the name of the algorithm, as others send it."""
    assert Access((b"test-secret",)).signed(BODY, signature)


@pytest.mark.parametrize(
    "signature", ["", "sha256=", SIGNED[:-1], SIGNED + "0", "sha1=" + SIGNED, "0" * 64, "ä", "\ud800"]
)
def test_another_signature_is_not(signature: str) -> None:
    assert not Access((b"test-secret",)).signed(BODY, signature)


def test_without_a_secret_nothing_is_signed() -> None:
    """Not even by the empty one."""
    assert not Access().signed(BODY, hmac.new(b"", BODY, sha256).hexdigest())
    assert not Access().signed(BODY, "")
    assert not Access(addresses=TRADINGVIEW).knows("", "52.89.214.238")


@given(st.lists(secrets, min_size=1, max_size=4), st.data(), st.binary(max_size=200), st.binary(max_size=200))
def test_any_of_the_secrets_signs_exactly_its_body(
    known: list[bytes], data: st.DataObject, body: bytes, other: bytes
) -> None:
    """So that a secret can be replaced while the old one is still in use; one bit of the body changes everything."""
    signature = hmac.new(data.draw(st.sampled_from(known)), body, sha256).hexdigest()
    access = Access(tuple(known))
    assert access.signed(body, signature)
    assert access.signed(other, signature) == (other == body)


@given(secrets, secrets)
def test_a_secret_signs_only_for_itself(known: bytes, other: bytes) -> None:
    same = known.ljust(64, b"\0") == other.ljust(64, b"\0")  # as HMAC pads a short key
    assert Access((known,)).signed(BODY, hmac.new(other, BODY, sha256).hexdigest()) == same


@pytest.mark.parametrize(
    ("secret", "source", "allowed"),
    [
        ("new", "52.89.214.238", True),
        ("old", "34.212.75.30", True),
        ("old", "34.212.75.31", False),
        ("olds", "34.212.75.30", False),
        ("ol", "34.212.75.30", False),
        ("", "34.212.75.30", False),
        ("\ud800", "34.212.75.30", False),
        ("new", "", False),
        ("new", "no address", False),
    ],
)
def test_a_secret_in_the_path_counts_from_listed_addresses_only(secret: str, source: str, allowed: bool) -> None:
    """Both are needed: a path is written into logs, an address is shared by all of TradingView's users."""
    assert Access(paths=(b"new", b"old"), addresses=TRADINGVIEW).knows(secret, source) is allowed


@pytest.mark.parametrize(
    ("peer", "forwarded", "source"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "52.89.214.238", "203.0.113.9"),  # anybody can say so
        ("10.0.0.1", "52.89.214.238", "52.89.214.238"),
        ("10.0.0.1", "52.89.214.238, 203.0.113.9", "203.0.113.9"),  # what came first was sent by the client
        ("10.0.0.1", "52.89.214.238,10.0.0.2", "52.89.214.238"),  # two proxies in a row
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "x, 203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.1", "::ffff:52.89.214.238", "52.89.214.238"),
        ("2001:db8::1", "52.89.214.238", "2001:db8::1"),
        ("", "52.89.214.238", ""),
    ],
)
def test_a_proxy_s_header_counts_if_it_is_our_proxy_s(peer: str, forwarded: str, source: str) -> None:
    assert client(peer, forwarded, networks(["10.0.0.0/24"])) == source


@given(st.text(max_size=40), st.text(max_size=60))
def test_without_proxies_no_header_counts(peer: str, forwarded: str) -> None:
    """Whatever it says."""
    assert client(peer, forwarded, ()) == plain(peer)


def test_networks_of_both_kinds_are_compared_with_addresses_of_both() -> None:
    both = networks(["10.0.0.0/8", "2001:db8::/32"])
    assert [within(a, both) for a in ("10.1.2.3", "2001:db8::7", "11.0.0.1", "::1")] == [True, True, False, False]
    with pytest.raises(ValueError, match="10"):
        networks(["10.0.0.1/8"])
