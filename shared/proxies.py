"""Finds the proxy that the environment sets for an address: one rule for all clients of the cloud.

The rule is that of curl and httpx: HTTP_PROXY for http:// addresses, HTTPS_PROXY for https://,
otherwise ALL_PROXY; the lower-case variable comes first. NO_PROXY lists hosts, domains, addresses
and networks that need no proxy. This machine never needs one.
"""

import base64
import ipaddress
import os
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from shared.errors import UnusableProxy
from shared.reasons import host_and_port

USUAL_PORTS = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    """An HTTP proxy, and the environment variable that sets it."""

    host: str
    port: int
    variable: str
    user: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        """The proxy without its password, for messages."""
        return f"http://{host_and_port(self.host, self.port)} ({self.variable})"

    def __repr__(self) -> str:
        """As `str`, so that a repr in a log shows no password."""
        return f"<Proxy {self}>"

    @property
    def url(self) -> str:
        """The URL for httpx, with user and password if there are any. Not for messages."""
        user = ""
        if self.user is not None:
            user = f"{quote(self.user, safe='')}:{quote(self.password or '', safe='')}@"
        return f"http://{user}{host_and_port(self.host, self.port)}"

    @property
    def authorization(self) -> str | None:
        """The value of the Proxy-Authorization header. A secret."""
        if self.user is None:
            return None
        pair = f"{self.user}:{self.password or ''}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def proxy_for(url: str, environment: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy for requests to `url`; None if there is none.

    Raises UnusableProxy if the environment sets something other than an http:// proxy, and
    ValueError if `url` is invalid.
    """
    variables = os.environ if environment is None else environment
    address = urlsplit(url)
    host = (address.hostname or "").rstrip(".")
    port = address.port or USUAL_PORTS.get(address.scheme, 0)
    if not host or _is_this_machine(host):
        return None
    value, variable = _proxy_setting(address.scheme, variables)
    if not value or _is_excepted(host, port, _variable("no_proxy", variables)[0]):
        return None
    return _parse_proxy(value, variable, host)


def _proxy_setting(scheme: str, variables: Mapping[str, str]) -> tuple[str, str]:
    """The proxy that the environment sets for `scheme`, and the variable; both empty if none."""
    value, variable = _variable(f"{scheme}_proxy", variables)
    # A web server's CGI turns a caller's `Proxy:` header into HTTP_PROXY.
    if variable == "HTTP_PROXY" and "REQUEST_METHOD" in variables:
        value = ""
    return (value, variable) if value else _variable("all_proxy", variables)


def _variable(name: str, variables: Mapping[str, str]) -> tuple[str, str]:
    for variable in (name, name.upper()):
        if value := variables.get(variable, "").strip():
            return value, variable
    return "", ""


def _parse_proxy(value: str, variable: str, host: str) -> Proxy:
    without = f"set NO_PROXY={host} to go without it"
    try:
        address = urlsplit(value if "://" in value else f"http://{value}")
        port = address.port or 80
        proxy_host = (address.hostname or "").encode("idna").decode("ascii")
    except ValueError:
        proxy_host = ""
    if not proxy_host:
        raise UnusableProxy(
            f"{variable} does not hold the address of a proxy: name it as http://host:port, or "
            f"{without}"
        )
    if address.scheme != "http":
        raise UnusableProxy(
            f"{variable} names the proxy {address.scheme}://{_address_text(address)}, and only "
            f"http:// proxies can be gone by: name one, or {without}"
        )
    user = None if address.username is None else unquote(address.username)
    password = None if address.password is None else unquote(address.password)
    return Proxy(proxy_host, port, variable, user, password)


def _address_text(address: SplitResult) -> str:
    host = address.hostname or ""
    return host_and_port(host, address.port) if address.port else host


def _is_this_machine(host: str) -> bool:
    if (address := _ip_address(host)) is not None:
        return address.is_loopback or address.is_unspecified
    lower = host.lower()
    if lower == "localhost" or lower.endswith(".localhost"):
        return True
    return lower == socket.gethostname().lower()


def _is_excepted(host: str, port: int, listed: str) -> bool:
    return any(_matches(entry, host.lower(), port) for entry in listed.replace(",", " ").split())


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY covers this host and port."""
    entry = entry.rpartition("://")[2].lower()
    if entry == "*":
        return True
    name, entry_port = _split_port(entry)
    if entry_port is not None and entry_port != port:
        return False
    if (address := _ip_address(host)) is not None:
        try:
            network = ipaddress.ip_network(name, strict=False)
        except ValueError:
            return False
        return address.version == network.version and address in network
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    """Splits `host:port`, `[::1]:port`, `[::1]`, `::1` or `10.0.0.0/8` into host and port."""
    if entry.startswith("["):
        name, _, suffix = entry[1:].partition("]")
        port = suffix.removeprefix(":")
        if suffix.startswith("/"):  # a network whose address is in brackets
            return name + suffix, None
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        return entry, None
    return name, int(port) if port.isascii() and port.isdigit() else None


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
