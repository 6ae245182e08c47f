"""Which quotes are new: by update id if the venue gives one, else by value and time."""

from __future__ import annotations

from mdstream.stream.quote_dedupe import MAX_SAME_TIME, RESTART_NS, QuoteDedupe
from mdstream.ticks import NO_ID, QuoteTick

NOW = 1_767_625_200_000_000_000


def quote(bid: float, *, at_ms: int | None = None, update_id: int = NO_ID) -> QuoteTick:
    ts = None if at_ms is None else NOW + at_ms * 1_000_000
    return QuoteTick("BTCUSDT", bid, 1.0, bid + 1, 1.0, ts, update_id)


def admitted(*quotes: tuple[int, QuoteTick]) -> list[bool]:
    """Whether each is new; the number is the time of receipt in ms."""
    dedupe = QuoteDedupe()
    return [dedupe.admit(tick, NOW + recv_ms * 1_000_000) for recv_ms, tick in quotes]


def test_quote_is_new_when_its_update_id_rises() -> None:
    reported = admitted(*((n, quote(1.0, update_id=u)) for n, u in enumerate((5, 5, 6, 4, 7))))
    assert reported == [True, False, True, False, True]


def test_update_ids_that_restart_are_taken_after_a_silence() -> None:
    """A venue restarts and counts from 1: taken for repeats until nothing else has come for RESTART_NS."""
    silence_ms = RESTART_NS // 1_000_000
    reported = admitted((0, quote(1.0, update_id=9_000)), (silence_ms - 1, quote(2.0, update_id=1)),
                    (silence_ms, quote(3.0, update_id=2)), (silence_ms + 1, quote(4.0, update_id=3)))  # fmt: skip
    assert reported == [True, False, True, True]


def test_redundant_connections_without_update_ids_are_deduplicated_by_value_and_time() -> None:
    """A1 A2 (same time) B1 B2 A3 B3 and a late A2: each once, and nothing goes back in time."""
    one, two, three = quote(1.0, at_ms=0), quote(2.0, at_ms=0), quote(1.0, at_ms=5)
    assert admitted(*((n, tick) for n, tick in enumerate((one, two, one, two, three, three, two)))) == (
        [True, True, False, False, True, False, False]
    )


def test_quote_without_any_time_or_id_is_new_when_it_differs_from_the_last() -> None:
    assert admitted((0, quote(1.0)), (1, quote(1.0)), (2, quote(2.0)), (3, quote(1.0))) == [True, False, True, True]


def test_quotes_of_one_time_are_remembered_within_a_bound() -> None:
    dedupe = QuoteDedupe()
    for n in range(3 * MAX_SAME_TIME):
        dedupe.admit(quote(float(n), at_ms=0), NOW)
    assert len(dedupe.values) == MAX_SAME_TIME
