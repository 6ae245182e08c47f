"""The worked example of docs/providers.md as a venue: a copy of the project in which its folder was added."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "providers.md"
FILES = ("feed.py", "history.py", "timed.py", "simulated.py", "simulated_rest.py")


def blocks(language: str) -> list[str]:
    """The page's code blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def project_with_tern(folder: Path) -> Path:
    """Copy the package and the conformance tests into `folder`, and add the venue as the page says."""
    for name in ("mdstream", "agents", "tests/conformance"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("topics.py", "pyproject.toml", *(f"tests/{path.name}" for path in (PROJECT / "tests").glob("*.py"))):
        shutil.copy(PROJECT / name, folder / name)
    venue = folder / "mdstream" / "venues" / "tern"
    venue.mkdir()
    (venue / "__init__.py").touch()
    for name, source in zip(FILES, blocks("python"), strict=True):
        (venue / name).write_text(source)
    (venue / "frames.jsonl").write_text(blocks("jsonl")[0])
    return folder
