"""What came of a message that was sent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Receipt(StrEnum):
    """What an address did with a message."""

    SENT = "sent"
    REFUSED = "refused"
    REDIRECTED = "redirected"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    PROXY = "proxy"
    TLS = "tls"
    NOT_INSTALLED = "not_installed"
    NOT_UNDERSTOOD = "not_understood"
    FAILED = "failed"


@dataclass(frozen=True)
class Delivery:
    """The result, and the HTTP status if there was one."""

    result: Receipt
    status: int = 0

    @property
    def arrived(self) -> bool:
        """Return whether the message arrived."""
        return self.result is Receipt.SENT


def in_words(delivery: Delivery) -> str:
    """Return it in words, with what to do. Addresses are secrets: no word is of the other side, nor
    of the exception that a library raised."""
    text = _WORDS[delivery.result]
    status = f"HTTP {delivery.status}"
    if delivery.result is Receipt.REFUSED:
        return f"it answered {status}{_ADVICE.get(delivery.status, '')}"
    if delivery.result is Receipt.REDIRECTED:
        return f"it answered {status}: {text}"
    return f"{text} ({status})" if delivery.status else text


_WORDS = {
    Receipt.SENT: "it was accepted",
    Receipt.REFUSED: "it was refused",
    Receipt.REDIRECTED: (
        "it redirects to another address, to which nothing is sent; write that one in `notify:`"
    ),
    Receipt.TIMED_OUT: "it did not answer in time",
    Receipt.UNREACHABLE: "it cannot be reached; check the address and the network",
    Receipt.PROXY: "the proxy refused it or cannot be reached; check HTTP_PROXY and HTTPS_PROXY",
    Receipt.TLS: (
        "there is no trusted TLS connection: its certificate is not trusted, or it speaks no TLS. "
        "Name an authority of your own in REQUESTS_CA_BUNDLE"
    ),
    Receipt.NOT_INSTALLED: 'apprise is not installed; `pip install "sdwatch[notify]"` installs it',
    Receipt.NOT_UNDERSTOOD: (
        "apprise does not understand the address; https://appriseit.com/services/ explains each"
    ),
    Receipt.FAILED: "the message could not be sent",
}
_ADVICE = {
    400: ": it does not accept this form; apprise knows that of most services",
    401: ": check the token in the address",
    403: ": check the token in the address",
    404: ": nothing is there; check the address",
    405: ": it accepts no POST; check the address",
    410: ": it was removed; make a new one",
    429: ": there were too many messages",
}
