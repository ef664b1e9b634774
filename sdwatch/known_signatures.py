"""The signatures of known failures: those that come with sdwatch, and a user's own."""

from __future__ import annotations

import logging
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from sdwatch.errors import ConfigError, FileProblems, Problem
from sdwatch.policy.failure.expression import LIMIT_S
from sdwatch.policy.job.text.document import MAX_BYTES
from sdwatch.system import disk, resources
from sdwatch.system.log_events import LogEvent, about

if TYPE_CHECKING:
    from sdwatch.policy.failure.signatures import Signature

log = logging.getLogger("sdwatch.config")


@cache
def builtin_signatures() -> tuple[Signature, ...]:
    """Return the signatures that come with sdwatch. Only what explains failures needs them: to read
    the two thousand lines takes longer than most commands."""
    from sdwatch.policy.failure.signature_file import parse_signatures  # for the same reason

    file = resources.signatures_file()
    return parse_signatures(file.read_bytes(), str(file), builtin=True)


def load_signatures(own: Path | None) -> tuple[Signature, ...]:
    """Return all signatures, those of the user's file `own` first. Raises ConfigError."""
    return builtin_signatures() if own is None else own_signatures(own) + builtin_signatures()


def own_signatures(own: Path) -> tuple[Signature, ...]:
    """Return the signatures of the user's file `own`. Raises ConfigError."""
    from sdwatch.policy.failure.signature_file import parse_signatures  # as above

    try:
        with disk.open_file(own) as file:
            data = file.read(MAX_BYTES + 1)
        return parse_signatures(data, str(own), on_limit=partial(_too_slow, own))
    except OSError as error:
        message = f"`signatures` in the config names this file; it cannot be read: {error.strerror}"
        raise ConfigError(str(own), [Problem(0, 0, message)]) from error
    except FileProblems as error:
        raise ConfigError(error.file, error.problems) from None


def _too_slow(own: Path, expression: str) -> None:
    log.warning(
        "%s: %r took longer than %g s to search what a WebUI printed. It is not used again until "
        "sdwatch is restarted. Write it without a repeat within a repeat, such as (a+)+.",
        own,
        expression,
        LIMIT_S,
        extra=about(LogEvent.EXPRESSION_DROPPED),
    )
