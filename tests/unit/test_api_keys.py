"""Who may read the history."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.api.keys import Keys
from mdstream.api.webhook import Rates
from mdstream.venues.past import Limits


def keys(*known: str, burst: float = 2.0) -> Keys:
    digests = [sha256(each.encode()).hexdigest() for each in known]
    return Keys(digests, Rates(Limits(per_s=1.0, burst=burst)))


def status(known: Keys, key: str, now_s: float = 0.0) -> int:
    refusal = known.admit(key, now_s)
    return refusal.status if refusal else 200


@given(st.text(max_size=80))
def test_without_keys_everybody_may_read(key: str) -> None:
    assert not keys().needed
    assert status(keys(), key) == 200


@given(st.text(max_size=80))
def test_with_keys_they_alone_are_let_in(key: str) -> None:
    """Not what their digest is either: that is in the settings."""
    known = keys("one", "two")
    assert known.needed
    assert [status(known, each) for each in ("one", "two")] == [200, 200]
    assert status(known, key) == (200 if key in ("one", "two") else 401)
    assert status(known, sha256(b"one").hexdigest()) == 401


@pytest.mark.parametrize("key", ["", "ONE", "one ", "\ud800"])
def test_what_is_nearly_a_key_is_none(key: str) -> None:
    assert status(keys("one"), key) == 401


def test_each_key_has_its_own_rate() -> None:
    """What others send without a key takes nothing of it."""
    known = keys("one", "two")
    assert [status(known, "one") for _ in range(3)] == [200, 200, 429]
    assert [status(known, "guess") for _ in range(3)] == [401] * 3
    assert status(known, "two") == 200
    assert status(known, "one", now_s=1.0) == 200
