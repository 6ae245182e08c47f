"""Who may read: with keys in the settings, whoever has one of them, so often; without, everybody. Pure.

The settings have the SHA-256 of each key, so that who reads them cannot use it. Keys are long and random: guessing one
is hopeless, and a slow hash would help nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from mdstream.api.access import among
from mdstream.api.webhook import UNAUTHORIZED, Rates, Refusal


class Keys:
    """`digests`: the SHA-256 of each key, in hex. `rates`: how often each may be used."""

    def __init__(self, digests: Sequence[str], rates: Rates) -> None:
        self._digests, self._rates = [digest.encode() for digest in digests], rates

    @property
    def needed(self) -> bool:
        """Whether there are any."""
        return bool(self._digests)

    def admit(self, key: str, now_s: float) -> Refusal | None:
        """A refusal if it is no key, or was used too often. `now_s`: of a clock that never goes back."""
        if not self.needed:
            return None
        digest = sha256(key.encode("utf-8", "replace")).hexdigest()
        return self._rates.admit(digest, now_s) if among(digest, self._digests) else UNAUTHORIZED
