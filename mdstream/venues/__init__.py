"""The venues, one folder each. Folders are discovered: removing one removes the venue.

    NAME/feed.py            Provider: names, limits and formats of the websocket feed
    NAME/history.py         History: past trades over REST
    NAME/timed.py           Timed: past bars over REST, and trades where only their times order them
    NAME/listing.py         Listing: its instruments, over REST
    NAME/simulated.py       Exchange: the feed as the simulator serves it
    NAME/simulated_rest.py  Rest: the REST interface as the simulator serves it

docs/providers.md shows how to add one. Settings can override a venue's addresses: with a proxy, a regional server, or
`mdstream simulate`; or lead to the sandboxes, as far as venues have one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from inspect import isabstract
from pkgutil import iter_modules
from typing import Any, TypeVar

from mdstream.errors import SettingsError
from mdstream.net.redact import redacted

log = logging.getLogger(__name__)


Part = TypeVar("Part")

NAMES = tuple(sorted(module.name for module in iter_modules(__path__) if module.ispkg))


SANDBOX_MODE, SANDBOX = "PROVIDERS_SANDBOX_MODE", "sandbox"


def ws_setting(venue: str) -> str:
    """The environment name of the setting that overrides the venue's websocket address."""
    return f"{venue.upper()}_WS_URL"


def rest_setting(venue: str) -> str:
    """The environment name of the setting that overrides the address of the venue's REST interface."""
    return f"{venue.upper()}_API_BASE_URL"


def address(addresses: Mapping[str, str], setting: str, *, official: str, sandbox: str | None) -> str:
    """The address of a venue: what `setting` says, else its own, or that of its sandbox if SANDBOX_MODE says so.

    Raises SettingsError if it has no sandbox.
    """
    if given := addresses.get(setting):
        return given
    if addresses.get(SANDBOX_MODE) != SANDBOX:
        return official
    if sandbox is None:
        raise SettingsError(
            f"{SANDBOX_MODE}={SANDBOX}: there is no sandbox for {setting}: set it, or leave the venue out"
        )
    return sandbox


def parts(kind: type[Part], file: str) -> dict[str, type[Part]]:
    """Every venue's class of a kind, from its `file`, by venue name.

    A venue without that file is left out. So is one whose file cannot be imported, with an error in the log: a broken
    venue does not stop the others.
    """
    found: dict[str, type[Part]] = {}
    for name in NAMES:
        module_name = f"{__name__}.{name}.{file}"
        try:
            module = import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name != module_name:
                log.exception("venue %s is left out", name)
            continue
        except Exception:
            log.exception("venue %s is left out", name)
            continue
        classes = (each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module_name)
        own = [each for each in classes if issubclass(each, kind) and not isabstract(each)]
        if not own:
            log.error("venue %s is left out: %s has no %s", name, module_name, kind.__name__)
        found.update((name, each) for each in own)
    return found


def of_library(name: str, extra: str, address: str) -> Any:
    """An object of the class `name`, as MODULE.CLASS, made with an address. Its module imports a client library.

    Raises SettingsError if that is not installed: it comes with the `extra` of this package.
    """
    module, _, of = name.rpartition(".")
    try:
        return getattr(import_module(module), of)(address)
    except ModuleNotFoundError as error:
        missing = f"the Python package {error.name} is not installed: pip install 'mdstream[{extra}]'"
        raise SettingsError(f"{redacted(address)!r}: {missing}") from None
