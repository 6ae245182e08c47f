"""Two core workers and the addresses they advertise: with NODE_CANONICAL_URL, and what is missing without it.

A  HTTP_HOST=0.0.0.0  ── http://127.0.0.1:PORT ──> who asks B for an instrument of A is sent there
B  HTTP_HOST=0.0.0.0  ── http://127.0.0.2:PORT
"""

from __future__ import annotations

import json
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest
from canonical import SYMBOLS, made_settings, publish, rounds
from processes import Process, Processes, free_port, wait_until

pytestmark = pytest.mark.system

A, B = "127.0.0.1", "127.0.0.2"
Pages = tuple[int, Any]


def get(url: str) -> Pages:
    """Status and JSON of a page; (0, None) where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, None


def worker(processes: Processes, env: Mapping[str, str], **settings: object) -> Process:
    """`mdstream worker`, as a container runs it: everything in the environment."""
    return processes.mdstream("worker", env={**env, **{name: str(value) for name, value in settings.items()}})


def wait_for(url: str, status: int) -> Any:
    """The page, once it is answered with that status: a table may still be filled."""
    return wait_until(lambda: [message for got, message in [get(url)] if got == status], what=f"{status} at {url}")[0]


def owned(urls: tuple[str, str]) -> list[set[str]]:
    """The instruments of which each worker itself has the price."""
    return [set((get(f"{url}/latest/?local=1")[1] or {"symbols": {}})["symbols"]) for url in urls]


def wait_until_shared(urls: tuple[str, str]) -> list[set[str]]:
    """Return when each has some of the instruments, and none has all."""

    def shared() -> bool:
        first, second = owned(urls)
        return bool(first and second) and first | second == set(SYMBOLS) and not first & second

    wait_until(shared, what=f"the workers at {urls} to share the instruments", limit_s=60)
    return owned(urls)


def test_workers_are_asked_where_they_say_they_are(processes: Processes, env: dict[str, str]) -> None:
    """Each returns every price and every page; the address of one that does not answer is in `unreachable`."""
    urls = f"http://{A}:{free_port()}", f"http://{B}:{free_port()}"
    settings = made_settings(env)
    first, second = (
        worker(processes, env, HTTP_HOST="0.0.0.0", HTTP_PORT=url.rpartition(":")[2], NODE_CANONICAL_URL=url)
        for url in urls
    )
    publish(settings, rounds(0, 3))
    wait_until_shared(urls)
    for url in urls:
        assert all(get(f"{url}/latest?symbol={symbol}")[0] == 200 for symbol in SYMBOLS)
        status, message = get(f"{url}/latest/")
        assert (status, set(message["symbols"]), message["unreachable"], message["next"]) == (
            200,
            set(SYMBOLS),
            [],
            None,
        )
        assert get(f"{url}/latest?symbol=NOSUCH")[0] == 404
        assert get(f"{url}/latest/?limit=0")[0] == 400
    seen, after = [], ""
    while after is not None:
        _, message = get(f"{urls[0]}/latest/?limit=7&after={after}")
        seen += list(message["symbols"])
        after = message["next"]
    assert seen == sorted(SYMBOLS)

    second.signal(signal.SIGSTOP)
    _, message = get(f"{urls[0]}/latest/")
    assert message["unreachable"] == [urls[1]]
    second.signal(signal.SIGCONT)
    assert "set NODE_CANONICAL_URL" not in first.output()
    assert first.stop() == 0, first.output()[-3000:]


def test_workers_that_share_an_address_say_what_they_cannot_ask(processes: Processes, env: dict[str, str]) -> None:
    """Without NODE_CANONICAL_URL each container is at http://0.0.0.0:8080: half of the prices are not passed over."""
    port = free_port()
    urls = f"http://{A}:{port}", f"http://{B}:{port}"
    settings = made_settings(env)
    workers = [
        worker(processes, env, HTTP_HOST=host, HTTP_PORT=port, NODE_CANONICAL_URL=f"http://0.0.0.0:{port}")
        for host in (A, B)
    ]
    publish(settings, rounds(0, 3))
    for url, mine in zip(urls, wait_until_shared(urls), strict=True):
        _, message = get(f"{url}/latest/")
        assert set(message["symbols"]) == mine
        (unreachable,) = message["unreachable"]
        assert re.fullmatch(r"partitions \d(, \d)*: no worker .* NODE_CANONICAL_URL", unreachable)
        for symbol in SYMBOLS:
            message = wait_for(f"{url}/latest?symbol={symbol}", 200 if symbol in mine else 503)
            assert symbol in mine or "NODE_CANONICAL_URL" in message["error"]
    for process in workers:
        assert f"set NODE_CANONICAL_URL=http://HOST:{port}" in process.output()


def test_invalid_request_leaves_no_trace(processes: Processes, env: dict[str, str]) -> None:
    """A worker greets with one line. Its pages answer nonsense with an error, and its log stays as it is."""
    port = free_port()
    process = worker(processes, env, HTTP_PORT=port)
    wait_until(lambda: get(f"http://{A}:{port}/ready")[0] == 200, what="the worker", limit_s=60)
    process.wait_for(" is up: ")
    assert len(process.output().splitlines()) == 1, process.output()
    requests = [
        b"\x16\x03\x01\x02\r\n\r\n",
        b"GET /latest?symbol=%FF%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /latest?symbol=X HTTP/1.1\r\nHost: [x:y\r\nConnection: close\r\n\r\n",
        b"GET /latest?symbol=" + b"X" * 5000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /latest/?limit=1&after=%E2%82 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /feeds?symbol=%ED%A0%80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /table/latest_trades/BTCUSDT/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /router/nosuch/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /live HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    ]
    for request in requests:
        with socket.create_connection((A, port), timeout=15) as client:
            client.sendall(request)
            answer = client.makefile("rb").readline()
        assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer) or b"after=" in request, (request, answer)
    assert process.stop() == 0
    assert "Traceback" not in process.output()
