"""Run by Alembic for each of its commands: connects, and upgrades or downgrades in one transaction.

`mdstream db ...` passes the settings in `attributes`; for `alembic` in infra/ they are read here, from the folder that
alembic.ini names, and failures become Alembic's own, which are one line too.
"""

from __future__ import annotations

import contextlib
import logging

from alembic import context
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection

from mdstream import config as mdstream_config
from mdstream.cli import set_up_logging
from mdstream.config import Settings
from mdstream.db import schema, timescale
from mdstream.db.connection import judge
from mdstream.db.engine import place_of, transaction
from mdstream.errors import MdstreamError

log = logging.getLogger("mdstream.db")

ORDER = (None, *schema.REVISIONS)


def run(settings: Settings) -> None:
    """Run Alembic's command; after an upgrade, apply the TimescaleDB settings."""
    with transaction(settings) as connection:
        before = revision_of(connection)
        if before not in ORDER:
            judge(before, place_of(connection))  # raises: only a newer mdstream knows it
        context.configure(connection=connection, version_table=schema.VERSION_TABLE)
        with context.begin_transaction():
            context.run_migrations()
        after = revision_of(connection)
        if ORDER.index(after) > ORDER.index(before) or context.config.attributes.get("settle"):
            timescale.settle(connection, settings)
    if after != before:  # and committed: a failure has changed nothing
        log.info("schema %s, it was %s", after or "none", before or "none")


def revision_of(connection: Connection) -> str | None:
    """The schema's revision, None if there is none."""
    options = {"version_table": schema.VERSION_TABLE}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def run_for_alembic() -> None:
    """As `run`, for the `alembic` command."""
    set_up_logging()
    try:
        with contextlib.chdir(context.config.get_main_option("settings_folder", ".")):
            settings = mdstream_config.load()
        run(settings)
    except MdstreamError as error:
        raise CommandError(str(error)) from error


if context.is_offline_mode():
    raise CommandError("the migrations inspect the existing tables, so --sql is not available: leave it out")
if given := context.config.attributes.get("settings"):
    run(given)
else:
    run_for_alembic()
