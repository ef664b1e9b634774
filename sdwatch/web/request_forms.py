"""Read the form of a request, with a limit for everything in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import BinaryIO

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from sdwatch.web.access import RequestError

MOST_BYTES = 64 << 20
"""Of a request: a job has a few KB, a picture with its settings a few MB."""

_MOST_FIELDS, _MOST_FILES, _LONGEST_FIELD = 50, 100, 2 << 20
_SECONDS = 300.0
"""For the whole of it, however busily it drips in. connection_limits.py: one that stands still."""


@dataclass
class Form:
    """What was sent. `files`: names as the browser gave them, each with its content; open until the
    request ends."""

    texts: dict[str, str] = field(default_factory=dict)
    files: Sequence[tuple[str, BinaryIO]] = ()

    @property
    def token(self) -> str:
        """Return the token of the form, ''."""
        return self.texts.get("token", "")


@asynccontextmanager
async def read_form(request: Request) -> AsyncIterator[Form]:
    """Read the form. Raises RequestError if it is too large, too slow or broken."""
    _bound(request)
    try:
        async with asyncio.timeout(_SECONDS):
            found = await request.form(
                max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=_LONGEST_FIELD
            )
    except TimeoutError:
        raise RequestError(HTTPStatus.REQUEST_TIMEOUT, "the form took too long to arrive") from None
    except (HTTPException, MultiPartException, ValueError, KeyError) as error:
        words = getattr(error, "detail", "") or "it is broken"
        raise RequestError(HTTPStatus.BAD_REQUEST, f"the form cannot be read: {words}") from error
    except ClientDisconnect:
        raise RequestError(HTTPStatus.BAD_REQUEST, "the form did not arrive whole") from None
    try:
        items = found.multi_items()
        texts = {name: value for name, value in items if isinstance(value, str)}
        files = [
            (value.filename or "", value.file)
            for _, value in items
            if isinstance(value, UploadFile) and (value.filename or value.size)
        ]
        yield Form(texts, files)
    finally:
        await found.close()


def _bound(request: Request) -> None:
    """Let the body have no more than MOST_BYTES, whatever its headers say. Raises RequestError."""
    too_large = RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"this has more than {MOST_BYTES >> 20} MB; put it into the inbox by hand if it is meant",
    )
    said = request.headers.get("content-length", "0")
    if not said.isdecimal() or len(said) > 18 or int(said) > MOST_BYTES:
        raise too_large
    receive, read = request._receive, 0

    async def bounded() -> Message:
        nonlocal read
        part = await receive()
        read += len(part.get("body", b""))
        if read > MOST_BYTES:
            raise too_large
        return part

    request._receive = bounded
