"""The simulator's control endpoint.

GET /status                 counts and active faults
POST /pause, /resume        stop and resume market data; connections, pings and heartbeats stay
GET /faults                 waiting, active and recently ended faults
POST /faults                a new fault, as a JSON object
GET, DELETE /faults/{id}    show or end one fault
DELETE /faults              end all of them
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from mdstream.errors import SettingsError
from mdstream.simulator.faults.kinds import from_json
from mdstream.simulator.http import Request, json_answer
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

    def answer(self, request: Request) -> Answer:
        """The answer to any request."""
        path = request.path.rstrip("/")
        if path == "/faults":
            return self._faults(request)
        if path.startswith("/faults/"):
            return self._fault(request.method, path.removeprefix("/faults/"))
        match request.method, path:
            case "GET", "/status":
                pass
            case "POST", "/pause":
                self._production.paused = True
            case "POST", "/resume":
                self._production.paused = False
            case _, "/status" | "/pause" | "/resume":
                return _error(HTTPStatus.METHOD_NOT_ALLOWED, PATHS)
            case _:
                return _error(HTTPStatus.NOT_FOUND, f"nothing is at {request.path}; there are {PATHS}")
        return json_answer(HTTPStatus.OK, self._status())

    def _faults(self, request: Request) -> Answer:
        faults = self._injection.faults
        match request.method:
            case "POST":
                try:
                    fault = self._injection.add(from_json(request.body), self._now_ns())
                except SettingsError as error:
                    return _error(HTTPStatus.BAD_REQUEST, str(error))
                self._injection.turn(self._now_ns())  # so that an immediate fault is active before the answer
                return json_answer(HTTPStatus.CREATED, fault.describe())
            case "DELETE":
                for fault in faults.all():
                    self._injection.end(fault, self._now_ns())
            case "GET":
                pass
            case _:
                return _error(HTTPStatus.METHOD_NOT_ALLOWED, PATHS)
        return json_answer(HTTPStatus.OK, {"faults": [fault.describe() for fault in faults.all()]})

    def _fault(self, method: str, fault_id: str) -> Answer:
        fault = self._injection.faults.get(fault_id)
        if fault is None:
            return _error(HTTPStatus.NOT_FOUND, f"there is no fault {fault_id[:40]!r}: GET /faults lists them")
        if method == "DELETE":
            self._injection.end(fault, self._now_ns())
        elif method != "GET":
            return _error(HTTPStatus.METHOD_NOT_ALLOWED, PATHS)
        return json_answer(HTTPStatus.OK, fault.describe())


def _error(status: HTTPStatus, reason: str) -> Answer:
    return json_answer(status, {"error": reason})
