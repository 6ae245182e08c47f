"""The rules of Interactive Brokers for requests of history, and that ours break none of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mdstream.venues.ib.pacing import Pacing, Request

Asked = list[tuple[float, Request]]

REQUESTS = st.builds(Request, st.sampled_from("AB"), st.sampled_from("12345678"), st.booleans())
PAUSES = st.one_of(st.just(0.0), st.floats(0.0, 20.0), st.floats(0.0, 700.0))


def violations(asked: Asked) -> list[tuple[float, Request]]:
    """The requests that the venue would refuse, each with its time, by its own words."""
    broken = []
    for number, (now_s, request) in enumerate(asked):
        before = asked[:number]
        same = [at_s for at_s, each in before if each == request and now_s - at_s < 15]
        contract = [at_s for at_s, each in before if each.contract == request.contract and now_s - at_s < 2]
        small = [at_s for at_s, each in before if each.small and now_s - at_s < 600]
        if same or len(contract) >= 5 or (request.small and len(small) >= 60):
            broken.append((now_s, request))
    return broken


def paced(wanted: list[tuple[float, Request]]) -> tuple[Asked, float]:
    """When each of the wanted requests was made, a pause after the one before; and how long they waited in all."""
    pacing, now_s, waited_s, asked = Pacing(), 0.0, 0.0, []
    for pause_s, request in wanted:
        now_s += pause_s
        waited_s += pacing.wait_s(request, now_s)
        now_s += pacing.wait_s(request, now_s)
        pacing.made(request, now_s)
        asked.append((now_s, request))
    return asked, waited_s


@given(st.lists(st.tuples(PAUSES, REQUESTS), max_size=150))
def test_no_rule_is_broken_whatever_is_asked(wanted: list[tuple[float, Request]]) -> None:
    """By the venue's own count, with requests of two contracts, repeats, bursts and long pauses."""
    assert not violations(paced(wanted)[0])


def test_requests_wait_no_longer_than_they_have_to() -> None:
    """Sixty of small bars take as long as five in 3 s allow; the next one waits for ten minutes, one of a minute
    does not."""
    wanted = [(0.0, Request("A", str(number), True)) for number in range(60)]
    asked, waited_s = paced(wanted)
    assert waited_s == asked[-1][0] == 3 * 11
    _, waited_s = paced([*wanted, (0.0, Request("A", "61", False))])
    assert waited_s == 3 * 12
    _, waited_s = paced([*wanted, (0.0, Request("B", "61", True))])
    assert waited_s == 601


def test_the_same_request_waits_alone() -> None:
    """For 16 s; other requests of the same contract do not, nor the same request later."""
    first, second = Request("A", "1", False), Request("A", "2", False)
    assert [at_s for at_s, _ in paced([(0.0, first), (0.0, second), (0.0, first)])[0]] == [0.0, 0.0, 16.0]
    assert paced([(0.0, first), (16.0, first)])[1] == 0.0


@given(st.lists(st.tuples(PAUSES, REQUESTS), max_size=80))
def test_what_is_remembered_is_bounded(wanted: list[tuple[float, Request]]) -> None:
    """By the rules themselves: what no rule counts any more is forgotten."""
    pacing, now_s = Pacing(), 0.0
    for pause_s, request in wanted:
        now_s += pause_s + pacing.wait_s(request, now_s + pause_s)
        pacing.made(request, now_s)
    later = Request("C", "9", False)
    pacing.made(later, now_s + 700)
    assert pacing._same.keys() == {later}
    assert pacing._of_contract.keys() == {"C"}
    assert len(pacing._small) <= 60
