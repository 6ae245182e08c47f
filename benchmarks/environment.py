"""The contenders' own virtual environment, .bench/, separate from mdstream's packages."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from processes import PROJECT

from benchmarks.measure import BenchmarkError, last_words

FOLDER = PROJECT / ".bench"
PYTHON = FOLDER / "bin" / "python"
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
WORK_NEEDS = ("msgspec",)
"""What peers/work.py imports."""
BINARY_ONLY = "bytewax,confluent-kafka,msgspec,rocksdict"
"""Built from source these need a compiler or a foreign library: without a wheel they are not available."""


def pins(requirements: str) -> dict[str, str]:
    """Package to its exact version, of lines like `bytewax==0.21.1`."""
    lines = (line.partition("#")[0].strip() for line in requirements.splitlines())
    return {name: version for name, _, version in (line.partition("==") for line in lines if "==" in line)}


def install(packages: Sequence[str]) -> None:
    """Install `packages` and their dependencies into .bench/, in the pinned versions; done once.

    Raises BenchmarkError with pip's reason if that fails.
    """
    text = REQUIREMENTS.read_text()
    stamp = hashlib.sha256(f"{text}{sys.version}{packages}".encode()).hexdigest()[:16]
    done = FOLDER / f".has-{stamp}"
    if done.exists():
        return
    _create()
    wanted = [f"{package}=={version}" for package, version in pins(text).items() if package in packages]
    _pip("install", "--constraint", REQUIREMENTS, "--only-binary", BINARY_ONLY, *wanted)
    done.touch()


def _create() -> None:
    """An empty environment of this Python, unless it exists; a half-made one is made again."""
    made = FOLDER / f".python-{platform.python_version()}"
    if not made.exists():
        venv.create(FOLDER, with_pip=True, clear=True)
        made.touch()


def _pip(*args: object) -> None:
    command = [PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", *args]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if ended.returncode:
        raise BenchmarkError(f"cannot be installed on Python {platform.python_version()}: {last_words(ended.stderr)}")
