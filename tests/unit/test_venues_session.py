"""A session: what is sent when, what the venue's answers mean, and when a connection ends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from venue_symbols import SETTINGS, symbols_of

from mdstream.errors import FrameError
from mdstream.simulator import actions as simulated
from mdstream.simulator.market import Market
from mdstream.simulator.venues import EXCHANGES
from mdstream.ticks import Control, Tick
from mdstream.venues.feed import OTHER, Keepalive, Provider, Request, Route
from mdstream.venues.providers import PROVIDERS, provider
from mdstream.venues.session import (
    ANSWER_S,
    Action,
    Close,
    Fatal,
    Probe,
    Replace,
    Report,
    Send,
    Session,
    Subscribed,
    Wait,
    named,
)
from mdstream.venues.symbols import Symbols

PER_REQUEST = 3


class Venue(Provider):
    """A venue whose answers are a kind and names: b"ack A B", b"error A", b"notice"."""

    name = "tern"
    market = "crypto"
    default_url = "wss://tern.example/ws"
    symbols = Symbols("any", str, str)
    max_symbols = 50
    subscribe_interval_s = 0.5
    silence_s = 30.0
    channels = ()
    heads = ()
    other = msgspec.Struct

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        chunks = [tuple(symbols[i : i + PER_REQUEST]) for i in range(0, len(symbols), PER_REQUEST)]
        return [Request(" ".join(chunk), chunk, str(i)) for i, chunk in enumerate(chunks, 1)]

    def route(self, frame: bytes) -> Route:
        return Route(b"tern", OTHER)

    def decode(self, frame: bytes, contract_size: bytes = b"") -> Sequence[Tick]:
        kind, *names = frame.decode().split()
        if kind not in ("ack", "error", "notice", "shutdown", "pong"):
            raise FrameError("what is this")
        return (Control(kind, "some words", tuple(names)),)  # type: ignore[arg-type]

    def control(self, message: msgspec.Struct) -> Control:
        raise FrameError("all of its frames are text")


class Members(Venue):
    """With a login."""

    credentials = ("TERN_KEY", "TERN_SECRET")

    def login(self, settings: Mapping[str, str]) -> Request | None:
        return Request(f"login {settings['TERN_KEY']}", ("login",))


class Polite(Venue):
    silence_s = 25.0
    keepalive: ClassVar[Keepalive | None] = Keepalive(10.0, "ping")


class Steady(Venue):
    keepalive = Keepalive(10.0, "ping", always=True)


class Aged(Venue):
    max_age_s = 100.0


def of(actions: Sequence[Action], *kinds: type) -> list[Action]:
    return [action for action in actions if isinstance(action, kinds)]


def sent(actions: Sequence[Action]) -> list[str | bytes]:
    return [action.frame for action in actions if isinstance(action, Send)]


def opened(venue: Provider, symbols: str = "A", at_s: float = 0.0) -> tuple[Session, list[Action]]:
    session = Session(venue, symbols.split(), {"TERN_KEY": "k", "TERN_SECRET": "s"})
    return session, session.opened(at_s)


# ------------------------------------------------------------------------------------------------------------ requests


def test_session_sends_a_request_each_interval_and_reports_when_all_are_sent() -> None:
    """
    requests   A B C        D E F        G  subscribed
    seconds    0            0.5          1
    """
    session, first = opened(Venue(), "A B C D E F G")
    assert first == [Send("A B C"), Wait(0.5)]
    assert session.tick(0.25) == [Wait(0.25)]
    assert session.tick(0.5) == [Send("D E F"), Wait(0.5)]
    assert session.tick(1.0) == [Send("G"), Subscribed(), Wait(1.0)]
    assert session.tick(1.5) == [Wait(1.0)]


def test_session_without_requests_is_subscribed_when_it_is_open() -> None:
    """A venue that is asked through its address, or its library."""
    assert opened(Venue(), "")[1] == [Subscribed(), Wait(1.0)]


def test_session_waits_for_the_login_before_it_subscribes() -> None:
    """The first request follows the answer at once, however long that took."""
    session, first = opened(Members())
    assert first == [Send("login k"), Wait(1.0)]
    assert session.tick(5.0) == [Wait(1.0)]
    assert session.frame(b"ack login", 7.0) == [Send("A"), Subscribed()]


def test_session_closes_when_the_login_is_not_answered() -> None:
    """Like any venue that does not respond: another attempt may help."""
    session, _ = opened(Members())
    assert session.tick(ANSWER_S - 0.1) == [Wait(1.0)]
    assert session.tick(ANSWER_S) == [Close("the login was not answered within 10 s")]


def test_session_gives_up_when_the_login_is_refused() -> None:
    """No attempt can help, so the reason ends with what to set."""
    session, _ = opened(Members())
    assert session.frame(b"error login", 1.0) == [
        Fatal("the login was refused, some words: set TERN_KEY and TERN_SECRET")
    ]


@pytest.mark.parametrize("settings", [{}, {"TERN_KEY": "k", "TERN_SECRET": ""}])
def test_session_gives_up_without_credentials(settings: dict[str, str]) -> None:
    """Before anything is sent, with the settings that a login needs."""
    session = Session(Members(), ["A"], settings)
    assert session.opened(0.0) == [Fatal("it needs a login: set TERN_KEY and TERN_SECRET")]


# ------------------------------------------------------------------------------------------------------------- answers


def test_session_names_the_subscriptions_that_are_not_acknowledged() -> None:
    """Once, ten seconds after their own request; a late answer still counts."""
    session, _ = opened(Venue(), "A B C D")
    session.tick(0.5)
    assert session.frame(b"ack A C", 1.0) == []
    reports = Report("missing", "has not acknowledged within 10 s: B", ("B",))
    assert of(session.tick(ANSWER_S, frames=1), Report) == [reports]
    assert session.missing == {"B"}
    assert of(session.tick(ANSWER_S + 0.4, frames=2), Report) == []
    assert of(session.tick(ANSWER_S + 0.5, frames=3), Report) == [
        Report("missing", "has not acknowledged within 10 s: D", ("D",))
    ]
    session.frame(b"ack B", ANSWER_S + 1)
    assert session.missing == {"D"}


def test_session_takes_the_id_of_a_request_for_all_its_subscriptions() -> None:
    """As Binance answers: one id for two hundred streams."""
    session, _ = opened(Venue(), "A B C D")
    session.tick(0.5)
    session.frame(b"ack 1", 1.0)
    reports = session.frame(b"error 2", 1.0)
    assert reports == [Report("error", "answered with an error: some words (rejected: D)", ("D",))]
    assert session.rejected == {"D"}
    assert of(session.tick(20.0, frames=1), Report) == []


def test_session_takes_no_names_from_the_wire() -> None:
    """A rejection of something that was not requested is reported, and not kept."""
    session, _ = opened(Venue())
    assert session.frame(b"error X Y Z", 1.0) == [Report("error", "answered with an error: some words")]
    session.frame(b"ack X", 1.0)
    assert (session.rejected, session.missing) == (set(), set())


@pytest.mark.parametrize(
    ("frame", "reports"),
    [
        (b"notice", [Report("notice", "announced: some words")]),
        (b"<html>", [Report("not_understood", "sent a frame that is not understood (what is this): b'<html>'")]),
        (b"ack", []),
        (b"pong", []),
    ],
)
def test_session_reports_what_is_worth_logging(frame: bytes, reports: list[Action]) -> None:
    """Acknowledgements and pongs are not."""
    session, _ = opened(Venue())
    assert session.frame(frame, 1.0) == reports


def test_session_asks_for_another_connection_before_a_venue_shuts_down() -> None:
    """Once; the dialogue goes on meanwhile."""
    session, _ = opened(Venue())
    notice = Report("notice", "announced: some words")
    assert session.frame(b"shutdown", 1.0) == [notice, Replace("the venue announced: some words")]
    assert session.frame(b"shutdown", 2.0) == [notice]
    assert of(session.tick(3.0, frames=2), Close) == []


def test_named_shows_five_names_and_counts_the_rest() -> None:
    """A line in the log stays a line."""
    assert named(["a", "b"]) == "a, b"
    assert named(list("abcdefg")) == "a, b, c, d, e and 2 more"


# ----------------------------------------------------------------------------------------------------- silence and age

Step = tuple[float, int]
"""Time in seconds, frames so far."""


def course(venue: Provider, steps: Sequence[Step]) -> list[str]:
    """What follows from each step: nothing, a ping, or the end."""
    session, _ = opened(venue)
    session.frame(b"ack A", 0.0)
    found = [session.tick(at_s, frames=frames) for at_s, frames in steps]
    return ["end" if of(actions, Close) else "ping" if "ping" in sent(actions) else "" for actions in found]


def test_session_waits_while_frames_arrive() -> None:
    """Nothing to do, however long it goes on."""
    assert course(Polite(), [(9, 1), (18, 2), (27, 3)]) == ["", "", ""]


def test_session_closes_a_silent_connection() -> None:
    """
    frames  ...|                      |
    seconds    0                 30 close
    """
    assert course(Venue(), [(29.9, 0), (30, 0)]) == ["", "end"]
    assert opened(Venue())[0].tick(30.0) == [Close("no frame for 30 s", "silence")]


def test_session_pings_before_it_closes() -> None:
    """
    frames  ...|
    seconds    0       10 ping        20 ping        25 close
    """
    steps: list[Step] = [(9, 0), (10, 0), (11, 0), (20, 0), (25, 0)]
    assert course(Polite(), steps) == ["", "ping", "", "ping", "end"]


def test_session_asks_a_silent_connection_while_no_regular_session_is_on() -> None:
    """
    frames  ...|                                                      regular
    seconds    0             30 probe             60 probe            61 |        90 close
    A closed market sends nothing, so silence proves nothing: the link is asked whether the other end is there.
    """
    session, _ = opened(Venue())
    session.frame(b"ack A", 0.0)
    probe = Probe(Close("no frame for 30 s", "silence"))
    asked = [of(session.tick(at_s, quiet=True), Probe, Close) for at_s in (29.9, 30, 31, 59.9, 60)]
    assert asked == [[], [probe], [], [], [probe]]
    assert [of(session.tick(at_s), Probe, Close) for at_s in (61, 89.9, 90)] == [[], [], [probe.silence]]


def test_session_closes_when_the_login_is_not_answered_at_night() -> None:
    """That is no silence of the market."""
    session, _ = opened(Members())
    (end,) = session.tick(ANSWER_S, quiet=True)
    assert isinstance(end, Close)


def test_session_counts_silence_from_the_last_frame() -> None:
    """Any frame is a sign of life, the answer to a ping too."""
    steps: list[Step] = [(10, 0), (11, 1), (20, 1), (21, 1), (35, 1), (36, 1)]
    assert course(Polite(), steps) == ["ping", "", "", "ping", "ping", "end"]


def test_session_pings_regularly_where_the_venue_wants_that() -> None:
    """Some venues count only what the client sends."""
    assert course(Steady(), [(9, 1), (10, 2), (19, 3), (20, 4)]) == ["", "ping", "", "ping"]


def test_session_is_ticked_often_enough_for_its_limits() -> None:
    """No limit is missed by more than a tenth, and a second is often enough."""

    class Hasty(Venue):
        silence_s = 2.0

    assert opened(Polite())[1][-1] == Wait(1.0)
    assert opened(Hasty())[1][-1] == Wait(0.2)


def test_session_replaces_a_connection_before_the_venue_ends_it() -> None:
    """At an age that the venue declares, or at a share of it, so that connections do not all go together."""
    session, _ = opened(Aged(), at_s=1000.0)
    assert of(session.tick(1099.9, frames=1), Replace) == []
    (replace,) = of(session.tick(1100.0, frames=2), Replace)
    assert replace == Replace("the venue ends connections, and this one is 0.0 h old")
    assert of(session.tick(1101.0, frames=3), Replace) == []
    early = Session(Aged(), ["A"], {}, lifetime=0.9)
    early.opened(0.0)
    assert of(early.tick(90.0, frames=1), Replace) != []


# ------------------------------------------------------------------------------------------------------- later changes


class Json(Venue):
    """Requests as most venues have them."""

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        return [Request(json.dumps({"op": "subscribe", "args": list(symbols)}), tuple(symbols), "1")]


def test_session_takes_further_symbols_and_ends_others() -> None:
    """In its own time: one request each interval, as at the start; the rest is not asked for again."""
    session, _ = opened(Json(), "A B")
    session.frame(b"ack A B", 0.1)
    assert session.settled
    session.change(add=["C"], remove=["A"])
    assert not session.settled
    assert sent(session.tick(0.2, frames=1)) == []
    assert sent(session.tick(0.5, frames=1)) == ['{"op": "unsubscribe", "args": ["A"]}']
    assert sent(session.tick(1.0, frames=2)) == ['{"op": "subscribe", "args": ["C"]}']
    assert not session.settled
    session.frame(b"ack C", 1.1)
    assert session.settled


def test_session_forgets_what_a_removed_symbol_was_waiting_for() -> None:
    """A subscription that was rejected, or not answered, is no problem any more."""
    session, _ = opened(Json(), "A B C")
    session.frame(b"error A", 0.1)
    session.tick(ANSWER_S + 1, frames=1)
    assert (session.rejected, session.missing) == ({"A"}, {"B", "C"})
    session.change(remove=["A", "B"])
    assert (session.rejected, session.missing) == (set(), {"C"})
    session.frame(b"error B", 12.0)
    assert session.rejected == set()


def test_symbol_removed_and_added_is_subscribed_to_again() -> None:
    """Unsubscribed first: a venue would ignore what it thinks is there."""
    session, _ = opened(Json(), "A")
    session.change(add=["A"], remove=["A"])
    frames = [*sent(session.tick(1.0, frames=1)), *sent(session.tick(2.0, frames=2))]
    assert frames == ['{"op": "unsubscribe", "args": ["A"]}', '{"op": "subscribe", "args": ["A"]}']


def test_venue_that_numbers_no_requests_takes_further_symbols_too() -> None:
    """Each is answered by its name."""

    class Nameless(Json):
        def subscribe(self, symbols: Sequence[str]) -> list[Request]:
            return [request._replace(id="") for request in super().subscribe(symbols)]

    session, _ = opened(Nameless(), "A")
    session.change(add=["B"])
    session.tick(1.0, frames=1)
    session.frame(b"ack A B", 1.1)
    assert session.settled


@pytest.mark.parametrize("name", sorted(name for name, each in PROVIDERS.items() if each.framer is None))
def test_every_venue_can_end_a_subscription(name: str) -> None:
    """What it was asked for by subscribe is what unsubscribe names, in the venue's own word or number where frames have
    one, but for what is of no symbol."""
    venue = provider(name)
    ids = [venue.to_venue(symbol).lower() for symbol in venue.default_symbols]
    ended = venue.unsubscribe(venue.default_symbols)
    requests = venue.subscribe(venue.default_symbols)
    asked = [request for request in requests if any(each in str(request.frame).lower() for each in ids)]
    assert [str(r.frame).lower() for r in ended] == [
        str(r.frame)
        .lower()
        .replace('"subscribe"', '"unsubscribe"', 1)
        .replace('"requestaction": 1', '"requestaction": 2')
        for r in asked
    ]
    assert all(before.frame != after.frame and not after.names for before, after in zip(asked, ended, strict=True))


# ----------------------------------------------------------------------------------------------------------- handshake


@pytest.mark.parametrize("status", [401, 403])
def test_session_gives_up_when_the_handshake_is_denied(status: int) -> None:
    """Today's credentials will not do tomorrow: what to set is said instead."""
    open_to_all, members = Session(Venue(), ["A"], {}), Session(Members(), ["A"], {"TERN_KEY": ""})
    where = f"wss://tern.example/ws answers HTTP {status}"
    assert open_to_all.refused(status, "wss://tern.example/ws") == Fatal(
        f"{where}: set TERN_WS_URL to an address with access"
    )
    assert members.refused(status, "wss://tern.example/ws") == Fatal(f"{where}: set TERN_KEY and TERN_SECRET")


def test_session_tries_again_after_any_other_status() -> None:
    """A block of a region may be lifted, and an overloaded server recovers."""
    session = Session(Venue(), ["A"], {})
    assert session.refused(451, "u") == Close("u answers HTTP 451: the venue does not serve this region")
    assert session.refused(503, "u") == Close("u answers HTTP 503")


# ------------------------------------------------------------------------------------------------------------- always

Event = tuple[str, list[int]]
EVENTS = st.lists(
    st.tuples(st.sampled_from(["tick", "ack", "error", "junk"]), st.lists(st.integers(0, 11), max_size=4)), max_size=60
)


@given(symbols=st.integers(0, 10), members=st.booleans(), steps=st.lists(st.floats(0, 3), max_size=60), events=EVENTS)
def test_every_subscription_is_acknowledged_rejected_or_missing(
    symbols: int, members: bool, steps: list[float], events: list[Event]
) -> None:
    """Whatever frames and ticks come in whatever order: requests stay within the venue's limits and pauses, and once
    all are sent and the time for answers is over, each wanted subscription has exactly one outcome, the right one."""
    wanted = [f"S{n}" for n in range(symbols)]
    session = Session(Members() if members else Venue(), wanted, {"TERN_KEY": "k", "TERN_SECRET": "s"})
    now_s, frames, times, names = 0.0, 0, list[float](), list[str]()
    outcomes: dict[str, str] = {}

    def take(actions: list[Action]) -> None:
        assert not of(actions, Close, Fatal)
        for frame in sent(actions):
            if str(frame).startswith("S"):
                requested = str(frame).split()
                assert len(requested) <= PER_REQUEST
                times.append(now_s)
                names.extend(requested)

    def hear(frame: str) -> None:
        nonlocal frames
        frames += 1
        take(session.frame(frame.encode(), now_s))

    take(session.opened(now_s))
    hear("ack login")
    for (kind, numbers), step_s in zip(events, [*steps, *[1.0] * 60], strict=False):
        now_s += step_s
        requested = [f"S{n}" for n in numbers]
        if kind in ("ack", "error"):
            outcomes.update((name, kind) for name in requested if name in names)
            hear(f"{kind} {' '.join(requested)}")
        elif kind == "junk":
            hear("junk")
        else:
            frames += 1
            take(session.tick(now_s, frames=frames))
    for _ in range(40):
        now_s += 1.0
        frames += 1
        take(session.tick(now_s, frames=frames))
    assert names == wanted
    assert all(later - earlier >= Venue.subscribe_interval_s - 1e-9 for earlier, later in pairwise(times))
    assert session.rejected == {name for name in wanted if outcomes.get(name) == "error"}
    assert session.missing == {name for name in wanted if name not in outcomes}


# ---------------------------------------------------------------------------------------------- with simulated venues

START_NS = 1_767_625_200_000_000_000


def talk(name: str, symbols: Sequence[str], tradable: Sequence[str]) -> tuple[Session, list[Action]]:
    """A session's dialogue with the simulated venue, where only `tradable` exist; and its reports, in 60 s."""
    venue, exchange = provider(name), EXCHANGES[name](Market(1, 1000), tradable)
    near, far = Session(venue, symbols, SETTINGS), exchange.session(exchange.path, "", START_NS)
    assert far is not None
    now_s = 0.0
    actions = near.opened(now_s)
    reports = of(actions, Subscribed)  # all with one request
    while now_s < 60:
        answered: list[Action] = []
        for request in sent(actions):
            answers = far.received(str(request), START_NS + int(now_s * 1e9))
            assert not [answer for answer in answers if isinstance(answer, simulated.Close)], "a limit was exceeded"
            texts = [answer.text.encode() for answer in answers if isinstance(answer, simulated.Send)]
            parts = [part for text in texts for part in venue.split(text)]
            answered += [a for t in parts if venue.route(t).key == name.encode() for a in near.frame(t, now_s)]
        now_s += next(action.seconds for action in actions if isinstance(action, Wait))
        actions = [*answered, *near.tick(now_s, frames=int(now_s * 1000))]
        reports += of(actions, Report, Subscribed)
    return near, reports


@pytest.mark.parametrize("name", sorted(name for name, each in EXCHANGES.items() if each.framer is None))
def test_a_venue_acknowledges_all_subscriptions_within_its_limits(name: str) -> None:
    """As many symbols as fit on a connection: no request too many for the venue, no answer that is not recognised."""
    symbols = symbols_of(name, provider(name).max_symbols)
    session, reports = talk(name, symbols, symbols)
    assert (session.missing, session.rejected) == (set(), set())
    assert reports == [Subscribed()]


@pytest.mark.parametrize(
    ("name", "rejected", "missing"),
    [
        ("binance", set(), set()),  # it acknowledges unknown names: they are found mute
        ("alpaca_crypto", set(), set()),
        ("okx", {"trades FOO-USDT", "bbo-tbt FOO-USDT", "books FOO-USDT"}, set()),
        ("bybit", {f"{channel}.FOOUSDT" for channel in ("publicTrade", "orderbook.1", "orderbook.50")}, set()),
        ("kraken", {f"{channel} FOO/USDT" for channel in ("trade", "ticker", "book")}, set()),
        ("coinbase", set(), {f"{channel} FOO-USDT" for channel in ("matches", "ticker", "heartbeat", "level2_batch")}),
    ],
)
def test_a_symbol_that_a_venue_does_not_have_is_named(name: str, rejected: set[str], missing: set[str]) -> None:
    """Where its error says which one it is, as rejected; else as missing. The others are not concerned."""
    session, reports = talk(name, ["BTCUSDT", "FOOUSDT", "ETHUSDT"], ["BTCUSDT", "ETHUSDT"])
    assert (session.rejected, session.missing) == (rejected, missing)
    assert {n for report in reports if isinstance(report, Report) for n in report.names} == rejected | missing


def test_coinbase_acknowledges_a_channel_by_another_name() -> None:
    """level2_batch is an alias of level2_50 there."""
    session = Session(provider("coinbase"), ["BTCUSD"], {})
    session.opened(0.0)
    session.tick(1.0)
    channels = ("matches", "ticker", "heartbeat", "level2_50")
    answer = {"type": "subscriptions", "channels": [{"name": c, "product_ids": ["BTC-USD"]} for c in channels]}
    session.frame(json.dumps(answer).encode(), 1.0)
    session.tick(20.0, frames=1)
    assert session.missing == set()


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("binance", b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1767625260000}}'),
        ("okx", b'{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade."}'),
    ],
)
def test_a_venues_shutdown_notice_asks_for_another_connection(name: str, frame: bytes) -> None:
    """Before the venue ends this one, in the middle of something."""
    session = Session(provider(name), ["BTCUSDT"], {})
    session.opened(0.0)
    assert len(of(session.frame(frame, 1.0), Replace)) == 1
