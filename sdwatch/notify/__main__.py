"""`python -m sdwatch.notify`: send one message, given as JSON on stdin; print what came of it.

A process of its own, because everything that may hang (a name server, a proxy, TLS, an answer that
comes a byte at a time) ends with it, and what apprise takes of memory, too. The address comes on
stdin, because others can read command lines. A webhook gets a POST (webhook.py), everything else
goes through apprise (the extra `notify`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from typing import Any

from sdwatch.notify.delivery import Delivery, Receipt
from sdwatch.policy.notify.target import Channel

_BESIDES_S = 5.0
"""Who starts it kills it at the limit; it ends by itself for when that one died."""

_STATUS = re.compile(r"\berror=(\d{3})\b")


def _delivery(order: dict[str, Any]) -> Delivery:
    if order["channel"] == Channel.WEBHOOK:
        from sdwatch.notify.webhook import post

        return post(order["url"], order["body"])
    return _by_apprise(order)


def _by_apprise(order: dict[str, Any]) -> Delivery:
    """Send it, or only check the address. apprise only says whether that worked; the HTTP status is
    in its log."""
    try:
        import apprise
    except ImportError:
        return Delivery(Receipt.NOT_INSTALLED)
    statuses = _Statuses()
    logging.getLogger("apprise").addHandler(statuses)
    service = apprise.Apprise()
    if not service.add(order["url"]):
        return Delivery(Receipt.NOT_UNDERSTOOD)
    if (body := order["body"]) is None:
        return Delivery(Receipt.SENT)
    plain = apprise.NotifyFormat.TEXT
    if service.notify(body=body["text"], title=body["title"], body_format=plain):
        return Delivery(Receipt.SENT)
    return Delivery(Receipt.REFUSED if statuses.last else Receipt.UNREACHABLE, statuses.last)


class _Statuses(logging.Handler):
    """Keeps the last HTTP status that apprise logs; its lines may have the address in them."""

    def __init__(self) -> None:
        super().__init__()
        self.last = 0

    def emit(self, record: logging.LogRecord) -> None:
        if found := _STATUS.search(record.getMessage()):
            self.last = int(found[1])


def main() -> None:
    """Do it."""
    # Plugins of apprise print what they like: the answer has a way of its own.
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        order = json.load(sys.stdin)
        end = threading.Timer(order["limit"] + _BESIDES_S, os._exit, [1])
        end.daemon = True
        end.start()
        delivery = _delivery(order)
    except Exception:  # noqa: BLE001
        # The outer edge: a library's exception may have the address in it, so nothing is said.
        delivery = Delivery(Receipt.FAILED)
    os.write(answer, json.dumps([delivery.result, delivery.status]).encode())
    os._exit(0)  # a library may have left threads


if __name__ == "__main__":
    main()
