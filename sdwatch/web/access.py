"""Who may read, and who may change something: the token, the Host and the Origin of a request.

A browser sends requests for pages of other sites, too, so an address on this machine protects
nothing by itself. What changes state needs the token each time: in an Authorization header, which
no other site can send, or as a cookie and a hidden field of the form, with the Origin of this page.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from sdwatch.errors import SdwatchError
from sdwatch.system import disk
from sdwatch.system.state_folder import StateFolder

TOKEN_FILE = "web-token"
"""In the state folder, which is for its owner alone."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,200}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
_OPEN_LINK = (
    "open the link that `sdwatch web` printed (its token is in the state folder's web-token)"
)


class Refusal(Enum):
    """Why a request is refused: the HTTP status and what to do."""

    HOST = (
        421,
        (
            "this server does not know that name. Use its address, or start it with "
            "`sdwatch web --url` and the URL by which you reach it"
        ),
    )
    TOKEN = 401, f"this needs the token: {_OPEN_LINK}"
    WRONG_TOKEN = (
        401,
        f"the token of this link is not the one of this server, or no longer: {_OPEN_LINK}",
    )
    FORM = 403, f"the token of this form is missing or old: reload the page, or {_OPEN_LINK}"
    EMBEDDED = 403, "this is not for pages of another site: open it in a window of its own"
    ORIGIN = 403, "the request came from a page of another site, or names none; nothing was changed"


class RequestError(SdwatchError):
    """A request that is refused as it is. `http_status`: the kind of it; `text`: why, and what to
    do."""

    def __init__(self, http_status: int, text: str) -> None:
        super().__init__(text)
        self.http_status = http_status


@dataclass(frozen=True)
class Asked:
    """What a request says of itself, '' for a header that it lacks. `cookie`: the value of ours;
    `forwarded`: a proxy says that it passed it on."""

    host: str = ""
    origin: str = ""
    site: str = ""
    mode: str = ""
    bearer: str = ""
    cookie: str = ""
    forwarded: bool = False


class Access:
    """The rules of one server. `address`: where it listens; `url`: by which it is reached through
    a proxy, '' without one. On the loopback, without a proxy, reading needs no token."""

    def __init__(self, token: str, address: str, url: str = "") -> None:
        self.token = token
        self._url = url
        self._is_local = is_loopback(address)
        own = socket.gethostname().lower()
        self._names = {"localhost"} if self._is_local else {"localhost", own, f"{own}.local"}
        if url:
            self._names |= {urlsplit(url).hostname or ""}
        self.cookie_name = f"sdwatch-{self._derived('name')[:8]}"
        """Of its own for each server: cookies do not distinguish ports."""
        self.cookie = self._derived("cookie")
        self.form_token = self._derived("form")

    @property
    def is_encrypted(self) -> bool:
        """Return whether browsers reach it by https only."""
        return self._url.startswith("https:")

    def refuses_host(self, asked: Asked) -> Refusal | None:
        """Return whether a request names another server: then its page may be of anybody, with a
        name that leads here only now (DNS rebinding)."""
        found = _HOST.fullmatch(asked.host)
        if found is None:
            return Refusal.HOST
        name = found[1].lower()
        if name in self._names:
            return None
        try:  # no name leads to an address that a browser was given
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return Refusal.HOST
        return Refusal.HOST if self._is_local and not address.is_loopback else None

    def refuses_reading(self, asked: Asked) -> Refusal | None:
        """Return why a request may not see anything."""
        if refusal := self.refuses_host(asked):
            return refusal
        # A page of another site uses it as a picture, a stream or a frame: it can read none of it,
        # and may only take all connections. A link that somebody follows is none of that. What is
        # not a browser does not say.
        if asked.site in ("cross-site", "same-site") and asked.mode != "navigate":
            return Refusal.EMBEDDED
        is_open = self._is_local and not self._url and not asked.forwarded
        return None if is_open or self.knows(asked) else Refusal.TOKEN

    def refuses_change(self, asked: Asked, form_token: str) -> Refusal | None:
        """Return why a request may not change anything. `form_token`: in its form, ''."""
        if refusal := self.refuses_host(asked):
            return refusal
        if self._has_bearer(asked):
            return None
        if not self.knows(asked):
            return Refusal.TOKEN
        own = {f"http://{asked.host}".lower(), self._url.lower()} - {""}
        if asked.origin.lower() not in own or asked.site not in ("", "same-origin"):
            return Refusal.ORIGIN  # of another site, or of one that it does not name
        return None if _same(form_token, self.form_token) else Refusal.FORM

    def knows(self, asked: Asked) -> bool:
        """Return whether it has the token, in one of its forms."""
        return self._has_bearer(asked) or _same(asked.cookie, self.cookie)

    def accepts(self, token: str) -> bool:
        """Return whether this is the token."""
        return _same(token, self.token)

    def _has_bearer(self, asked: Asked) -> bool:
        return _same(asked.bearer, self.token)

    def _derived(self, purpose: str) -> str:
        return hmac.new(self.token.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), known.encode())


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches an address or `localhost`."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address.lower() == "localhost"


def checked_url(text: str) -> str:
    """Return the URL by which browsers reach the server, as an Origin. Raises SdwatchError."""
    parts = urlsplit(text)
    try:
        whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        whole = False
    if not whole or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise SdwatchError(
            f"--url {text}: must be like https://render.example.org, without a path: the page "
            "lies at the root of its host"
        )
    return f"{parts.scheme}://{parts.netloc}".lower()


def token_in(state: Path) -> str:
    """Return the token of this machine, made at the first start and kept in the state folder.
    Raises SdwatchError."""
    path = StateFolder(state).root / TOKEN_FILE
    try:
        disk.ensure_folder(state)
        if not (kept := _kept(path)):
            disk.write(path, secrets.token_urlsafe(32).encode() + b"\n")
            kept = _kept(path)
    except OSError as error:
        raise SdwatchError(f"{path}: the token cannot be kept: {disk.in_words(error)}") from error
    return kept


def _kept(path: Path) -> str:
    """Return the token that is kept; '' where there is none that anybody could use."""
    try:
        text = disk.read(path).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return ""
    return text if _TOKEN.fullmatch(text) else ""
