"""POST a message to a webhook. Runs in the process of `__main__`, which is killed if this hangs."""

from __future__ import annotations

import json
from typing import Any

import requests

from sdwatch.notify.delivery import Delivery, Receipt

_LIMITS = (10.0, 10.0)  # seconds to connect, and for each part of the answer


def post(url: str, body: dict[str, Any]) -> Delivery:
    """Send it. Only the status of the answer is read: a webhook may send any amount after that.

    A redirect is not followed: most turn the POST into a GET without the message, and the address
    that a person wrote is the only one that is to get it.
    """
    try:
        with requests.post(
            url,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "User-Agent": "sdwatch"},
            timeout=_LIMITS,
            allow_redirects=False,
            stream=True,
        ) as answer:
            status = answer.status_code
    except (requests.RequestException, ValueError, OSError) as error:
        return Delivery(_result_of(error))
    if 300 <= status < 400:
        return Delivery(Receipt.REDIRECTED, status)
    return Delivery(Receipt.SENT if status < 300 else Receipt.REFUSED, status)


def _result_of(error: Exception) -> Receipt:
    kinds = (
        (requests.exceptions.ProxyError, Receipt.PROXY),
        (requests.exceptions.SSLError, Receipt.TLS),
        (requests.Timeout, Receipt.TIMED_OUT),
        (requests.ConnectionError, Receipt.UNREACHABLE),
    )
    return next((result for kind, result in kinds if isinstance(error, kind)), Receipt.FAILED)
