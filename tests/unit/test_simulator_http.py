"""Requests as bytes: what is read, and what is refused before anything is done with it."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from mdstream.simulator.http import MAX_BODY_BYTES, MAX_HEAD_BYTES, BadRequestError, parse_head, serialize
from mdstream.simulator.rest import Answer

POST = b"POST /faults%20x?a=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"


def test_head_is_read_when_it_is_whole() -> None:
    """Not one byte earlier; what follows is counted, not read."""
    assert all(parse_head(POST[:length]) is None for length in range(len(POST)))
    head = parse_head(POST + b"{}GET / HTTP/1.1")
    assert head is not None
    assert (head.size, head.body) == (len(POST), 2)
    assert head.request[:3] == ("POST", "/faults x", "a=1")
    assert head.request.headers == {"host": "localhost", "content-length": "2"}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00" * (MAX_HEAD_BYTES + 1), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (b"hello\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"GET / HTTP/2\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", HTTPStatus.LENGTH_REQUIRED),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (
            b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        ),
    ],
)
def test_what_is_no_request_is_refused(data: bytes, status: HTTPStatus) -> None:
    """With the status that says why."""
    with pytest.raises(BadRequestError) as refused:
        parse_head(data)
    assert refused.value.status is status


def test_answer_has_its_length_and_says_whether_the_connection_stays() -> None:
    """Own headers first."""
    answer = Answer(HTTPStatus.OK, b"[]", {"retry-after": "7"})
    assert serialize(answer, keep=True) == (
        b"HTTP/1.1 200 OK\r\nretry-after: 7\r\ncontent-type: application/json\r\n"
        b"content-length: 2\r\nconnection: keep-alive\r\n\r\n[]"
    )
    assert b"connection: close" in serialize(answer, keep=False)
