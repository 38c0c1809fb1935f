"""Files over HTTP: ETag and If-None-Match, Range and If-Range, errors as problem documents."""

from pathlib import Path

from fastapi import Request, Response
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from cloud_service.http.problems import RangeInvalid, problem

IMMUTABLE = "public, max-age=31536000, immutable"
"""A version's content never changes: a cache may keep it and need not ask again."""


def unchanged(request: Request, etag: str) -> bool:
    """Whether the caller holds this content already (If-None-Match)."""
    held = request.headers.get("if-none-match")
    if held is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in held.split(",")}
    return "*" in tags or etag in tags


def file_answer(
    request: Request, path: Path, sha256: str, *, media_type: str = "application/octet-stream"
) -> Response:
    """The file, a part of it (206), nothing new (304), or 416."""
    etag = f'"{sha256}"'
    headers = {"etag": etag, "cache-control": IMMUTABLE}
    if unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    return _File(path, headers=headers, media_type=media_type)


class _File(FileResponse):
    """Starlette's, whose answers to a wrong Range are plain text, with problems in their place."""

    chunk_size = 256 * 1024

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def checked(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refused = True
            if not refused:
                await send(message)

        await super().__call__(scope, receive, checked)
        if refused:
            size = Path(self.path).stat().st_size
            error = RangeInvalid(f"the file has {size:,} bytes: ask for bytes=FIRST-LAST")
            await problem(error, {"content-range": f"bytes */{size}"})(scope, receive, send)
