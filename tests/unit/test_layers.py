"""The layers: the pure core does no I/O and has no clock, and agents know nothing of one another.

    agents ──> mdstream.stream, mdstream.venues ──> mdstream.events, mdstream.ticks        never the other way

Read from the source with `ast`, so that an import inside a function counts too.
"""

from __future__ import annotations

import ast
import importlib
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

IO_LIBRARIES = frozenset(
    {
        "aiohttp", "aiokafka", "asyncio", "concurrent", "dotenv", "faust", "http", "logging", "mode", "multiprocessing",
        "nats", "os", "pathlib", "psycopg", "random", "requests", "rich", "secrets", "selectors", "shutil",
        "signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib.request",
        "uvloop", "websockets",
    }
)  # fmt: skip
SHELLS = frozenset(
    {
        "mdstream.app", "mdstream.broker", "mdstream.cli", "mdstream.client", "mdstream.config", "mdstream.db",
        "mdstream.demo", "mdstream.embedded", "mdstream.http", "mdstream.ingest", "mdstream.kafka", "mdstream.rest",
        "mdstream.roles", "mdstream.run", "mdstream.simulator", "mdstream.sinks", "mdstream.tools", "mdstream.web",
        "agents", "topics",
    }
)  # fmt: skip
"""Our own modules that do I/O, read settings or wire things up."""

COVERED = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["coverage"]["run"]
"""The files that `make test` measures: the pure core."""
PURE = sorted(
    path
    for pattern in COVERED["include"]
    for path in PROJECT.glob(pattern)
    if str(path.relative_to(PROJECT)) not in COVERED["omit"]
)
LEAVES = [
    PROJECT / f"mdstream/{name}.py" for name in ("errors", "events", "ticks", "instruments", "records", "repairs")
]
SOURCE = sorted([*PROJECT.glob("mdstream/**/*.py"), *PROJECT.glob("agents/*.py"), PROJECT / "topics.py"])
AGENTS = sorted(PROJECT.glob("agents/*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def imports(path: Path, *, nested: bool = True) -> Iterator[str]:
    """Every module that a file imports, in full; a package's members as modules, as they may be.

    `nested`: also where it is not executed when the file is imported, as in a function.
    """
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, packages: frozenset[str]) -> bool:
    """Whether a module is one of the packages or inside one."""
    parts = module.split(".")
    return any(".".join(parts[:length]) in packages for length in range(1, len(parts) + 1))


def test_the_checked_files_exist() -> None:
    """A folder that was renamed must not make the rules below hold for nothing."""
    names = {name_of(path) for path in PURE}
    assert {
        "mdstream/venues/binance/feed.py",
        "mdstream/repair/repair.py",
        "mdstream/stream/canonical.py",
        "mdstream/events.py",
    } <= names
    assert all(path.exists() for path in LEAVES)
    assert len(AGENTS) > 1


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_pure_core_is_measured(path: Path) -> None:
    """Coverage counts only what was imported: a module that no test uses would be missing without a word."""
    importlib.import_module(name_of(path).removesuffix(".py").replace("/", "."))


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_pure_core_imports_no_io_library(path: Path) -> None:
    """It takes values and gives values: whoever tests it needs no loop, no clock and no server."""
    assert [module for module in imports(path) if within(module, IO_LIBRARIES)] == []


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_pure_core_imports_no_shell(path: Path) -> None:
    """Shells import the core, never the reverse."""
    assert [module for module in imports(path) if within(module, SHELLS)] == []


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_pure_core_neither_waits_nor_opens(path: Path) -> None:
    """No coroutine, no file, nothing printed."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "exec", "eval", "__import__"}, node.lineno


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_pure_core_does_not_ask_what_time_it_is(path: Path) -> None:
    """Time comes with the event, or as an argument."""
    nodes = ast.walk(ast.parse(path.read_text()))
    called = {node.func.attr for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
    assert called.isdisjoint({"now", "utcnow", "today", "monotonic", "time_ns", "perf_counter"})


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_leaves_import_only_leaves(path: Path) -> None:
    """Anyone may import them: they bring nothing along."""
    leaves = frozenset(f"mdstream.{leaf.stem}" for leaf in LEAVES)
    own = [module for module in imports(path) if module.split(".")[0] in {"mdstream", "agents", "topics"}]
    assert [module for module in own if not within(module, leaves)] == []


@pytest.mark.parametrize("path", AGENTS, ids=name_of)
def test_agents_never_import_each_other(path: Path) -> None:
    """They speak through topics: each can be read, run and replaced alone."""
    assert [module for module in imports(path) if within(module, frozenset({"agents"}))] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """At import time: then any module can be imported first, and a type needed in both directions has a module."""
    modules = {name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in SOURCE}
    above = {name: list(imports(path, nested=False)) for name, path in modules.items()}
    graph = {name: {m if m in modules else m.rpartition(".")[0] for m in above[name]} for name in modules}
    list(TopologicalSorter(graph).static_order())  # CycleError names the modules
