"""Why a connection failed, in words that say what to look at."""

import errno
import socket
import ssl
from typing import Protocol

_WRAPPED = 8
"""Errors in errors that are looked through for the system's own."""


class Peer(Protocol):
    """Whom a connection is to."""

    @property
    def host(self) -> str:
        """A name or an address, without brackets."""
        ...

    @property
    def port(self) -> int: ...


def named(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reason_of(error: OSError, peer: Peer) -> str:
    """Why a connection to `peer` failed, in one clause."""
    where = named(peer.host, peer.port)
    if isinstance(error, socket.gaierror):
        return f"the name {peer.host} cannot be resolved"
    if isinstance(error, ssl.SSLError):
        return _tls(error, where, peer.host)
    if isinstance(error, ConnectionRefusedError):
        return f"connection refused by {where}"
    if isinstance(error, TimeoutError):
        said = str(error)
        plain = said in ("", "timed out") or error.errno == errno.ETIMEDOUT
        return f"no answer from {where} in time" if plain else said
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"there is no way to {where} from here ({error.strerror})"
    if isinstance(error, ConnectionError):
        return (
            str(error) if error.errno is None and str(error) else f"{where} closed the connection"
        )
    return error.strerror or str(error) or type(error).__name__


def reason_of_call(error: BaseException, peer: Peer) -> str:
    """The same for the error of an HTTP client, which wraps that of the system."""
    cause: BaseException | None = error
    for _ in range(_WRAPPED):
        if isinstance(cause, OSError):
            return reason_of(cause, peer)
        cause = cause and (cause.__cause__ or cause.__context__)
    if "timeout" in type(error).__name__.lower():
        return f"no answer from {named(peer.host, peer.port)} in time"
    return str(error) or type(error).__name__


def _tls(error: ssl.SSLError, where: str, host: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} is not valid: {error.verify_message}"
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return f"{where} speaks no TLS: is its address http:// rather than https://?"
    what = (error.reason or str(error)).replace("_", " ").lower()
    return f"no TLS with {where}: {what}"
