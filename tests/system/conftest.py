"""System tests are not measured: the pure core is covered by its own tests, and these run at full speed."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("no_cover")  # of pytest-cov
