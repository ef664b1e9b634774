"""Takes out of a text where something is on a network: addresses of machines and people. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

ADDRESS = "<address>"
HOST = "<host>"

_BYTE = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_IP = re.compile(
    # This machine's own is everybody's. What follows a "v" or a sign is a version.
    rf"(?<![\w.\-+])(?<!version )(?!127\.|0\.0\.0\.0)(?:{_BYTE}\.){{3}}{_BYTE}(?![\w\-]|\.\d)"
    r"|(?<![\w:])(?:fe80|f[cd][0-9a-f]{2})(?::[0-9a-f]{0,4}){2,7}(?:%\w+)?",
    re.I,
)
_MAC = re.compile(
    r"(?<![\w:\-])(?:[0-9a-f]{2}([:\-]))(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}(?![\w:])", re.I
)
_TUNNEL = re.compile(
    r"(?<![\w.\-])[\w.\-]{1,100}\.(?:gradio\.live|gradio\.app|ngrok\.io|ngrok(?:-free)?\.(?:app|dev)|loca\.lt"
    r"|trycloudflare\.com|proxy\.runpod\.net|ts\.net|lan|fritz\.box)\b",
    re.I,
)
_UNC = re.compile(
    r"(?<![\w:\\.~>])(\\\\(?:\\\\)?)(?!Users\b|Profiles\b|Documents\b)([A-Za-z0-9][\w.\-$]*)(?=\\)"
)
_EMAIL = re.compile(r"(?<![\w.+\-])[\w.+\-]{1,100}@[A-Za-z][\w.\-]*")


def file_servers(text: str) -> Iterator[str]:
    """Names of machines in paths of shares: each may stand alone elsewhere."""
    yield from (found[2] for found in _UNC.finditer(text))


def without_addresses(text: str) -> str:
    """`text` without addresses of networks, tunnels, file servers and people."""
    text = _EMAIL.sub(ADDRESS, text)
    text = _TUNNEL.sub(HOST, text)
    text = _MAC.sub(ADDRESS, text)
    text = _IP.sub(HOST, text)
    return _UNC.sub(rf"\1{HOST}", text)
