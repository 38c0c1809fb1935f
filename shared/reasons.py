"""Why a connection failed, in words that say what to look at."""

import errno
import socket
import ssl

_WRAPPED = 8
"""Errors in errors that are looked through for the system's own."""


def named(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reason_of(error: OSError, host: str, port: int) -> str:
    """Why a connection to `host` failed, in one clause."""
    where = named(host, port)
    if isinstance(error, socket.gaierror):
        return f"the name {host} cannot be resolved"
    if isinstance(error, ssl.SSLError):
        return _tls(error, where, host)
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


def reason_of_call(error: BaseException, host: str, port: int) -> str:
    """The same for the error of an HTTP client, which wraps that of the system."""
    cause = _system_error(error)
    if cause is not None:
        return reason_of(cause, host, port)
    if "timeout" in type(error).__name__.lower():
        return f"no answer from {named(host, port)} in time"
    return str(error) or type(error).__name__


def is_refusal(error: BaseException) -> bool:
    """Whether an HTTP client's error means that nobody listens there."""
    return isinstance(_system_error(error), ConnectionRefusedError)


def _system_error(error: BaseException | None) -> OSError | None:
    for _ in range(_WRAPPED):
        if error is None or isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _tls(error: ssl.SSLError, where: str, host: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} is not valid: {error.verify_message}"
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return f"{where} speaks no TLS: is its address http:// rather than https://?"
    what = (error.reason or str(error)).replace("_", " ").lower()
    return f"no TLS with {where}: {what}"
