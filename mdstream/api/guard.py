"""Keys over HTTP: `Authorization: Bearer KEY`, asked for before a request is read any further (keys.py)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import FastAPI, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from mdstream.api.keys import Keys
from mdstream.api.routes import refused
from mdstream.api.webhook import Refusal

BEARER = HTTPBearer(auto_error=False, description="a key whose SHA-256 is in MDSTREAM_API_KEYS")
Given = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


class _Refused(Exception):  # noqa: N818  an answer that FastAPI lets no dependency return
    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


def guard_of(app: FastAPI, keys: Keys) -> Callable[[Given], Awaitable[None]]:
    """A dependency for the routes of an application that need a key."""

    async def admit(given: Given) -> None:
        refusal = keys.admit(given.credentials if given else "", time.monotonic())
        if refusal is not None:
            raise _Refused(refusal)

    async def answer(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, _Refused)  # its only one
        return refused(error.refusal)

    app.add_exception_handler(_Refused, answer)
    return admit
