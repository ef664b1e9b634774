"""What a request needs besides urllib3: whom TLS trusts, and the headers that each has."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import unquote

import urllib3


def trusting(bundle: Path | None = None) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, to which people add their own, and
    those of certifi: Windows fetches many of its authorities only when a program of its own needs
    them, and some systems have none. `bundle`: a file or folder of the only ones to trust. Raises
    OSError."""
    import certifi  # late: only https needs it

    context = urllib3.util.create_urllib3_context()
    if bundle is None:
        context.load_default_certs()
        context.load_verify_locations(certifi.where())
    elif bundle.is_dir():
        context.load_verify_locations(capath=bundle)
    else:
        context.load_verify_locations(bundle)
    return context


def headers_for(url: str, auth: tuple[str, str] | None = None) -> dict[str, str]:
    """Return the headers of each request. `auth`: user name and password, or None for those that
    are in the URL. Raises ValueError for what Latin-1 cannot say."""
    both = auth_in(url) if auth is None else ":".join(auth)
    made = urllib3.make_headers(keep_alive=True, accept_encoding=True, basic_auth=both)
    return {"Accept": "*/*", **made}


def auth_in(url: str) -> str | None:
    """Return `USER:PASSWORD` as a URL has it, or None."""
    auth = urllib3.util.parse_url(url).auth if "@" in url else None
    return unquote(auth) if auth is not None and ":" in auth else None
