"""The files and lines of runs at the broker, each under its run and the sha256 of its bytes.

A stream with one subject for each part of an object, and one message for each subject: what is
there is refused, and need not be asked for before. The object store of NATS takes five requests for
each object, and a consumer to read it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from sdwatch.errors import SdwatchError
from sdwatch.policy.cluster import names

_PART = 4 << 20  # bytes of a message; the broker takes 8 MB
_PARTS = "Sdwatch-Parts"
_MOST_PARTS = 64
MOST_BYTES = _MOST_PARTS * _PART
"""Of an object."""
_WAIT = 60.0  # seconds for one part
_SUBJECT_IS_FULL = 10077


class MissingObjectError(SdwatchError):
    """An object is not there, or is not what its name says."""


def files_stream(copies: int) -> api.StreamConfig:
    """Return the stream's settings."""
    return api.StreamConfig(
        name=names.FILES,
        subjects=[f"{names.OBJECTS}.>"],
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        discard_new_per_subject=True,
        max_msgs_per_subject=1,
        allow_direct=True,
        num_replicas=copies,
    )


async def publish_once(
    js: JetStreamContext,
    stream: str,
    subject: str,
    data: bytes,
    headers: dict[str, str] | None = None,
) -> bool:
    """Publish a message on a subject that takes one; return False where one is there."""
    try:
        await js.publish(subject, data, stream=stream, headers=headers)
    except APIError as error:
        if error.err_code != _SUBJECT_IS_FULL:
            raise
        return False
    return True


class Objects:
    """The objects at a broker. `ask`: has something done there, within some seconds. All methods
    raise BrokerGoneError."""

    def __init__(
        self,
        ask: Callable[[Callable[[JetStreamContext], Coroutine[Any, Any, Any]], float], Any],
    ) -> None:
        self._ask = ask

    def store(self, run: str, data: bytes) -> str:
        """Store bytes with a run, and return their sha256. What is there already is read and
        compared: a part may be damaged, or gone."""
        digest = hashlib.sha256(data).hexdigest()
        if len(data) <= _PART and self._put(run, digest, 0, data, 1):
            return digest
        with suppress(MissingObjectError):
            self.read(run, digest)
            return digest
        self._purge(names.object_subject(run, digest, "*"))
        count = max(1, -(-len(data) // _PART))
        for part in reversed(range(count)):  # the first part says that all are there
            self._put(run, digest, part, data[part * _PART : (part + 1) * _PART], count)
        return digest

    def _put(self, run: str, digest: str, part: int, data: bytes, count: int) -> bool:
        """Store a part; return False where one is there."""
        subject, headers = names.object_subject(run, digest, part), {_PARTS: str(count)}
        was_free: bool = self._ask(
            lambda js: publish_once(js, names.FILES, subject, data, headers), _WAIT
        )
        return was_free

    def read(self, run: str, sha256: str) -> bytes:
        """Return the bytes. Raises MissingObjectError."""
        first = self._part(run, sha256, 0)
        said = (first.headers or {}).get(_PARTS, "") if first is not None else ""
        count = int(said) if said.isascii() and said.isdecimal() else 0
        if not 0 < count <= _MOST_PARTS:
            raise MissingObjectError(f"object {sha256} of {run} is not there")
        parts = [first, *(self._part(run, sha256, part) for part in range(1, count))]
        data = b"".join((part.data or b"") if part is not None else b"" for part in parts)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise MissingObjectError(f"object {sha256} of {run} is not what its name says")
        return data

    def _part(self, run: str, digest: str, part: int) -> api.RawStreamMsg | None:
        subject = names.object_subject(run, digest, part)

        async def get(js: JetStreamContext) -> api.RawStreamMsg | None:
            for direct in (True, False):  # a server that is behind may not have it yet
                try:
                    return await js.get_msg(names.FILES, subject=subject, direct=direct)
                except NotFoundError:
                    continue
            return None

        found: api.RawStreamMsg | None = self._ask(get, _WAIT)
        return found

    def remove(self, run: str) -> None:
        """Remove all objects of a run."""
        self._purge(names.objects_of(run))

    def _purge(self, subject: str) -> None:
        self._ask(lambda js: js.purge_stream(names.FILES, subject=subject), _WAIT)
