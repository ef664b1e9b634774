"""How a WebUI, its extensions and the proxies before it repeat a prompt in an error and in the log.

Each way makes of a prompt what stands in both.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote

from sdwatch.simulator import console
from sdwatch.simulator.failures import CrashedError

_LONG_LINE = 1990
"""Characters before a prompt in a line whose middle is left out."""


def _late_in_a_line(prompt: str) -> str:
    return f"{'x' * _LONG_LINE} {prompt} {'y' * 5000}"


def _cut(prompt: str) -> str:
    return f"{prompt[: len(prompt) * 3 // 4]} and {prompt[len(prompt) // 4 :]}"


def _by_token(prompt: str) -> str:
    words = prompt.split()
    pieces = words if len(words) > 1 else [prompt[at : at + 4] for at in range(0, len(prompt), 4)]
    return "\n".join(f"  token {number}: {piece}</w>" for number, piece in enumerate(pieces))


ECHOES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "late in a long line": _late_in_a_line,
    "cut": _cut,
    "in capitals": str.upper,
    "in an address": lambda prompt: f"http://127.0.0.1/x?prompt={quote(prompt)}",
    "in escapes": lambda prompt: "".join(f"\\u{ord(sign):04x}" for sign in prompt),
    "in JSON within JSON": lambda prompt: json.dumps(json.dumps({"prompt": prompt})),
    "in HTML": lambda prompt: "".join(f"&#{ord(sign)};" for sign in html.escape(prompt)),
    "in base64": lambda prompt: base64.b64encode(prompt.encode()).decode(),
    "one token to a line": _by_token,
}


def echoed(prompt: str, way: int) -> CrashedError:
    """Return what is raised: its text has the prompt, and so has the log. The first ways are
    answered as text/plain, as proxies and extensions do, the same ones after them as the kind
    does."""
    said = list(ECHOES.values())[way % len(ECHOES)](prompt)
    console.err(f"*** Error completing request\n*** Arguments: ({said})")
    error = CrashedError("RuntimeError", f"cannot use {said}", text_only=way < len(ECHOES))
    error.plain = f"Internal Server Error: cannot use {said}"
    return error
