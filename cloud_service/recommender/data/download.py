"""Downloads one file over HTTP: limited in size, hash checked, written whole or not at all."""

import hashlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from shared.errors import DataError, UnusableProxy
from shared.proxies import Proxy, proxy_for
from shared.whole_file import whole_file

Progress = Callable[[int, int | None], None]
"""Called with the bytes received and, if the server sent it, the total."""

_CHUNK = 1 << 16
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None,
    max_bytes: int,
    advice: str,
    progress: Progress | None = None,
) -> None:
    """Downloads `url` to `path`.

    Args:
        sha256: of the file, in hex; None: the caller checks what it holds.
        max_bytes: the download stops with an error beyond this.
        advice: what to do instead; the last clause of each error.

    Raises:
        DataError: no connection, an HTTP error, a cut or oversized answer, or another hash.
            `path` is unchanged then.
    """
    digest = hashlib.sha256()
    try:
        with whole_file(path) as file:
            for chunk in _chunks(url, max_bytes, advice, progress):
                digest.update(chunk)
                file.write(chunk)
            if sha256 not in (None, digest.hexdigest()):
                raise DataError(
                    f"{url} has the sha256 {digest.hexdigest()}, not {sha256}: it was changed or "
                    f"damaged on the way, and is not used; {advice}"
                )
    except (httpx.HTTPError, httpx.InvalidURL, UnusableProxy) as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{url} could not be downloaded ({reason}); {advice}") from error


class _ByProxy(httpx.BaseTransport):
    """Sends each request, also redirected ones, through the proxy for its address."""

    def __init__(self) -> None:
        self._certificates = ssl.create_default_context()
        self._transports: dict[Proxy | None, httpx.HTTPTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises UnusableProxy, or as httpx does."""
        proxy = proxy_for(str(request.url))
        if proxy not in self._transports:
            by = httpx.Proxy(proxy.url) if proxy else None
            self._transports[proxy] = httpx.HTTPTransport(verify=self._certificates, proxy=by)
        return self._transports[proxy].handle_request(request)

    def close(self) -> None:
        """Closes every connection."""
        for transport in self._transports.values():
            transport.close()


def _chunks(url: str, max_bytes: int, advice: str, progress: Progress | None) -> Iterator[bytes]:
    with (
        httpx.Client(transport=_ByProxy(), timeout=_TIMEOUT, follow_redirects=True) as client,
        client.stream("GET", url) as response,
    ):
        if not response.is_success:
            raise DataError(f"{url} answered {response.status_code}; {advice}")
        told = response.headers.get("content-length", "")
        total = int(told) if told.isdecimal() else None
        too_large = f"{url} is larger than the {max_bytes:,} bytes expected; {advice}"
        if total is not None and total > max_bytes:
            raise DataError(too_large)
        done = 0
        for chunk in response.iter_bytes(_CHUNK):
            done += len(chunk)
            if done > max_bytes:
                raise DataError(too_large)
            yield chunk
            if progress is not None:
                progress(done, total)
