"""Send a message with apprise (the extra `notify`). Runs in the process of `__main__`."""

from __future__ import annotations

import logging
import re

from sdwatch.notify.delivery import Delivery, Receipt

_STATUS = re.compile(r"\berror=(\d{3})\b")


def send(url: str, title: str, text: str) -> Delivery:
    """Send it. apprise only says whether that worked; the HTTP status is in its log."""
    try:
        import apprise
    except ImportError:
        return Delivery(Receipt.NOT_INSTALLED)
    statuses = _Statuses()
    logging.getLogger("apprise").addHandler(statuses)
    service = apprise.Apprise()
    if not service.add(url):
        return Delivery(Receipt.NOT_UNDERSTOOD)
    if service.notify(body=text, title=title, body_format=apprise.NotifyFormat.TEXT):
        return Delivery(Receipt.SENT)
    return Delivery(Receipt.REFUSED if statuses.last else Receipt.UNREACHABLE, statuses.last)


def is_understood(url: str) -> Delivery:
    """Return SENT if apprise knows the address; nothing is sent."""
    try:
        import apprise
    except ImportError:
        return Delivery(Receipt.NOT_INSTALLED)
    return Delivery(Receipt.SENT if apprise.Apprise().add(url) else Receipt.NOT_UNDERSTOOD)


class _Statuses(logging.Handler):
    """Keeps the last HTTP status that apprise logs; its lines may have the address in them."""

    def __init__(self) -> None:
        super().__init__()
        self.last = 0

    def emit(self, record: logging.LogRecord) -> None:
        if found := _STATUS.search(record.getMessage()):
            self.last = int(found[1])
