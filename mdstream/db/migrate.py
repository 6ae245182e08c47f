"""Schema upgrades and downgrades with Alembic, for any installation; infra/alembic.ini is for checkouts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from mdstream.config import Settings
from mdstream.errors import SettingsError

MIGRATIONS = Path(__file__).parent / "migrations"


class Revision(NamedTuple):
    """A revision of the schema, and the first line of its docstring."""

    name: str
    text: str


def upgrade(settings: Settings) -> None:
    """Bring the tables to the newest revision, and TimescaleDB's policies to the settings; or change nothing.

    Raises SettingsError, DatabaseError.
    """
    command.upgrade(_config(settings, settle=True), "head")


def downgrade(settings: Settings, revision: str) -> None:
    """Go back to an older revision, `base` for none; what only the newer one has is lost.

    Raises SettingsError if there is no such revision, DatabaseError.
    """
    try:
        command.downgrade(_config(settings), revision)
    except CommandError as error:
        known = ", ".join(found.name for found in history())
        raise SettingsError(f"REVISION={revision!r}: {error}; expected base or one of {known}") from error


def history() -> list[Revision]:
    """Every revision so far, oldest first."""
    scripts = ScriptDirectory.from_config(_config(None)).walk_revisions()
    return [Revision(script.revision, script.doc) for script in reversed(list(scripts))]


def _config(settings: Settings | None, *, settle: bool = False) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes.update(settings=settings, settle=settle)
    return config
