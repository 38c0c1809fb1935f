"""Authorises admin calls by token only, never by address.

An address does not identify a caller: a proxy, a port forwarder or a web page in a browser on the
machine of the cloud has the address of that machine.
"""

import hmac

from fastapi import Depends, Request

from shared.errors import Unauthorized

_HELP = (
    "send the admin token as Authorization: Bearer TOKEN; it is the cloud's CLOUD_ADMIN_TOKEN or, "
    "where that is not set, the file admin-token in its store"
)


def require_admin(request: Request) -> None:
    """Raises Unauthorized unless the request carries the admin token."""
    token: str | None = request.app.state.services.admin_token
    if token is None:
        raise Unauthorized(
            "this cloud has no admin token: set CLOUD_ADMIN_TOKEN, or let it write to its store"
        )
    headers = request.headers.getlist("authorization")
    if len(headers) != 1:
        raise Unauthorized(_HELP)
    scheme, _, presented = headers[0].partition(" ")
    matches = hmac.compare_digest(presented.strip().encode("latin-1", "replace"), token.encode())
    if scheme.lower() != "bearer" or not matches:
        raise Unauthorized(_HELP)


ADMIN = Depends(require_admin)
