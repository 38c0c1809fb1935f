"""Who may make admin calls: whoever holds the token, or, without one, this machine alone."""

import hmac
import ipaddress
from urllib.parse import urlsplit

from fastapi import Depends, Request

from shared.errors import Forbidden, Unauthorized

_HELP = "set CLOUD_ADMIN_TOKEN and send it as Authorization: Bearer"
_FORWARDING = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def require_admin(request: Request) -> None:
    """Raises Unauthorized or Forbidden for a caller who is no admin."""
    token: str | None = request.app.state.services.admin_token
    if token is not None:
        _check_token(request.headers.get("authorization", ""), token)
    else:
        _check_local(request)


ADMIN = Depends(require_admin)


def _check_token(header: str, token: str) -> None:
    scheme, _, given = header.partition(" ")
    right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
    if scheme.lower() != "bearer" or not right:
        raise Unauthorized("send the admin token as Authorization: Bearer")


def _check_local(request: Request) -> None:
    """Only this machine, and there no web page: a page may send requests to it as well."""
    client = request.client.host if request.client else ""
    if not _is_loopback(client) or any(name in request.headers for name in _FORWARDING):
        raise Forbidden(f"admin calls are taken from this machine only: {_HELP}")
    host = request.headers.get("host", "")
    if not _is_loopback(urlsplit(f"//{host}").hostname or ""):
        raise Forbidden(f"this call came by a name that is not this machine's own: {_HELP}")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise Forbidden(f"this call came from a page of another site: {_HELP}")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
