"""What the embedded servers share: one process on 127.0.0.1 that stops with its parent, and its folder."""

from __future__ import annotations

import shutil
import signal
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from mdstream.embedded.child import Child, last_lines
from mdstream.errors import MdstreamError

FOLDER = "MDSTREAM_DATA_DIR or --data"


class EmbeddedServer(ABC):
    """A server at `port` of 127.0.0.1. Its data is in `folder`, and stays there; or else in a temporary folder, which
    survives `stop` and `kill` until `remove`."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    """The one that makes it shut down cleanly."""
    start_limit_s: ClassVar[float] = 30.0
    stop_limit_s: ClassVar[float] = 15.0

    def __init__(self, port: int, *, folder: Path | None = None) -> None:
        self.port, self._kept = port, folder
        self._folder: Path | None = None
        self._child: Child | None = None

    @abstractmethod
    def _command(self, folder: Path) -> Sequence[str | Path]:
        """Prepare the folder; its command line. Raises MdstreamError if that fails or it is not installed."""

    @abstractmethod
    def _is_up(self) -> bool:
        """Whether it answers."""

    @abstractmethod
    def _failure(self, reason: str) -> MdstreamError: ...

    def _options(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002  a hook: most need none
        """Options for its process."""
        return {}

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.status is None

    def start(self) -> None:
        """Run it and wait until it answers. Raises MdstreamError if it is not installed, its port is in use, or it
        ended."""
        is_first = self._folder is None
        folder = self._folder = self._folder or self._make_folder()
        try:
            self._child = self._run(folder)
            self._wait_until_up(self._child, folder / "log")
        except BaseException:
            self.kill()
            if is_first:
                self.remove()
            raise

    def _run(self, folder: Path) -> Child:
        try:
            return Child(self._command(folder), folder / "log", **self._options(folder))
        except OSError as error:
            raise self._failure(
                f"{error.filename} cannot be used ({error.strerror}): choose another folder ({FOLDER})"
            ) from None

    def _wait_until_up(self, child: Child, log: Path) -> None:
        if not child.wait_until(self._is_up, self.start_limit_s):
            output = " ".join(" ".join(last_lines(log, 5)).split())[-500:] or "it says nothing"
            raise self._failure(
                f"it does not start in {log.parent}: {output}: choose another port or folder ({FOLDER})"
            )

    def _make_folder(self) -> Path:
        if self._kept is None:
            return Path(tempfile.mkdtemp(prefix=f"mdstream-{self.name}-"))
        folder = self._kept.absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failure(
                f"{folder} cannot be made ({error.strerror}): choose another folder ({FOLDER})"
            ) from None
        return folder

    def stop(self) -> None:
        """Shut it down cleanly, with SIGKILL if that takes too long; `start` may be called again."""
        if self._child is not None:
            self._child.signal(self.stop_signal)
            self._child.wait(self.stop_limit_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash would; the next start recovers."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def remove(self) -> None:
        """Stop it and delete its data, unless it was given a folder."""
        self.stop()
        if self._folder is not None and self._kept is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
