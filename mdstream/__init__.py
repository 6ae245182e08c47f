"""mdstream: raw exchange frames in, one clean stream of trades and quotes out.

`faust -A mdstream worker` finds `app` here. It is built on first access, so that importing mdstream stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import faust

__all__ = ["__version__", "app"]

__version__ = "0.1.0"

app: faust.App


def __getattr__(name: str) -> Any:
    if name == "app":
        from mdstream.app import build
        from mdstream.errors import SettingsError

        try:
            built = globals()["app"] = build()
        except SettingsError as error:  # the operator's to fix: one line, no traceback
            raise SystemExit(f"mdstream: {error}") from None
        return built
    raise AttributeError(f"module 'mdstream' has no attribute {name!r}")
