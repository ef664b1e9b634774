"""Take out of a WebUI's log who ran it and where: what is left to do before evidence, which is free
of prompts and known secrets, may be shown to strangers. Pure.

Nobody can list all that may be private in a log. So a person sees it before it is given away.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping

from sdwatch.policy.privacy.credentials import without_credentials

_SHORTEST_NAME = 3
_USUAL_NAMES = frozenset(
    ["root", "user", "users", "admin", "administrator", "public", "default", "home", "localhost"]
)
"""Names that say nothing of anybody; a log cannot be read without these words."""

_PROMPT = re.compile(  # but not what a validator says of the field
    r"(\b(?:negative[ _])?prompts?(?:\\?[\"'])?[ \t]*[:=][ \t]*+)"
    r"(?!<|\{|Input should|String should|Field required|Value error)[^\n]*?\w[^\n]*",
    re.I,
)
_SEPARATOR = r"(?:\\{1,4}|/)"
_WORD = r"[^\\/\s\"'<>|:*?,;()\[\]{}]"
_HOMES = re.compile(
    # Windows allows blanks in a user's name; what follows distinguishes them from a sentence.
    rf"(?:\b[A-Za-z]:{_SEPARATOR}|{_SEPARATOR})(?:Users|Profiles|Documents and Settings)"
    rf"{_SEPARATOR}(?:{_WORD}{{1,64}}(?: {_WORD}{{1,32}}){{0,2}}(?=\\)|{_WORD}{{1,64}})"
    rf"|/(?:(?:var/)?home|(?:run/)?media){_SEPARATOR}{_WORD}{{1,64}}"
    r"|/Volumes/[^/\n]{1,64}|(?<![\w.~])/root(?=/|\b)|(?<![\w/.~\\])~[A-Za-z_][\w.-]*",
    re.I,
)


def log_for_others(text: str, places: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Return the text with `~` for home folders, without addresses, credentials and prompts that
    are called so. `places`: paths, `names`: users and hosts, each with what it becomes."""
    text = _PROMPT.sub(r"\1<hidden>", without_credentials(_replaced(text, places)))
    return _replaced(_HOMES.sub("~", without_addresses(text)), names)


def _replaced(text: str, names: Mapping[str, str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        if len(name) >= _SHORTEST_NAME and name.lower() not in _USUAL_NAMES:
            pattern = rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"
            text = re.sub(pattern, names[name], text, flags=re.I)
    return text


# -- where something is on a network: addresses of machines and people

ADDRESS = "<address>"
HOST = "<host>"

_BYTE = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_IP = re.compile(
    # This machine's own is everybody's. What follows a "v" or a sign is a version.
    rf"(?<![\w.\-+])(?<!version )(?!127\.|0\.0\.0\.0)(?:{_BYTE}\.){{3}}{_BYTE}(?![\w\-]|\.\d)"
    r"|(?<![\w:])(?:fe80|f[cd][0-9a-f]{2})(?::[0-9a-f]{0,4}){2,7}(?:%\w+)?",
    re.I,
)
_MAYBE_IPV6 = re.compile(  # and the port, which uvicorn appends without brackets
    r"(?<!\w)(?<![0-9a-f]:)(?<!::)([0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?:%\w{1,32})?"
    r"(:\d{1,5})?(?![\w:])",
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
_MARKER = r"<[a-z][^<>\n]{0,60}>"
"""What the redactor may have put in place of a name within an address."""

_EMAIL = re.compile(
    rf"(?:(?<![\w.+\-])[\w.+\-]{{1,100}}|(?<!/){_MARKER})(?:@|%40)"
    rf"(?=[^\W\d_]|<)(?:[\w.\-]|{_MARKER})+"
)
_URL_HOST = re.compile(  # plain, as JSON escapes it, and within another URL
    r"((?::(?:\\{0,4}/){2}|%3A%2F%2F)(?:[^/\s@\"'\\?#]{1,200}@)?)"
    rf"((?:[\w.\-]|{_MARKER})+)",
    re.I,
)
_OWN_OR_PUBLIC = re.compile(
    r"localhost|127(?:\.\d{1,3}){3}|0\.0\.0\.0"
    r"|(?:[\w\-]{1,63}\.){0,4}(?:"
    r"(?:huggingface|hf)\.co|(?:github|githubusercontent|civitai|nvidia)\.com"
    r"|(?:python|pytorch|pypi|pythonhosted)\.org|pydantic\.dev|gradio\.app)",
    re.I,
)
"""This machine's own names, which are everybody's, and the sites that logs of WebUIs name."""


def _without_host(found: re.Match[str]) -> str:
    host = found[2].rstrip(".")
    return found[0] if _OWN_OR_PUBLIC.fullmatch(host) else found[1] + HOST + found[2][len(host) :]


def _without_ipv6(found: re.Match[str]) -> str:
    """Return what stands for an address of IPv6 that is not this machine's own. Of those that are
    reserved, which nobody has, are `::2` as in a slice and `c10::add` as in C++."""
    try:
        address = ipaddress.IPv6Address(found[1])
    except ValueError:  # as of a time
        return found[0]
    is_ours = address.is_reserved or address.is_loopback or address.is_unspecified
    if address.ipv4_mapped:
        is_ours = address.ipv4_mapped.is_loopback
    return found[0] if is_ours else HOST + (found[2] or "")


_ADDRESSES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (_TUNNEL, HOST),
    (_URL_HOST, _without_host),
    (_EMAIL, ADDRESS),
    (_MAYBE_IPV6, _without_ipv6),
    (_MAC, ADDRESS),
    (_IP, HOST),
    (_UNC, rf"\1{HOST}"),
)


def without_addresses(text: str) -> str:
    """Return `text` without addresses of networks, tunnels, file servers and people."""
    for pattern, instead in _ADDRESSES:
        text = pattern.sub(instead, text)
    return text
