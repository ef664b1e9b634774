"""Remove credentials from a text: passwords, keys, tokens, by their own form or by what is said
before them. Pure.

Secrets that are known are the redactor's (see redaction.py); these are those that are not.
"""

from __future__ import annotations

import re

SECRET = "<secret>"

_BY_FORM = re.compile(
    r"\b(?:hf_|gh[pousr]_|npm_)[A-Za-z0-9]{8,}"
    r"|\b(?:sk-|github_pat_|glpat-|xox[abpr]-|r8_|AKIA|AIza)[A-Za-z0-9_\-]{8,}"
    r"|\b[sprw]k_(?:live|test)_[A-Za-z0-9]{8,}"
    r"|\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]*)?"  # a JSON web token
)
_SCHEMES = re.compile(r"\b((?:Bearer|Basic|Digest)\s+)[A-Za-z0-9+/=_.~\-]{6,}", re.I)
_LABEL = (
    r"(?:passw(?:or)?d|passphrase|passwd|pwd|secret|token|auth|authorization|cookie|credentials?"
    r"|signature|ngrok|\bsig|[_\-]pass|api[_-]?key|[_\-]key)"
)
_NOTHING = r"(?!<|hidden\b|(?:none|null|true|false)\b)"
_LABELLED = re.compile(
    rf"({_LABEL}(?:\\{{0,4}}[\"'])?\s{{0,9}}(?:(?<=\s)(?:is|was)\s{{0,9}})?[:=]\s{{0,9}}"
    r"(?:(?:bearer|basic|digest|token|apikey)\s{1,9})?(?:\\{0,4}[\"'])?)"
    rf"{_NOTHING}(?:(?<=[\"'])[^\"'\\\n]+|[^\s\"'\\,;&)}}\]]+)",
    re.I,
)
_SAID = re.compile(  # a digit distinguishes "the password is hunter2" from "the password is wrong"
    r"((?:passw(?:or)?d|passphrase|token|key)\s{1,9}(?:(?:is|was)\s{1,9})?)(?=[^\s\"']*\d)"
    r"(?:(?<=s\s)[^\s\"',;]{6,}|[A-Za-z0-9_\-]{20,})",
    re.I,
)
_FLAG = re.compile(
    r"(?<!-)(--?(?=[\w-]{0,60}?(?:auth|token|passw|secret|key|ngrok))[\w-]{1,120}+"
    r"(?:=|\s++|[\"'],\s{0,9}[\"']))"
    r"(?!-|<)[^\s\"']+",
    re.I,
)
_COMMAND = re.compile(
    r"(\b(?:(?:curl|wget)\b[^\n]{0,200}?\s(?:-u|--user)"
    r"|(?:sshpass|mysql\w{0,20})\b[^\n]{0,200}?\s-p)[ =]?)[^\s\"']+"
)
_USERINFO = re.compile(r"(://)(?:[^/\s@\"'<>]|<[a-z]{1,9}>)+@")  # one may be hidden already


def without_credentials(text: str) -> str:
    """Return `text` with `<secret>` in place of each."""
    text = _USERINFO.sub(rf"\1{SECRET}@", text)
    for pattern in (_LABELLED, _SCHEMES, _FLAG, _COMMAND, _SAID):
        text = pattern.sub(rf"\1{SECRET}", text)
    return _BY_FORM.sub(SECRET, text)


def looks_like_a_token(word: str) -> bool:
    """Return whether it is one by its form, or long, and letters and digits without a place for a
    dot."""
    if _BY_FORM.search(word):
        return True
    kinds = (any(c.isdigit() for c in word), any(c.isalpha() for c in word))
    return all(kinds) and re.fullmatch(r"[A-Za-z0-9_+=\-]{16,}", word) is not None
