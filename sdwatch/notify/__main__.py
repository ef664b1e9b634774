"""`python -m sdwatch.notify`: send one message, given as JSON on stdin; print what came of it.

A process of its own, because everything that may hang (a name server, a proxy, TLS, an answer that
comes a byte at a time) ends with it, and what apprise takes of memory, too. The address comes on
stdin, because others can read command lines.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from sdwatch.notify.delivery import Delivery, Receipt
from sdwatch.policy.notify.target import Channel

_BESIDES_S = 5.0
"""Who starts it kills it at the limit; it ends by itself for when that one died."""


def _delivery(order: dict[str, Any]) -> Delivery:
    if order["channel"] == Channel.WEBHOOK:
        from sdwatch.notify.webhook import post

        return post(order["url"], order["body"])
    from sdwatch.notify import apprise_message

    if order.get("only_check"):
        return apprise_message.is_understood(order["url"])
    body = order["body"]
    return apprise_message.send(order["url"], body["title"], body["text"])


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
