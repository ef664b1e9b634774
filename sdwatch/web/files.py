"""Send a file of a run: with the right type, in parts, and only what lies in the spool."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import BinaryIO
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from sdwatch.spool.folders import Spool
from sdwatch.spool.inside import open_plain

_TEXT = "text/plain; charset=utf-8"
_TYPES: Mapping[str, str] = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
    ".txt": _TEXT, ".log": _TEXT, ".yaml": _TEXT, ".yml": _TEXT, ".jsonl": _TEXT,
    ".json": "application/json",
}  # fmt: skip
"""What a browser may show, by the name's ending; anything else is saved. Nothing here is a document
with scripts (HTML, SVG), whatever is in the file: a browser does not guess (nosniff)."""

_HEADERS = {
    "Cache-Control": "private, no-cache",
    "Accept-Ranges": "bytes",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}
_PART = 1 << 16  # bytes
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def send_file(spool: Spool, name: str, headers: Mapping[str, str], method: str) -> Response:
    """Return the reply with the file `name`, relative to the spool, see places.checked_name.
    `headers`: of the request. Raises SpoolError if it leads outside or is not a plain file,
    OSError."""
    file = await run_in_threadpool(open_plain, spool.root, name)
    status = os.fstat(file.fileno())
    tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    about = {**_HEADERS, **_type_of(name), "ETag": tag}
    if tag in headers.get("if-none-match", ""):
        file.close()
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=about)
    if (wanted := _wanted(headers, status.st_size, tag)) is None:
        file.close()
        about["Content-Range"] = f"bytes */{status.st_size}"
        return Response(status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=about)
    start, end = wanted
    about["Content-Length"] = str(end - start)
    code = HTTPStatus.OK
    if end - start < status.st_size:
        code = HTTPStatus.PARTIAL_CONTENT
        about["Content-Range"] = f"bytes {start}-{end - 1}/{status.st_size}"
    if method == "HEAD":
        file.close()
        return Response(status_code=code, headers=about)
    return _FileResponse(file, start, end, code, about)


class _FileResponse(StreamingResponse):
    """Closes its file whatever happens: also where the client went before the first part."""

    def __init__(
        self, file: BinaryIO, start: int, end: int, code: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(_parts(file, start, end), status_code=code, headers=headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


async def _parts(file: BinaryIO, start: int, end: int) -> AsyncIterator[bytes]:
    """Yield a part of a file. One that became shorter meanwhile ends early, and the connection with
    it: it has promised more."""
    await run_in_threadpool(file.seek, start)
    while start < end and (part := await run_in_threadpool(file.read, min(_PART, end - start))):
        start += len(part)
        yield part


def _type_of(name: str) -> dict[str, str]:
    path = PurePosixPath(name)
    if known := _TYPES.get(path.suffix.lower()):
        return {"Content-Type": known}
    saved_as = f"attachment; filename*=UTF-8''{quote(path.name, safe='', errors='replace')}"
    return {"Content-Type": "application/octet-stream", "Content-Disposition": saved_as}


def _wanted(headers: Mapping[str, str], size: int, tag: str) -> tuple[int, int] | None:
    """Return start and end of what is asked for: one range of it, else all; None for a range that
    it does not have. Several ranges, or what cannot be read, are all of it, as RFC 9110 allows."""
    found = _RANGE.fullmatch(headers.get("range", "").strip())
    is_stale = headers.get("if-range", tag) != tag
    if found is None or is_stale or not size or not (found[1] or found[2]):
        return 0, size
    if not found[1]:  # the last so many bytes
        last = int(found[2])
        return (max(0, size - last), size) if last else None
    start, end = int(found[1]), int(found[2]) + 1 if found[2] else size
    if found[2] and end <= start:
        return 0, size
    return (start, min(end, size)) if start < size else None
