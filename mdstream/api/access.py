"""Who may send an alert: by a signature of the body, or by a secret in the path from an address that is TradingView's.

Every comparison with a secret takes the same time wherever the two differ, and all secrets are compared.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Networks = Sequence[IPv4Network | IPv6Network]

PREFIX = "sha256="


@dataclass(frozen=True)
class Access:
    """`signing`: secrets that sign a body. `paths`: secrets in the path, which count from these `addresses` only."""

    signing: tuple[bytes, ...] = ()
    paths: tuple[bytes, ...] = ()
    addresses: Networks = ()

    def signed(self, body: bytes, signature: str) -> bool:
        """Whether it is the HMAC-SHA256 of exactly these bytes by one of the secrets, in hex, with or without `sha256=`
        before it."""
        given = signature.strip().lower().removeprefix(PREFIX)
        expected = [hmac.new(secret, body, sha256).hexdigest().encode() for secret in self.signing]
        return among(given, expected)

    def knows(self, secret: str, source: str) -> bool:
        """Whether a request with this secret in its path may come from the address `source`."""
        found = among(secret, self.paths)  # compared in any case: the time tells nothing of the address list
        return found and within(source, self.addresses)


def among(given: str, expected: Sequence[bytes]) -> bool:
    """Whether it is one of these."""
    text = given.encode("utf-8", "replace")
    found = False
    for each in expected:
        found |= hmac.compare_digest(text, each)
    return found


def networks(texts: Sequence[str]) -> Networks:
    """Addresses and networks, like 10.0.0.1 and 10.0.0.0/8. Raises ValueError for anything else."""
    return tuple(ip_network(text) for text in texts)


def within(source: str, among: Networks) -> bool:
    """Whether an address is in one of the networks; a text that is no address is in none."""
    try:
        address = ip_address(source)
    except ValueError:
        return False
    return any(address in network for network in among)


def client(peer: str, forwarded: str, proxies: Networks) -> str:
    """The address that a request came from.

    `forwarded` is what a proxy's header says, the last address its own addition. It counts only if the connection's
    `peer` is one of our `proxies`: anybody can send such a header.
    """
    found = plain(peer)
    for hop in reversed(forwarded.split(",")):
        if not within(found, proxies):
            break
        try:
            found = plain(str(ip_address(hop.strip())))
        except ValueError:
            break
    return found


def plain(address: str) -> str:
    """An address as people write it: one of IPv4 that came over a socket of IPv6 without that form."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(getattr(found, "ipv4_mapped", None) or found)
