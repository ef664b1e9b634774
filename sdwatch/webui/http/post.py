"""The result of one generation, for the thread that makes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sdwatch.errors import WebUIError
from sdwatch.system.failpoints import failpoint
from sdwatch.webui.http.reply import Reply


def result_of(generate: Callable[[], Reply], name: str) -> Reply | WebUIError:
    """Return the reply, or the error with the seconds after which it came. Never raises: this is a
    thread's outer edge, and its result must reach whoever waits. `name`: what is generated, for the
    error and for failpoints."""
    began = time.monotonic()
    try:
        failpoint("post starts", Path(name))
        result: Reply | WebUIError = generate()
    except WebUIError as error:
        result = error
    except Exception as error:  # noqa: BLE001
        result = WebUIError(f"internal error of the request: {error!r}", stage=name)
    if isinstance(result, WebUIError) and result.after is None:
        result.after = time.monotonic() - began
    failpoint("post ends", Path(name))
    return result
