"""HTTP client of the commands: calls a cloud, and turns problem documents into errors."""

import ipaddress
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, ClassVar, Self

import httpx
import typer
from pydantic import ValidationError

from cloud_service.admin_token import TOKEN_FILE, read_token
from shared.errors import RecommendationError
from shared.problems import Problem
from shared.proxies import USUAL_PORTS, proxy_for
from shared.reasons import is_refusal, reason_of_call

Url = Annotated[
    str, typer.Option(envvar="CLOUD_URL", help="Address of the cloud.", show_envvar=True)
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="CLOUD_ADMIN_TOKEN",
        help="Admin token; rather the environment than the command line, which others can read.",
        show_envvar=True,
    ),
]
TokenStore = Annotated[
    Path,
    typer.Option(
        "--store",
        envvar="CLOUD_STORE",
        help="Folder of a cloud on this machine: its admin token is used where none is given.",
    ),
]
DEFAULT_STORE = Path("store")
DEFAULT_URL = "http://127.0.0.1:8000"
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class CloudUnreachable(RecommendationError):
    """The cloud did not answer."""

    code: ClassVar[str] = "unreachable"
    title: ClassVar[str] = "The cloud does not answer"


class CloudRefused(RecommendationError):
    """The cloud answered with an error."""

    code: ClassVar[str] = "refused"
    title: ClassVar[str] = "The cloud refused"


class CloudClient:
    """Calls the API of a cloud. `hint` is added to the error if the cloud requires a token."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        transport: httpx.BaseTransport | None = None,
        *,
        hint: str = "",
    ) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            self._proxy = None if transport else proxy_for(url)
            self._http = httpx.Client(
                base_url=url,
                headers=headers,
                timeout=_TIMEOUT,
                transport=transport,
                trust_env=False,
                proxy=self._proxy.url if self._proxy else None,
                verify=ssl.create_default_context() if url.startswith("https:") else False,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise CloudUnreachable(
                f"{url} is no address, or the token no header: {error}"
            ) from None
        self._url, self._hint = url, hint

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int) -> Any:
        """Returns the JSON response of a GET. Raises CloudUnreachable or CloudRefused."""
        return self._call("GET", path, params=query)

    def post(self, path: str, body: Any = None) -> Any:
        """Posts JSON, returns the JSON response. Raises CloudUnreachable or CloudRefused."""
        return self._call("POST", path, json=body)

    def lines(self, path: str, *, follow: bool) -> Iterator[dict[str, Any]]:
        """Yields the JSON lines of a stream. Raises CloudUnreachable or CloudRefused."""
        query = {"follow": str(follow).lower()}
        timeout = httpx.Timeout(None, connect=5.0) if follow else _TIMEOUT
        with (
            self._reached(),
            self._http.stream("GET", path, params=query, timeout=timeout) as answer,
        ):
            if answer.is_error:
                answer.read()
                _raise(answer, self._hint)
            for line in answer.iter_lines():
                yield json.loads(line)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        with self._reached():
            answer = self._http.request(method, path, **options)
            if not answer.is_success:
                _raise(answer, self._hint)
            return answer.json()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            raise CloudUnreachable(self._unreachable(error)) from None
        except ValueError as error:
            raise CloudRefused(f"{self._url} does not speak like this cloud: {error}") from None

    def _unreachable(self, error: Exception) -> str:
        if self._proxy is not None:
            reason = reason_of_call(error, self._proxy.host, self._proxy.port)
            return f"no answer from {self._url} by way of the proxy {self._proxy}: {reason}"
        address = self._http.base_url
        port = address.port or USUAL_PORTS.get(address.scheme, 0)
        start = "start it with `cloud-service serve`, or " if is_refusal(error) else ""
        reason = reason_of_call(error, address.host, port)
        return f"no answer from {self._url} ({reason}): {start}name another with --url"


def admin_client(url: str, token: str | None, store: Path) -> CloudClient:
    """Returns a client with `token`, or else with the admin token of the store on this machine.

    The token of the store is sent only to this machine. Raises AdminTokenError for an unsafe token
    file, and CloudUnreachable for an invalid URL.
    """
    if token:
        return CloudClient(url, token)
    try:
        is_local = _is_local(httpx.URL(url).host)
    except httpx.InvalidURL:
        is_local = False  # CloudClient reports the invalid URL
    if not is_local:
        hint = "; set CLOUD_ADMIN_TOKEN: the token of a store here is not sent to another machine"
        return CloudClient(url, hint=hint)
    path = store / TOKEN_FILE
    try:
        store_token = read_token(store)
    except OSError as error:
        return CloudClient(url, hint=f"; {path} cannot be read: {error.strerror}")
    reason = f"what is in {path} is not its token" if store_token else f"there is no {path}"
    return CloudClient(url, store_token, hint=f"; {reason}: name the cloud's folder with --store")


def _raise(answer: httpx.Response, hint: str) -> None:
    try:
        document = Problem.model_validate_json(answer.content)
    except ValidationError:
        raise CloudRefused(f"status {answer.status_code} without an explanation") from None
    advice = hint if document.status == httpx.codes.UNAUTHORIZED else ""
    raise CloudRefused(
        f"{document.title}: {document.detail}{advice} ({document.status} {document.code})"
    )


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
