"""Misspelt settings: found at start-up, and reported with the name that was probably meant.

MDSTREAM_PARTITONS=16 would otherwise silently create topics with eight partitions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

PREFIX = "MDSTREAM_"
OTHERS = frozenset({"MDSTREAM_DB_PASSWORD", "MDSTREAM_DB_PORT", "MDSTREAM_FRAMES"})
"""Names with our prefix that our processes do not read: those of the compose file and of the tests."""
TESTS = "MDSTREAM_TEST_"
NEAR = 0.8
"""Similarity (0 to 1) from which a name counts as a misspelling of another."""


def in_environment(found: Iterable[str], known: Iterable[str]) -> tuple[list[str], list[str]]:
    """Unknown names with our prefix in the environment: messages about misspelt ones; the other names.

    Others may use the prefix: Kubernetes sets MDSTREAM_CORE_PORT in every pod beside a service mdstream-core.
    """
    names = {name.removeprefix(PREFIX): name for name in known}
    expected = {*names.values(), *OTHERS}
    ours = sorted(name for name in found if name.upper().startswith(PREFIX) and not name.startswith(TESTS))
    strange = [name for name in ours if name.upper() not in expected]
    meant = {name: _nearest(name.upper().removeprefix(PREFIX), names) for name in strange}
    refused = [f"{name} is no setting: did you mean {names[near]}?" for name, near in meant.items() if near]
    return refused, [name for name, near in meant.items() if not near]


def in_toml(found: Iterable[str], known: Collection[str]) -> list[str]:
    """Messages about the keys of mdstream.toml that are no settings: the file is ours alone."""
    meant = {key: _nearest(key, known) for key in found if key not in known}
    return [f"{key} is no setting" + (f": did you mean {near}?" if near else "") for key, near in meant.items()]


def _nearest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(get_close_matches(name, list(known), 1, NEAR)), None)
