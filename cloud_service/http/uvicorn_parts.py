"""Checks the private parts of uvicorn that `connection.py` and `correction/protocol.py` use.

uvicorn may change them in any release. So the version is pinned, and the program checks them at
its start: an unknown version gives one clear error, instead of connections that fail later.
"""

import asyncio
from importlib.metadata import version
from typing import Any, ClassVar, Final

from uvicorn import Config
from uvicorn.protocols.http import flow_control, httptools_impl
from uvicorn.server import ServerState

from shared.errors import RecommendationError

TESTED: Final = "0.54"
"""The minor version that pyproject.toml pins and that the tests use."""
_METHODS: Final = (
    "_start_asgi_task", "connection_lost", "connection_made", "data_received", "on_body",
    "on_header", "on_headers_complete", "on_message_begin", "on_message_complete",
    "on_response_complete", "on_url", "pause_writing", "resume_writing", "shutdown",
)  # fmt: skip
_FIELDS: Final = (
    "cycle", "flow", "headers", "limit_concurrency", "loop", "parser", "pipeline", "server_state",
    "transport",
)  # fmt: skip
_CYCLE: Final = (
    "disconnected", "keep_alive", "message_event", "response_complete", "response_started", "scope",
)  # fmt: skip
_FLOW: Final = ("pause_reading", "resume_reading", "pause_writing", "resume_writing")


class UnknownUvicorn(RecommendationError):
    """The installed uvicorn lacks private parts that this project uses."""

    code: ClassVar[str] = "unknown-uvicorn"
    title: ClassVar[str] = "This version of uvicorn cannot be used"


def check_uvicorn() -> None:
    """Raises UnknownUvicorn if a part that this project uses is missing."""
    missing = _missing()
    if missing:
        raise UnknownUvicorn(
            f"uvicorn {version('uvicorn')} lacks {', '.join(missing)}, which this program builds "
            f"on: install uvicorn {TESTED} (constraints.txt), or set CLOUD_HTTP_PROTOCOL=uvicorn, "
            "which is slower and has no limits of heads and silent connections"
        )


def _missing() -> list[str]:
    protocol_type: Any = getattr(httptools_impl, "HttpToolsProtocol", None)
    cycle_type: Any = getattr(httptools_impl, "RequestResponseCycle", None)
    if protocol_type is None or cycle_type is None:
        return ["its httptools protocol"]
    missing = [name for name in _METHODS if not callable(getattr(protocol_type, name, None))]
    missing += [f"flow.{name}" for name in _FLOW if not hasattr(flow_control.FlowControl, name)]
    assigned = cycle_type.__init__.__code__.co_names
    missing += [f"cycle.{name}" for name in _CYCLE if name not in assigned]
    if not isinstance(getattr(httptools_impl, "STATUS_LINE", {}).get(200), bytes):
        missing.append("STATUS_LINE")
    missing += [f"server_state.{name}" for name in ("default_headers", "total_requests")
                if not hasattr(ServerState(), name)]  # fmt: skip
    loop = asyncio.new_event_loop()
    try:
        config = Config(_no_application, log_config=None, ws="none", lifespan="off")
        protocol = protocol_type(config, ServerState(), {}, loop)
        missing += [name for name in _FIELDS if not hasattr(protocol, name)]
    except TypeError:
        missing.append("the arguments of its protocol")
    finally:
        loop.close()
    return missing


async def _no_application(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("this application is never called")
