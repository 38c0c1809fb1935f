"""Sends files: ETag and If-None-Match, Range and If-Range, errors as problem documents."""

from pathlib import Path

from fastapi import Request, Response
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from cloud_service.http.problems import RangeInvalid, problem

IMMUTABLE = "public, max-age=31536000, immutable"
"""The content of a version never changes, so a cache never needs to revalidate it."""


def unchanged(request: Request, etag: str) -> bool:
    """Returns whether the client already has this content (If-None-Match)."""
    known_tags = request.headers.get("if-none-match")
    if known_tags is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in known_tags.split(",")}
    return "*" in tags or etag in tags


def file_answer(
    request: Request, path: Path, sha256: str, *, media_type: str = "application/octet-stream"
) -> Response:
    """Returns the file (200), a range of it (206), 304 if the client has it, or 416."""
    etag = f'"{sha256}"'
    headers = {"etag": etag, "cache-control": IMMUTABLE}
    if unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    return _File(path, headers=headers, media_type=media_type)


class _File(FileResponse):
    """Starlette's FileResponse, but with a problem document for an invalid Range."""

    chunk_size = 256 * 1024

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_refused = False

        async def send_unless_refused(message: Message) -> None:
            nonlocal is_refused
            if message["type"] == "http.response.start" and message["status"] >= 400:
                is_refused = True
            if not is_refused:
                await send(message)

        await super().__call__(scope, receive, send_unless_refused)
        if is_refused:
            size = Path(self.path).stat().st_size
            error = RangeInvalid(f"the file has {size:,} bytes: ask for bytes=FIRST-LAST")
            await problem(error, {"content-range": f"bytes */{size}"})(scope, receive, send)
