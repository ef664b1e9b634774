"""The streams and buckets at the broker, made where they are missing."""

from __future__ import annotations

from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from sdwatch.cluster.objects import files_stream
from sdwatch.policy.cluster import names

COPIES = 3
"""Copies of everything, where the broker has as many servers: it survives the loss of one."""

_TOO_FEW_SERVERS = (10005, 10074)
_SHOWN_FOR = 7 * 24 * 3600.0  # seconds for which a box is known that no longer shows itself


async def make_streams(js: JetStreamContext) -> None:
    """Make all that is missing, with three copies where the broker has three servers. What was made
    with fewer gets them too. Raises nats' errors."""
    try:
        await _make(js, COPIES)
    except APIError as error:
        if error.err_code not in _TOO_FEW_SERVERS:
            raise
        await _make(js, 1)


async def _make(js: JetStreamContext, copies: int) -> None:
    runs = api.StreamConfig(
        name=names.RUNS, subjects=["sdwatch.run.>"], storage=api.StorageType.FILE,
        allow_msg_ttl=True, num_replicas=copies,
    )  # fmt: skip
    work = api.StreamConfig(
        name=names.WORK,
        subjects=["sdwatch.work.>"],
        storage=api.StorageType.FILE,
        retention=api.RetentionPolicy.WORK_QUEUE,
        discard=api.DiscardPolicy.NEW,
        discard_new_per_subject=True,
        max_msgs_per_subject=1,
        num_replicas=copies,
    )
    for config in (runs, work, files_stream(copies)):
        if not await _is_there(js, str(config.name), copies):
            await js.add_stream(config)
    for bucket, ttl in ((names.BOXES, _SHOWN_FOR), (names.LISTS, None), (names.ORDERS, None)):
        if not await _is_there(js, f"KV_{bucket}", copies):
            await js.create_key_value(
                api.KeyValueConfig(bucket=bucket, history=1, ttl=ttl, replicas=copies)
            )


async def _is_there(js: JetStreamContext, stream: str, copies: int) -> bool:
    """Return whether a stream is there; raise its number of copies if it has fewer."""
    try:
        config = (await js.stream_info(stream)).config
    except NotFoundError:
        return False
    if (config.num_replicas or 1) < copies:
        await js.update_stream(config.evolve(num_replicas=copies))
    return True
