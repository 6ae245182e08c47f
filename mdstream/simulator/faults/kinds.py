"""The kinds of faults, their parameters and limits, and their two forms: JSON and VENUE:KIND:k=v,..."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mdstream.errors import SettingsError
from mdstream.simulator.listing import canonical

LONGEST_S = 7 * 24 * 3600.0

Share = Annotated[float, Meta(gt=0.0, le=1.0)]
Seconds = Annotated[float, Meta(ge=0.0, le=LONGEST_S)]
Duration = Annotated[float, Meta(ge=0.001, le=LONGEST_S)]
Millis = Annotated[float, Meta(ge=1.0, le=60_000.0)]


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of a fault, with their defaults."""


class Disconnect(Parameters, frozen=True):
    """The venue's connections are cut, without a closing handshake."""

    one: bool = False
    """Only one of them, chosen at random."""


class Shutdown(Parameters, frozen=True):
    """The venue announces to its clients that it will restart, and closes their connections when the fault ends."""


class Close(Parameters, frozen=True):
    """The venue closes its connections."""

    code: Annotated[int, Meta(ge=1000, le=4999)] = 1012
    reason: Annotated[str, Meta(pattern="^[ -~]{0,120}$")] = "Service restart"

    def __post_init__(self) -> None:
        if self.code < 3000 and self.code not in (1000, 1001, 1002, 1003, *range(1007, 1015)):
            raise ValueError(f"{self.code} is not a code that a close frame may carry")


class SequenceReset(Parameters, frozen=True):
    """Ids of trades and updates restart; REST no longer knows the old trades."""

    first_id: Annotated[int, Meta(ge=1, le=2**52)] = 1


class Refuse(Parameters, frozen=True):
    """New websockets are refused with an HTTP status, or cut off without an answer if it is 0."""

    status: Literal[0, 401, 403, 404, 429, 451, 500, 502, 503, 504] = 503
    rest: bool = False
    """REST requests too."""


class SlowHandshake(Parameters, frozen=True):
    """The answer to a websocket handshake comes late."""

    ms: Millis = 5000.0


class Stall(Parameters, frozen=True):
    """No data and no heartbeats, but connections, answers and pings work; the market goes on."""

    replay: bool = False
    """Held frames are sent at the end."""


class Delay(Parameters, frozen=True):
    """Every frame comes late."""

    ms: Millis = 1000.0


class Duplicate(Parameters, frozen=True):
    """Frames come twice."""

    share: Share = 0.1
    late_ms: Annotated[float, Meta(ge=0.0, le=60_000.0)] = 0.0
    """Delay of the second one."""


class Reorder(Parameters, frozen=True):
    """Frames are shuffled among `window` of them, or among fewer that came within `ms`."""

    window: Annotated[int, Meta(ge=2, le=10_000)] = 20
    ms: Millis = 200.0


class Drop(Parameters, frozen=True):
    """Trades are not sent: a share of them, `run` in a row each; without a share the next `run` of each instrument."""

    share: Share | None = None
    run: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    unrecoverable: bool = False
    """REST does not know them either."""


class Malformed(Parameters, frozen=True):
    """Frames that cannot be parsed follow the good ones, or replace them."""

    share: Share = 0.05
    how: Literal["any", "cut", "json", "types", "binary"] = "any"
    replace: bool = False


class ClockSkew(Parameters, frozen=True):
    """The venue's times are off; negative: behind."""

    ms: Annotated[float, Meta(ge=-3_600_000.0, le=3_600_000.0)] = 5000.0


KINDS: dict[str, type[Parameters]] = {
    "disconnect": Disconnect,
    "close": Close,
    "shutdown": Shutdown,
    "refuse": Refuse,
    "slow_handshake": SlowHandshake,
    "stall": Stall,
    "delay": Delay,
    "duplicate": Duplicate,
    "reorder": Reorder,
    "drop": Drop,
    "malformed": Malformed,
    "sequence_reset": SequenceReset,
    "clock_skew": ClockSkew,
}
AT_ONCE = frozenset({"disconnect", "close", "sequence_reset"})
"""Instant kinds, without a duration."""
WHOLE_VENUE = frozenset({"refuse", "slow_handshake"})
"""Kinds that cannot be restricted to symbols: a handshake names none."""


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault as requested. Times count from the request.

    It begins at `at_s` and lasts `for_s` (None: until it is ended). `every_s`: it recurs after pauses of that mean
    length (exponentially distributed, from `seed`), also before the first time if `at_s` is None.
    """

    venue: str
    kind: str
    parameters: Parameters
    symbols: frozenset[str] | None = None
    """Canonical names; None: all."""
    at_s: Seconds | None = None
    for_s: Duration | None = None
    every_s: Duration | None = None
    seed: int | None = None


class _Common(msgspec.Struct, frozen=True):
    """The parameters of every kind."""

    symbols: list[Annotated[str, Meta(pattern="^[A-Za-z0-9/-]{1,40}$")]] | None = None
    at_s: Seconds | None = None
    for_s: Duration | None = None
    every_s: Duration | None = None
    seed: int | None = None


_COMMON = _Common.__struct_fields__
_AT_FIELD = re.compile(r"(.*) - at `\$\.(\w+).*`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)?")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def from_json(body: bytes) -> Spec:
    """The fault in a JSON object. Raises SettingsError."""
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise SettingsError(f"a fault is a JSON object, but this is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise SettingsError(f'a fault is a JSON object such as {{"venue":"binance","kind":"stall"}}, not {body[:40]!r}')
    return _spec(fields, strict=True)


def from_text(text: str) -> Spec:
    """The fault in VENUE:KIND[:key=value,...]. Raises SettingsError."""
    venue, _, rest = text.partition(":")
    kind, _, settings = rest.partition(":")
    fields: dict[str, Any] = {"venue": venue, "kind": kind}
    for setting in filter(None, settings.split(",")):
        name, equals, value = setting.partition("=")
        if not equals:
            raise SettingsError(f"fault {text}: expected key=value, not {setting!r}")
        fields |= _setting(name, value)
    try:
        return _spec(fields, strict=False)
    except SettingsError as error:
        raise SettingsError(f"fault {text}: {error}") from None


def _setting(name: str, value: str) -> dict[str, Any]:
    """One setting of the text form, as JSON has it: times get their unit, symbols are joined with +."""
    if name.removesuffix("_s") in ("at", "for", "every"):
        match = _TIME.fullmatch(value)
        if match is None:
            raise SettingsError(f"{name}: expected a time such as 500ms, 30s or 2m, not {value!r}")
        return {name.removesuffix("_s") + "_s": float(match[1]) * _UNIT_S[match[2]]}
    return {name: value.split("+") if name == "symbols" else value}


def _spec(fields: Mapping[str, Any], *, strict: bool) -> Spec:
    kind, venue = fields.get("kind"), fields.get("venue")
    if not isinstance(kind, str) or kind not in KINDS:
        raise SettingsError(f"there is no fault of the kind {kind!r}: expected one of {', '.join(KINDS)}")
    if not isinstance(venue, str):
        raise SettingsError(f"venue: expected a name, not {venue!r}")
    common = {name: value for name, value in fields.items() if name in _COMMON}
    own = {name: value for name, value in fields.items() if name not in _COMMON and name not in ("venue", "kind")}
    when = _convert(kind, common, _Common, strict=strict)
    parameters = _convert(kind, own, KINDS[kind], strict=strict)
    symbols = None if when.symbols is None else frozenset(map(canonical, when.symbols))
    spec = Spec(venue, kind, parameters, symbols, when.at_s, when.for_s, when.every_s, when.seed)
    _check(spec)
    return spec


def _convert(kind: str, fields: Mapping[str, Any], into: type[Any], *, strict: bool) -> Any:
    for name, value in fields.items():
        if (isinstance(value, float) and not isfinite(value)) or value in ("nan", "inf", "-inf"):
            raise SettingsError(f"{name}: expected a finite number, not {value}")
    try:
        return msgspec.convert(fields, into, strict=strict)
    except msgspec.ValidationError as error:
        raise SettingsError(_reason(kind, str(error))) from None


def _reason(kind: str, error: str) -> str:
    unknown = _UNKNOWN.fullmatch(error)
    if unknown:
        takes = ", ".join((*KINDS[kind].__struct_fields__, *_COMMON))
        return f"{kind} has no parameter {unknown[1]!r}: it takes {takes}"
    field = _AT_FIELD.fullmatch(error)
    return f"{field[2]}: {field[1]}" if field else f"{kind}: {error}"


def _check(spec: Spec) -> None:
    if spec.symbols is not None and not spec.symbols:
        raise SettingsError("symbols: an empty list names none; leave it out for all")
    if spec.kind in AT_ONCE and spec.for_s is not None:
        raise SettingsError(f"for_s: {spec.kind} happens at once and does not last")
    if spec.kind in WHOLE_VENUE and spec.symbols is not None:
        raise SettingsError(f"symbols: {spec.kind} affects whole connections, not single symbols")
    if spec.every_s is not None and spec.for_s is None and spec.kind not in AT_ONCE:
        raise SettingsError(f"every_s: a recurring {spec.kind} needs for_s, as it has to end before it recurs")
