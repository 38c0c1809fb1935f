"""Which proxy the environment names for an address: one rule for every client of the cloud.

As curl and httpx read it: HTTP_PROXY for http:// addresses, HTTPS_PROXY for https://, else
ALL_PROXY, in lower case first; NO_PROXY lists hosts, domains, addresses and networks that are
reached without one. This machine is always reached without one.
"""

import base64
import ipaddress
import os
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from shared.errors import UnusableProxy
from shared.reasons import named

USUAL_PORTS = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    """An HTTP proxy, and the variable that names it."""

    host: str
    port: int
    variable: str
    user: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        """For messages: without its password."""
        return f"http://{named(self.host, self.port)} ({self.variable})"

    def __repr__(self) -> str:
        """As `str`: a password gets into no log by way of a repr."""
        return f"<Proxy {self}>"

    @property
    def url(self) -> str:
        """For httpx, with user and password where there are any: not for messages."""
        user = ""
        if self.user is not None:
            user = f"{quote(self.user, safe='')}:{quote(self.password or '', safe='')}@"
        return f"http://{user}{named(self.host, self.port)}"

    @property
    def authorization(self) -> str | None:
        """The value of Proxy-Authorization; a secret."""
        if self.user is None:
            return None
        pair = f"{self.user}:{self.password or ''}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def proxy_for(url: str, environment: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy by which `url` is reached; None: directly.

    Raises UnusableProxy where the environment names one that is no http:// proxy, ValueError where
    `url` is no address.
    """
    variables = os.environ if environment is None else environment
    address = urlsplit(url)
    host = (address.hostname or "").rstrip(".")
    port = address.port or USUAL_PORTS.get(address.scheme, 0)
    if not host or _is_this_machine(host):
        return None
    value, variable = _named(address.scheme, variables)
    if not value or _is_excepted(host, port, _read("no_proxy", variables)[0]):
        return None
    return _parsed(value, variable, host)


def _named(scheme: str, variables: Mapping[str, str]) -> tuple[str, str]:
    """What the environment says for `scheme`, and in which variable; empty without."""
    value, variable = _read(f"{scheme}_proxy", variables)
    # A web server's CGI turns a caller's `Proxy:` header into HTTP_PROXY.
    if variable == "HTTP_PROXY" and "REQUEST_METHOD" in variables:
        value = ""
    return (value, variable) if value else _read("all_proxy", variables)


def _read(name: str, variables: Mapping[str, str]) -> tuple[str, str]:
    for variable in (name, name.upper()):
        if value := variables.get(variable, "").strip():
            return value, variable
    return "", ""


def _parsed(value: str, variable: str, host: str) -> Proxy:
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
            f"{variable} names the proxy {address.scheme}://{_host_and_port(address)}, and only "
            f"http:// proxies can be gone by: name one, or {without}"
        )
    user = None if address.username is None else unquote(address.username)
    password = None if address.password is None else unquote(address.password)
    return Proxy(proxy_host, port, variable, user, password)


def _host_and_port(address: SplitResult) -> str:
    host = address.hostname or ""
    return named(host, address.port) if address.port else host


def _is_this_machine(host: str) -> bool:
    if (address := _ip(host)) is not None:
        return address.is_loopback or address.is_unspecified
    lower = host.lower()
    if lower == "localhost" or lower.endswith(".localhost"):
        return True
    return lower == socket.gethostname().lower()


def _is_excepted(host: str, port: int, listed: str) -> bool:
    return any(_matches(entry, host.lower(), port) for entry in listed.replace(",", " ").split())


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY is for this host and port."""
    entry = entry.rpartition("://")[2].lower()
    if entry == "*":
        return True
    name, only = _cut_port(entry)
    if only is not None and only != port:
        return False
    if (address := _ip(host)) is not None:
        try:
            network = ipaddress.ip_network(name, strict=False)
        except ValueError:
            return False
        return address.version == network.version and address in network
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _cut_port(entry: str) -> tuple[str, int | None]:
    """`host:port`, `[::1]:port`, `[::1]`, `::1`, `10.0.0.0/8`: the host, and the port if any."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
        if rest.startswith("/"):  # a network whose address is in brackets
            return name + rest, None
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        return entry, None
    return name, int(port) if port.isascii() and port.isdigit() else None


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
