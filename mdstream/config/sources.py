"""Where settings come from: options, the environment, `.env` and `mdstream.toml`; the first that has one wins."""

from __future__ import annotations

import logging
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError

from mdstream.config import misspelt
from mdstream.config.fields import below_groups, by_group, settings_of
from mdstream.config.settings import Settings
from mdstream.errors import SettingsError
from mdstream.net.redact import scrubbed

log = logging.getLogger(__name__)

ENV_FILE, TOML_FILE = ".env", "mdstream.toml"

_SHORT = {
    "KAFKA_BOOTSTRAP_SERVERS": "bootstrap_servers",
    "NODE_CANONICAL_URL": "canonical_url",
    "MARKET_DATA_DATABASE_URL": "database_url",
}
_FIELDS = {str(field.alias): field for field in settings_of(Settings)}

NAMES = {_SHORT.get(name, name.removeprefix("MDSTREAM_").lower()): name for name in _FIELDS}
"""The name of each setting in the environment, by its name in mdstream.toml."""


def load(**given: Any) -> Settings:
    """The settings; `given` (by name in mdstream.toml, None: not given) overrides every source.

    Raises SettingsError for bad settings, naming each with its value (unless secret) and what is allowed; for a name
    close to that of a setting; for a file that cannot be read.
    """
    options = {NAMES[name]: value for name, value in given.items() if value is not None}
    try:
        settings = Settings.model_validate(by_group(Settings, _sources() | options))
    except ValidationError as error:
        raise SettingsError(f"bad settings: {'; '.join(_problem(e, options) for e in error.errors())}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{TOML_FILE} is no TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{ENV_FILE} or {TOML_FILE} is no UTF-8: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be read: {error.strerror}") from None
    settings.bootstrap_servers.security.check()
    return settings


def _sources() -> dict[str, Any]:
    """The value of each setting that is set anywhere, by its name in the environment."""
    path = Path(TOML_FILE)
    toml = tomllib.loads(path.read_text("utf-8")) if path.is_file() else {}
    environment = {**dotenv_values(ENV_FILE, encoding="utf-8"), **os.environ}
    _check_names(environment, toml)
    return {
        **{NAMES.get(key, key): value for key, value in toml.items()},
        **{key.upper(): value for key, value in environment.items() if key.upper() in _FIELDS and value is not None},
    }


def _check_names(environment: Mapping[str, object], toml: Mapping[str, object]) -> None:
    """Refuse a name close to that of a setting, and any unknown one in our own file; warn of what may be others'."""
    refused, doubtful = misspelt.in_environment(environment, _FIELDS)
    refused += [f"{TOML_FILE}: {problem}" for problem in misspelt.in_toml(toml, [*NAMES, *_FIELDS])]
    if refused:
        raise SettingsError(f"bad settings: {'; '.join(refused)}")
    if environment.get(misspelt.WARNED) != str(os.getpid()):
        for message in doubtful:
            log.warning("%s", message)


def _problem(error: Any, options: Mapping[str, Any]) -> str:
    """The setting, its value and what is wrong; the value of a secret is never shown, whatever its type."""
    place = below_groups(Settings, [str(part) for part in error["loc"]])
    if not place:  # about several settings together: the input would be all of them
        return str(error["msg"])
    name = place[0]
    value = "" if "SecretStr" in str(_FIELDS[name].annotation) else f"={scrubbed(repr(error.get('input')))}"
    if name in options:
        place[0] = next(short for short, long in NAMES.items() if long == name)
    return f"{'.'.join(place)}{value}: {error['msg']}"
