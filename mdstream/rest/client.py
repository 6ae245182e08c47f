"""HTTP client of one venue: a target in, an Answer or RetryableError out. Never raises for network errors."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from mdstream.errors import SettingsError
from mdstream.net.redact import MASK, redacted, scrubbed
from mdstream.venues.rest import OK, Answer, RetryableError

MAX_BODY_BYTES = 32 << 20
"""A page of a thousand trades has 200 KB, the longest list of instruments a few MB."""
TIMEOUT = ClientTimeout(total=30, sock_connect=10, sock_read=15)
HEADERS = {"User-Agent": "mdstream", "Accept": "application/json"}


def new_session() -> ClientSession:
    """A session to be closed by the caller; it goes through the proxy that HTTPS_PROXY names, if any."""
    return ClientSession(timeout=TIMEOUT, headers=HEADERS, trust_env=True)


class Client:
    """Queries the REST interface at `base_url`, with these headers, which may have a key: they are in no message, also
    where the venue quotes them in an error.

    Raises SettingsError if that is not an HTTP address.
    """

    def __init__(
        self, session: ClientSession, base_url: str, *, variable: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._session, self._base_url, self._shown = session, base_url, redacted(base_url)
        self._headers = headers or {}
        self._keys = [value.split()[-1].encode() for value in self._headers.values() if value.strip()]
        try:
            url = URL(base_url)
            usable = url.scheme in ("http", "https") and bool(url.host)
        except ValueError:
            usable = False
        if not usable:
            raise SettingsError(f"{variable}={self._shown!r}: expected an address like https://api.example.com")

    async def get(self, target: str) -> Answer | RetryableError:
        """The answer to path and query `target`."""
        try:
            url, follows = URL(self._base_url + target), not self._headers  # a key goes to no other address
            async with self._session.get(url, headers=self._headers, allow_redirects=follows) as response:
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        return RetryableError(f"an answer of more than {MAX_BODY_BYTES:,} bytes")
                if response.status != OK:  # it may quote what was sent
                    for key in self._keys:
                        body = body.replace(key, MASK.encode())
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, headers, bytes(body))
        except TimeoutError:
            return RetryableError(f"no answer from {self._shown} in time")
        except (ClientError, OSError, ValueError) as error:  # ValueError: a redirect to an invalid address
            return RetryableError(f"{self._shown} cannot be reached: {scrubbed(str(error)) or type(error).__name__}")
