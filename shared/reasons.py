"""Explains in one clause why a connection failed, and what to check."""

import errno
import socket
import ssl

_WRAPPED = 8
"""How many nested errors are searched for the one of the operating system."""


def host_and_port(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reason_of(error: OSError, host: str, port: int) -> str:
    """Explains in one clause why a connection to `host` failed."""
    where = host_and_port(host, port)
    if isinstance(error, socket.gaierror):
        return f"the name {host} cannot be resolved"
    if isinstance(error, ssl.SSLError):
        return _tls(error, where, host)
    if isinstance(error, ConnectionRefusedError):
        return f"connection refused by {where}"
    if isinstance(error, TimeoutError):
        message = str(error)
        generic = message in ("", "timed out") or error.errno == errno.ETIMEDOUT
        return f"no answer from {where} in time" if generic else message
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"there is no way to {where} from here ({error.strerror})"
    if isinstance(error, ConnectionError):
        return (
            str(error) if error.errno is None and str(error) else f"{where} closed the connection"
        )
    return error.strerror or str(error) or type(error).__name__


def reason_of_call(error: BaseException, host: str, port: int) -> str:
    """As `reason_of`, for an HTTP client's error that wraps one of the operating system."""
    cause = _system_error(error)
    if cause is not None:
        return reason_of(cause, host, port)
    if "timeout" in type(error).__name__.lower():
        return f"no answer from {host_and_port(host, port)} in time"
    return str(error) or type(error).__name__


def is_refusal(error: BaseException) -> bool:
    """Whether an HTTP client's error means that nothing listens at the address."""
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
    reason = (error.reason or str(error)).replace("_", " ").lower()
    return f"no TLS with {where}: {reason}"
