"""Misspelt settings: found at start-up, and reported with the name that was probably meant.

MDSTREAM_PARTITONS=16 would otherwise silently create topics with eight partitions.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from dotenv import dotenv_values

PREFIX = "MDSTREAM_"
OTHERS = frozenset({"MDSTREAM_DB_PASSWORD", "MDSTREAM_DB_PORT", "MDSTREAM_FRAMES"})
"""Names with our prefix that our processes do not read: those of the compose file and of the tests."""
TESTS = "MDSTREAM_TEST_"
NEAR = 0.8
"""Similarity (0 to 1) from which a name counts as a misspelling of another."""


def in_environment(known: Iterable[str], env_file: str) -> tuple[list[str], list[str]]:
    """Unknown names with our prefix in the environment and the file: messages about misspelt ones; the other names.

    Others may use the prefix: Kubernetes sets MDSTREAM_CORE_PORT in every pod beside a service mdstream-core.
    """
    names = {name.removeprefix(PREFIX): name for name in known}
    found = sorted(name for name in {*dotenv_values(env_file), *os.environ} if name.upper().startswith(PREFIX))
    strange = [name for name in found if name.upper() not in {*names.values(), *OTHERS} and not name.startswith(TESTS)]
    meant = {name: _nearest(name.upper().removeprefix(PREFIX), names) for name in strange}
    refused = [f"{name} is no setting: did you mean {names[near]}?" for name, near in meant.items() if near]
    return refused, [name for name, near in meant.items() if not near]


def in_toml(known: Iterable[str], toml_file: str) -> list[str]:
    """Messages about the file's keys that are no settings: the file is ours alone. Raises tomllib.TOMLDecodeError."""
    path, known = Path(toml_file), list(known)
    keys = tomllib.loads(path.read_text("utf-8")) if path.is_file() else {}
    meant = {key: _nearest(key, known) for key in keys if key not in known}
    return [
        f"{toml_file}: {key} is no setting" + (f": did you mean {near}?" if near else "") for key, near in meant.items()
    ]


def _nearest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(get_close_matches(name, list(known), 1, NEAR)), None)
