"""The libraries that only some users need, imported when they are asked for."""

from __future__ import annotations

import importlib
from typing import Any

from mdstream.errors import SettingsError


def needed(name: str, extra: str) -> Any:
    """The module. Raises SettingsError that says how to install it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SettingsError(f"this needs {error.name}: pip install 'mdstream[{extra}]'") from None
