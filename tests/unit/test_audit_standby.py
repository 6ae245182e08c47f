"""mdstream/audit/standby.py: what stood by while another source was followed is distinguished from what was lost.

The axis: seconds; a trade a second of each source unless said otherwise.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.audit.details import Details, Difference, differences
from mdstream.audit.ledger import Ledger, differing
from mdstream.audit.recovered import RequestedGaps
from mdstream.audit.standby import HANDOVER_NS, SLOT_NS, Alive, Followed, StandBy
from mdstream.audit.trades import DAY_NS, AuditTrade, Scope

START_NS = 20_000 * DAY_NS
SECOND_NS = 1_000_000_000
DELAY_NS = 5_000_000
MS = 1_000_000


def trade(source: str, second: float, *, received: float | None = None, recovered: bool = False) -> AuditTrade:
    """A trade of `source` at a second, with an id of its own; received 5 ms later unless said otherwise."""
    time_ns = START_NS + round(second * SECOND_NS)
    received_ns = time_ns + DELAY_NS if received is None else START_NS + round(received * SECOND_NS)
    number = str(round(second * 1000))
    return AuditTrade(source, "BTCUSDT", number, 1.5, 2.0, "buy", time_ns, "", received_ns, recovered)


def seconds(source: str, first: int, end: int) -> list[AuditTrade]:
    return [trade(source, second) for second in range(first, end)]


class Audit:
    """Both passes over a raw and a canonical hop, in the order in which the command makes them."""

    def __init__(self, raw: list[AuditTrade], canonical: list[AuditTrade], *, merged: bool = False) -> None:
        followed, alive = Followed(lambda _: merged), Alive()
        self.raw, self.canonical = (
            Ledger(name, Scope(), may_repeat=repeats) for name, repeats in (("raw", True), ("canonical", False))
        )
        self._standby = StandBy(followed, alive, self.canonical)
        for seq, one in enumerate(canonical):
            followed.learn(one)
            self.canonical.add(one, seq)
        for one in raw:
            alive.add_frame(one.provider, one.received_ns)
            if self.raw.add(one):
                self._standby.consider(one)
        self._standby.settle(self.raw)
        self.raw.choose_id_spaces(self.canonical)
        self.wanted = differing([self.raw, self.canonical])
        self.found = self._differences(raw, canonical)

    def _differences(self, raw: list[AuditTrade], canonical: list[AuditTrade]) -> list[Difference]:
        left = Details(self.raw, self.wanted, may_repeat=True, stood_by=self._standby.__contains__)
        right = Details(self.canonical, self.wanted, may_repeat=False)
        for one in raw:
            left.add(one)
        for seq, one in enumerate(canonical):
            right.add(one, seq)
        return list(differences(left, right, self.wanted))

    def missing(self) -> list[tuple[str, float]]:
        """(source, second) of the trades that were lost; the counts must say the same as the names."""
        assert bool(self.found) is bool(self.wanted)
        assert all(one.kind == "missing" for one in self.found)
        assert self.raw.stood_by() + len(self.found) == self.raw.total().count - self.canonical.total().count
        return sorted((one.provider, int(one.trade_id) / 1000) for one in self.found)


def test_source_that_is_never_followed_stands_by() -> None:
    """
    raw        A a a a a a a      canonical  A A A A A A
               B b b b b b b
    """
    audit = Audit([*seconds("a", 0, 60), *seconds("b", 0, 60)], seconds("a", 0, 60))
    assert audit.missing() == []
    assert audit.raw.stood_by() == 60


def test_trade_of_the_source_that_is_followed_is_lost() -> None:
    """
    raw        A a a a a a a      canonical  A A A . A A A
               B b b b b b b
    """
    followed = [one for one in seconds("a", 0, 60) if one.trade_id != "30000"]
    assert Audit([*seconds("a", 0, 60), *seconds("b", 0, 60)], followed).missing() == [("a", 30.0)]


def test_a_switch_and_the_return_lose_nothing() -> None:
    """
               0    20        40    60
    raw        A aaaaa..........aaaaaa     silent from 20 to 40, followed again from 50
               B bbbbbbbbbbbbbbbbbbbbb
    canonical    AAAAABBBBBBBBBBBBBAAA
    """
    raw = [*seconds("a", 0, 20), *seconds("a", 40, 60), *seconds("b", 0, 60)]
    canonical = [*seconds("a", 0, 20), *seconds("b", 20, 50), *seconds("a", 50, 60)]
    audit = Audit(raw, canonical)
    assert audit.missing() == []
    assert audit.raw.stood_by() == 20 + 10 + 10


@pytest.mark.parametrize("lost", [20, 21, 23])
def test_hole_at_a_handover_is_a_loss(lost: int) -> None:
    """
               0    20   24
    raw        A aaaaa                     B's trades since A's last one are due from B,
               B bbbbbbbbbbbbbbbbbbbbb     however late the switch was decided
    canonical    AAAAA....BBBBBBBBBBBB
    """
    canonical = [*seconds("a", 0, 20), *(one for one in seconds("b", 20, 60) if one.trade_id != f"{lost}000")]
    assert Audit([*seconds("a", 0, 20), *seconds("b", 0, 60)], canonical).missing() == [("b", float(lost))]


def test_what_comes_back_after_a_switch_stood_by() -> None:
    """A's trades of the stall, delivered when B was followed already: B covered that time."""
    stalled = [trade("a", second, received=30) for second in range(20, 30)]
    raw = [*seconds("a", 0, 20), *stalled, *seconds("b", 0, 60)]
    assert Audit(raw, [*seconds("a", 0, 20), *seconds("b", 20, 60)]).missing() == []


def test_nobody_stands_by_for_a_source_that_is_dead() -> None:
    """
               0    20                    200
    raw        A aaaaa                         the switch never came: the stream has a hole
               B bbbbbbbbbbbbbbbbbbbbbbbbb
    canonical    AAAAA
    """
    missing = Audit([*seconds("a", 0, 20), *seconds("b", 0, 200)], seconds("a", 0, 20)).missing()
    assert {source for source, _ in missing} == {"b"}
    assert missing[-1] == ("b", 199.0)
    assert missing[0][1] <= 20 + 2 * SLOT_NS / SECOND_NS


def test_quiet_source_that_is_alive_is_followed() -> None:
    """A gives frames of other instruments: that nobody trades this one there is no fault."""
    others = [one._replace(symbol="ETHUSDT") for one in seconds("a", 0, 200)]
    raw = [trade("a", 0), *seconds("b", 0, 200), *others]
    assert Audit(raw, [trade("a", 0), *others]).missing() == []


def test_all_sources_of_a_merged_instrument_are_followed() -> None:
    """Where the policy is to merge, nobody stands by."""
    raw = [*seconds("a", 0, 10), *seconds("b", 0, 10)]
    canonical = sorted(raw, key=lambda one: one.time_ns)
    assert Audit(raw, canonical, merged=True).missing() == []
    lost = canonical.pop(7)
    assert Audit(raw, canonical, merged=True).missing() == [(lost.provider, (lost.time_ns - START_NS) / SECOND_NS)]


def test_recovered_trade_begins_no_stretch() -> None:
    """A's missing trade comes by repair while B is followed: B is followed all the same."""
    raw = [*seconds("a", 0, 20), *seconds("b", 0, 60), trade("a", 9.5, received=40, recovered=True)]
    canonical = [*seconds("a", 0, 20), *seconds("b", 20, 40), raw[-1], *seconds("b", 40, 60)]
    assert Audit(raw, canonical).missing() == []


def test_late_trade_begins_no_stretch() -> None:
    """Likewise one that comes late by itself."""
    raw = [*seconds("a", 0, 20), *seconds("b", 0, 60), trade("a", 9.5, received=40)]
    canonical = [*seconds("a", 0, 20), *seconds("b", 20, 40), raw[-1], *seconds("b", 40, 60)]
    assert Audit(raw, canonical).missing() == []


@pytest.mark.parametrize("ahead_s", [-7, 0, 7])
def test_clock_of_a_venue_that_is_wrong_loses_nothing(ahead_s: int) -> None:
    """B's own times are seven seconds off; our receive times show who was followed."""
    b = [trade("b", second + ahead_s, received=second + 0.005) for second in range(60)]
    raw = [*seconds("a", 0, 20), *seconds("a", 40, 60), *b]
    assert Audit(raw, [*seconds("a", 0, 20), *b[20:50], *seconds("a", 50, 60)]).missing() == []


def test_venues_that_take_longer_are_allowed_for_at_a_handover() -> None:
    """A's last trade was made at 19 s; B's of 50 ms later came before it in the market, by the worker's calculation."""
    early = trade("b", 19 + HANDOVER_NS / SECOND_NS / 2, received=19.2)
    raw = [*seconds("a", 0, 20), early, *seconds("b", 20, 60)]
    assert Audit(raw, [*seconds("a", 0, 20), *seconds("b", 20, 60)]).missing() == []


@given(st.data())
def test_loss_is_found_whatever_the_switches(data: st.DataObject) -> None:
    """Stretches of any length: nothing is reported unless it is lost, and a lost trade in a stretch is named."""
    lengths = data.draw(st.lists(st.integers(2, 40), min_size=1, max_size=8))
    canonical: list[AuditTrade] = []
    at = 0
    for number, length in enumerate(lengths):
        canonical += seconds("ab"[number % 2], at, at + length)
        at += length
    raw = [*seconds("a", 0, at), *seconds("b", 0, at)]
    assert Audit(raw, canonical).missing() == []
    inner = [one for before, one, after in zip(canonical, canonical[1:], canonical[2:], strict=False)
             if before.provider == one.provider == after.provider]  # fmt: skip
    if inner:
        lost = data.draw(st.sampled_from(inner))
        rest = [one for one in canonical if one != lost]
        assert Audit(raw, rest).missing() == [(lost.provider, (lost.time_ns - START_NS) / SECOND_NS)]


def test_only_what_was_missing_was_asked_for() -> None:
    """A REST answer also holds trades around a gap."""
    requested = RequestedGaps()
    requested.add("a", "BTCUSDT", "9000", "9500")
    requested.add("a", "BTCUSDT", "not a number", "9")
    within = [one for one in (trade("a", at) for at in (8.999, 9.0, 9.25, 9.5, 9.501)) if one in requested]
    assert [one.trade_id for one in within] == ["9000", "9250", "9500"]
    assert trade("b", 9.25) not in requested
    assert trade("a", 9.25)._replace(trade_id="9f") not in requested


def test_only_times_that_were_missing_were_asked_for() -> None:
    """Of trades whose ids do not count, a backfill asks for times; its answers come after each page."""
    requested = RequestedGaps()
    for begin in (9.0, 9.2):
        requested.add_time("a", "BTCUSDT", START_NS + int(begin * SECOND_NS), START_NS + int(9.5 * SECOND_NS))
    within = [at for at in (8.999, 9.0, 9.25, 9.499, 9.5) if trade("a", at)._replace(trade_id="9f") in requested]
    assert within == [9.0, 9.25, 9.499]
    assert trade("b", 9.25) not in requested
