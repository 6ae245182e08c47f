"""The simulator's control endpoint.

GET /status                 counts and active faults
POST /pause, /resume        stop and resume market data; connections, pings and heartbeats stay
GET /faults                 waiting, active and recently ended faults
POST /faults                a new fault, as a JSON object
GET, DELETE /faults/{id}    show or end one fault
DELETE /faults              end all of them
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from mdstream.errors import SettingsError
from mdstream.simulator.faults.kinds import from_json
from mdstream.simulator.injection import Injection
from mdstream.simulator.production import Production
from mdstream.simulator.rest import Answer

PATHS = "GET /status, POST /pause, POST /resume, GET POST DELETE /faults, GET DELETE /faults/{id}"


class Control:
    """Answers requests that are not for a venue. `status` returns the counts."""

    def __init__(
        self,
        injection: Injection,
        production: Production,
        status: Callable[[], dict[str, Any]],
        now_ns: Callable[[], int],
    ) -> None:
        self._injection, self._production = injection, production
        self._status, self._now_ns = status, now_ns

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """The answer to any request."""
        path = path.rstrip("/")
        if path == "/faults":
            return self._faults(method, body)
        if path.startswith("/faults/"):
            return self._fault(method, path.removeprefix("/faults/"))
        match method, path:
            case "GET", "/status":
                pass
            case "POST", "/pause":
                self._production.paused = True
            case "POST", "/resume":
                self._production.paused = False
            case _, "/status" | "/pause" | "/resume":
                return error(HTTPStatus.METHOD_NOT_ALLOWED, PATHS)
            case _:
                return error(HTTPStatus.NOT_FOUND, f"nothing is at {path or '/'}; there are {PATHS}")
        return _json(HTTPStatus.OK, self._status())

    def _faults(self, method: str, body: bytes) -> Answer:
        faults = self._injection.faults
        match method:
            case "POST":
                try:
                    fault = self._injection.add(from_json(body), self._now_ns())
                except SettingsError as refused:
                    return error(HTTPStatus.BAD_REQUEST, str(refused))
                self._injection.turn(self._now_ns())  # so that an immediate fault is active before the answer
                return _json(HTTPStatus.CREATED, fault.describe())
            case "DELETE":
                for fault in faults.all():
                    self._injection.end(fault, self._now_ns())
            case "GET":
                pass
            case _:
                return error(HTTPStatus.METHOD_NOT_ALLOWED, PATHS)
        return _json(HTTPStatus.OK, {"faults": [fault.describe() for fault in faults.all()]})

    def _fault(self, method: str, fault_id: str) -> Answer:
        fault = self._injection.faults.get(fault_id)
        if fault is None:
            return error(HTTPStatus.NOT_FOUND, f"there is no fault {fault_id[:40]!r}: GET /faults lists them")
        if method == "DELETE":
            self._injection.end(fault, self._now_ns())
        elif method != "GET":
            return error(HTTPStatus.METHOD_NOT_ALLOWED, PATHS)
        return _json(HTTPStatus.OK, fault.describe())


def error(status: HTTPStatus, reason: str) -> Answer:
    """An answer that says what is wrong."""
    return _json(status, {"error": reason})


def _json(status: HTTPStatus, content: Any) -> Answer:
    """JSON with a final line break, for terminals."""
    return Answer(status, (json.dumps(content) + "\n").encode())
