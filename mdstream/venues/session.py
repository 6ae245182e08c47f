"""One connection's dialogue with its venue: log in, subscribe, await the answers, keep alive. Pure: no I/O, no clock.

    opened ──> logging in ──> subscribing, a request each subscribe_interval_s ──> all requests are sent
                   │                       │                                           │
                   v refused               v silent                                    v silent
                 Fatal                   Close                                       Close

    too old, or a shutdown is announced ──> Replace, once; the dialogue goes on

Each subscription is waiting for its request, requested, acknowledged, rejected, or missing: not answered ANSWER_S after
its request. A later answer is taken. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from mdstream.errors import FrameError
from mdstream.ticks import Control
from mdstream.venues import ws_setting
from mdstream.venues.feed import Provider, Request

ANSWER_S = 10.0
NAMED = 5
"""Names in one text."""
NOT_SERVED = 451
"""The HTTP status "unavailable for legal reasons": venues answer it to addresses of some countries."""


class Send(NamedTuple):
    """Send a frame."""

    frame: str | bytes


class Wait(NamedTuple):
    """Call `tick` again within `seconds`."""

    seconds: float


class Subscribed(NamedTuple):
    """All requests are sent."""


class Report(NamedTuple):
    """Count and log what the venue did; `names`: the subscriptions concerned."""

    what: Literal["error", "notice", "not_understood", "missing"]
    text: str
    names: tuple[str, ...] = ()


class Replace(NamedTuple):
    """Make another connection, and close this one when that has its subscriptions."""

    reason: str


class Close(NamedTuple):
    """Close the connection and make another after a pause."""

    reason: str
    because: Literal["lost", "silence"] = "lost"


class Probe(NamedTuple):
    """Close the connection for this reason, unless the link finds that the other end is there."""

    silence: Close


class Fatal(NamedTuple):
    """Give the feed up: trying again cannot help. `reason` ends with what to set."""

    reason: str


Action = Send | Wait | Subscribed | Report | Replace | Probe | Close | Fatal
"""Actions of a session, in the order given. It ends with a Close or a Fatal."""


class Session:
    """The dialogue about canonical `symbols`, with the `settings` that a login needs.

    `lifetime`: the share of the venue's `max_age_s` after which to reconnect, so that connections opened together are
    not replaced together.
    """

    def __init__(
        self, provider: Provider, symbols: Sequence[str], settings: Mapping[str, str], *, lifetime: float = 1.0
    ) -> None:
        self._provider, self._settings = provider, settings
        self._max_age_s = None if provider.max_age_s is None else provider.max_age_s * lifetime
        self._login_names: frozenset[str] = frozenset()
        self._requests = deque(provider.subscribe(symbols))
        self._by_id = {request.id: request.names for request in self._requests if request.id}
        self._wanted = {name for request in self._requests for name in request.names}
        self._awaited: dict[str, float] = {}  # when the answer is due
        self.missing: set[str] = set()
        self.rejected: set[str] = set()
        self._subscribed = self._replacing = False
        self._opened_s = self._last_frame_s = self._last_ping_s = self._due_s = 0.0
        self._frames = 0

    def opened(self, now_s: float) -> list[Action]:
        """The connection is open."""
        self._opened_s = self._last_frame_s = self._last_ping_s = self._due_s = now_s
        if not all(self._settings.get(name) for name in self._provider.credentials):
            return [Fatal(f"it needs a login: {self._remedy()}")]
        return [*self._log_in(now_s), *self.tick(now_s)]

    def refused(self, status: int, address: str) -> Close | Fatal:
        """HTTP `status` came in place of a connection to `address`."""
        answer = f"{address} answers HTTP {status}"
        if status in self._provider.denying_statuses:
            return Fatal(f"{answer}: {self._remedy()}")
        return Close(f"{answer}: the venue does not serve this region" if status == NOT_SERVED else answer)

    def frame(self, frame: bytes, now_s: float) -> list[Action]:
        """A frame came that belongs to no instrument."""
        try:
            ticks = self._provider.decode(frame)
        except (FrameError, msgspec.MsgspecError) as error:
            return [Report("not_understood", f"sent a frame that is not understood ({error}): {frame[:200]!r}")]
        return [action for t in ticks if isinstance(t, Control) for action in self._control(t, now_s)]

    @property
    def settled(self) -> bool:
        """Whether all requests are sent and no answer is awaited any more."""
        return self._subscribed and not self._requests and not self._awaited

    def change(self, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Subscribe to `add` and unsubscribe from `remove`, both canonical, with the next ticks; a symbol that is in
        both is subscribed to again, which brings a new snapshot of its book.

        An id of a request stands for the latest one that has it.
        """
        self._requests.extend(self._provider.unsubscribe(remove) if remove else ())
        self._forget(name for request in self._provider.subscribe(remove) for name in request.names)
        for request in self._provider.subscribe(add) if add else ():
            self._requests.append(request)
            self._wanted.update(request.names)
            if request.id:
                self._by_id[request.id] = request.names

    def _forget(self, names: Iterable[str]) -> None:
        gone = set(names)
        self._wanted -= gone
        self._answered(gone)

    def tick(self, now_s: float, *, frames: int = 0, quiet: bool = False) -> list[Action]:
        """Time has passed; `frames` have arrived so far. `quiet`: no market that is subscribed to is in its regular
        session."""
        self._note_frames(now_s, frames)
        end = self._end(now_s)
        if end is not None and not (quiet and end.because == "silence"):
            return [end]
        due = [
            *self._probe(end, now_s),
            *self._overdue(now_s),
            *self._subscribe(now_s),
            *self._ping(now_s),
            *self._aged(now_s),
        ]
        return [*due, Wait(self._wait_s(now_s))]

    # ------------------------------------------------------------------------------------------ requests and answers

    def _log_in(self, now_s: float) -> list[Action]:
        login = self._provider.login(self._settings)
        if login is None:
            return []
        self._login_names = frozenset(login.names)
        return self._send(login, now_s)

    @property
    def _logging_in(self) -> bool:
        return not self._login_names.isdisjoint(self._awaited)

    def _subscribe(self, now_s: float) -> list[Action]:
        if self._logging_in or now_s < self._due_s:
            return []
        sent = self._send(self._requests.popleft(), now_s) if self._requests else []
        if self._requests or self._subscribed:
            return sent
        self._subscribed = True
        return [*sent, Subscribed()]

    def _send(self, request: Request, now_s: float) -> list[Action]:
        self._due_s = now_s + self._provider.subscribe_interval_s
        self._awaited.update(dict.fromkeys(request.names, now_s + ANSWER_S))
        return [Send(request.frame)]

    def _control(self, control: Control, now_s: float) -> list[Action]:
        names = [name for answered in control.names for name in self._by_id.get(answered, (answered,))]
        match control.kind:
            case "ack":
                self._answered(names)
                return self._subscribe(now_s)
            case "error":
                return self._error(control.detail, names)
            case "notice":
                return [Report("notice", f"announced: {control.detail}")]
            case "shutdown":
                text = f"announced: {control.detail}"
                return [Report("notice", text), *self._replace(f"the venue {text}")]
        return []

    def _answered(self, names: Collection[str]) -> None:
        for name in names:
            self._awaited.pop(name, None)
        self.missing.difference_update(names)
        self.rejected.difference_update(names)

    def _error(self, detail: str, names: Sequence[str]) -> list[Action]:
        if not self._login_names.isdisjoint(names):
            return [Fatal(f"the login was refused, {detail}: {self._remedy()}")]
        rejected = tuple(name for name in names if name in self._wanted)
        self._answered(rejected)
        self.rejected.update(rejected)
        subject = f" (rejected: {named(rejected)})" if rejected else ""
        return [Report("error", f"answered with an error: {detail}{subject}", rejected)]

    def _overdue(self, now_s: float) -> list[Action]:
        late = tuple(name for name, due_s in self._awaited.items() if now_s >= due_s)
        if not late:
            return []
        self._answered(late)
        self.missing.update(late)
        return [Report("missing", f"has not acknowledged within {ANSWER_S:g} s: {named(late)}", late)]

    def _remedy(self) -> str:
        if self._provider.credentials:
            return f"set {' and '.join(self._provider.credentials)}"
        return f"set {ws_setting(self._provider.name)} to an address with access"

    # ---------------------------------------------------------------------------------------------- silence, age, time

    def _note_frames(self, now_s: float, frames: int) -> None:
        if frames != self._frames:
            self._frames, self._last_frame_s = frames, now_s

    def _end(self, now_s: float) -> Close | None:
        silence_s = self._provider.silence_s
        if now_s - self._last_frame_s >= silence_s:
            return Close(f"no frame for {silence_s:g} s", "silence")
        if any(now_s >= self._awaited.get(name, now_s + 1) for name in self._login_names):
            return Close(f"the login was not answered within {ANSWER_S:g} s")
        return None

    def _probe(self, silence: Close | None, now_s: float) -> list[Action]:
        """Nothing has come for long, and nothing need have: ask, and wait as long again."""
        if silence is None:
            return []
        self._last_frame_s = now_s
        return [Probe(silence)]

    def _aged(self, now_s: float) -> list[Action]:
        if self._max_age_s is None or now_s - self._opened_s < self._max_age_s:
            return []
        return self._replace(f"the venue ends connections, and this one is {self._max_age_s / 3600:.1f} h old")

    def _replace(self, reason: str) -> list[Action]:
        if self._replacing:
            return []
        self._replacing = True
        return [Replace(reason)]

    def _ping(self, now_s: float) -> list[Action]:
        keepalive = self._provider.keepalive
        if keepalive is None:
            return []
        since_s = self._last_ping_s if keepalive.always else max(self._last_ping_s, self._last_frame_s)
        if now_s - since_s < keepalive.interval_s:
            return []
        self._last_ping_s = now_s
        return [Send(keepalive.frame)]

    def _wait_s(self, now_s: float) -> float:
        """Until the next request is due, and never so long that a limit is missed by more than a tenth."""
        keepalive, silence_s = self._provider.keepalive, self._provider.silence_s
        max_wait_s = min(1.0, silence_s / 10, (keepalive.interval_s if keepalive else silence_s) / 10)
        idle = not self._requests or self._logging_in
        return max_wait_s if idle else min(max_wait_s, max(0.0, self._due_s - now_s))


def named(names: Sequence[str]) -> str:
    """The first NAMED names, and how many more there are."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
