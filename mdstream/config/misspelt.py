"""Misspelt settings: found at start-up, and reported with the name that was probably meant.

MDSTREAM_PARTITONS=16 would otherwise silently create topics with eight partitions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

PREFIX = "MDSTREAM_"
WARNED = "MDSTREAM_WARNED"
"""The id of the process that logged the warnings: `mdstream worker` becomes Faust, which loads the settings again."""
OTHERS = frozenset({"MDSTREAM_DB_PASSWORD", "MDSTREAM_DB_PORT", "MDSTREAM_FRAMES", WARNED})
"""Names with our prefix that are no settings: those of the compose file and of the tests, and WARNED."""
TESTS = "MDSTREAM_TEST_"
ELSEWHERE = {
    "IBKR_HTTP_SANDBOX_URL": "Interactive Brokers is read through TWS or IB Gateway, not HTTP: for a paper account set "
    "IBKR_HOST and IBKR_PORT to a gateway that is logged in to it, like 127.0.0.1 and 4002"
}
"""Settings of other programs for what we read, too, and what to set for us."""
NEAR = 0.8
"""Similarity (0 to 1) from which a name counts as a misspelling of another."""
NEAR_WHOLE = 0.9
"""The same, where the prefix that both have is compared too: NATS_USER is no misspelt NATS_URL."""


def in_environment(found: Iterable[str], known: Iterable[str]) -> tuple[list[str], list[str]]:
    """Messages about unknown names in the environment: what is refused, and what is only warned of.

    Others may use our prefix (Kubernetes sets MDSTREAM_CORE_PORT in every pod beside a service mdstream-core), and the
    prefixes of names that users know from elsewhere: KAFKA_BOOTSTRAP_SERVER may well be another program's.
    """
    known, names = list(known), list(found)
    by_name = {name.removeprefix(PREFIX): name for name in known}
    expected = {*known, *OTHERS}
    prefixed = sorted(name for name in names if name.upper().startswith(PREFIX) and not name.startswith(TESTS))
    unknown = [name for name in prefixed if name.upper() not in expected]
    meant = {name: _nearest(name.upper().removeprefix(PREFIX), by_name) for name in unknown}
    refused = [f"{name} is no setting: did you mean {by_name[near]}?" for name, near in meant.items() if near]
    idle = [f"{name} is not a setting of mdstream: it has no effect" for name, near in meant.items() if not near]
    idle += [f"{name} has no effect: {ELSEWHERE[name.upper()]}" for name in sorted(names) if name.upper() in ELSEWHERE]
    return refused, idle + _of_other_families(known, names)


def _of_other_families(known: list[str], names: Iterable[str]) -> list[str]:
    """Warnings about names that begin like settings without our prefix (KAFKA_, NATS_), and nearly are one."""
    families = {_family(name) for name in known if not name.startswith(PREFIX)}
    others = (name for name in sorted(names) if _family(name.upper()) in families and name.upper() not in known)
    meant = {name: _nearest(name.upper(), known, NEAR_WHOLE) for name in others}
    return [f"{name} has no effect: did you mean {near}?" for name, near in meant.items() if near]


def _family(name: str) -> str:
    return name.partition("_")[0]


def in_toml(found: Iterable[str], known: Collection[str]) -> list[str]:
    """Messages about the keys of mdstream.toml that are no settings: the file is ours alone."""
    meant = {key: _nearest(key, known) for key in found if key not in known}
    advice = {key: f": did you mean {near}?" if near else "" for key, near in meant.items()}
    advice |= {key: f": {ELSEWHERE[key.upper()]}" for key in meant if key.upper() in ELSEWHERE}
    return [f"{key} is no setting{what}" for key, what in advice.items()]


def _nearest(name: str, known: Iterable[str], near: float = NEAR) -> str | None:
    return next(iter(get_close_matches(name, list(known), 1, near)), None)
