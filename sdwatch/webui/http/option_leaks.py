"""Option leaks: settings that a call overrode and the WebUI kept. Found through /options, and
undone.

AUTOMATIC1111 and Forge restore only the keys in their config.json, and a fresh install has none:
CLIP_stop_at_last_layers=2 stayed for all jobs after the one that asked for it (measured with
v1.10.1).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sdwatch.errors import WebUIBadRequestError, WebUIError, WebUINotUsableError
from sdwatch.system import disk
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.webui")

QUESTION_TIMEOUT = 5.0

_ALWAYS_RESTORED = ("sd_model_checkpoint",)
"""At the next job, not at the end of this one (measured)."""


class Options(Protocol):
    """The WebUI's settings. See SDWebUIClient."""

    def options(self, timeout: float) -> dict[str, Any]: ...
    def set_options(self, options: Mapping[str, Any], timeout: float) -> bool: ...


@dataclass(frozen=True)
class _Pending:
    """What a call overrode in an incarnation. `old`: the values before. `new`: what the call set,
    for keys whose old value is unknown, or that had none."""

    incarnation: int
    old: dict[str, Any] = field(default_factory=dict)
    new: dict[str, Any] = field(default_factory=dict)

    def kept(self, options: Mapping[str, Any]) -> list[str]:
        """Return the keys that were not restored."""
        other = [key for key, value in self.old.items() if options.get(key, value) != value]
        return [
            *other,
            *(k for k, value in self.new.items() if k in options and options[k] == value),
        ]


_NOTHING = _Pending(-1)


class OptionLeaks:
    """Watches the settings of one WebUI around each call. Only its lane uses it. What is
    not undone yet is kept in the file `path`, so that it outlives the monitor.

    To undo a setting means POST /options, which writes it into the WebUI's own config.json: the
    value that was in use before, so the file is right afterwards. From then on the WebUI restores
    that key itself (measured).
    """

    def __init__(self, client: Options, path: Path) -> None:
        self._client = client
        self._path = path
        self._pending = _read(path)

    def before_call(
        self, payload: Mapping[str, Any], incarnation: int
    ) -> tuple[list[str], list[str]]:
        """Undo what an earlier call left (see `undo`), and note what this call overrides, before it
        is sent."""
        undone = self.undo(incarnation)
        if overridden := _overridden(payload):
            options = self._options()
            if options is None:  # no answer now: the old values are unknown
                self._save(_Pending(incarnation, new=overridden))
            elif options:  # stable-diffusion.cpp has next to none, and overrides nothing
                old = {k: options[k] for k in overridden if options.get(k) is not None}
                new = {k: value for k, value in overridden.items() if k not in old}
                self._save(_Pending(incarnation, old, new))
        return undone

    def undo(self, incarnation: int) -> tuple[list[str], list[str]]:
        """Undo what the last call left. Return the names of the settings that were kept and have
        been undone, and of those that cannot be. What cannot be asked now is asked the next
        time."""
        if self._pending.incarnation != incarnation:  # another incarnation does not have it
            self._save(_NOTHING)
        if self._pending is _NOTHING or not (options := self._options()):
            return [], []
        kept = self._pending.kept(options)
        values = {key: self._pending.old[key] for key in kept if key in self._pending.old}
        if values:
            self._client.set_options(values, QUESTION_TIMEOUT)
            options = self._options()
        left = self._pending.kept(options) if options else kept
        self._save(_NOTHING)
        return [key for key in kept if key not in left], left

    def _options(self) -> dict[str, Any] | None:
        """Return the settings; {} of a WebUI that has none, None where there was no answer."""
        try:
            return self._client.options(QUESTION_TIMEOUT)
        except (WebUIBadRequestError, WebUINotUsableError):
            return {}
        except WebUIError:
            return None

    def _save(self, pending: _Pending) -> None:
        """Keep it in memory and on disk. In this incarnation the memory is enough."""
        if pending is self._pending:
            return
        self._pending = pending
        try:
            if pending is _NOTHING:
                disk.remove(self._path)
            else:
                disk.write(self._path, json.dumps(asdict(pending)).encode())
        except (OSError, ValueError) as error:
            log.warning(
                "%s: what the call overrides cannot be saved: %s",
                self._path,
                disk.in_words(error),
                extra=about(LogEvent.DISK_REFUSES),
            )


def _read(path: Path) -> _Pending:
    try:
        said = json.loads(disk.read(path))
        # "generation" was its name until 0.1.0.
        incarnation = said["incarnation"] if "incarnation" in said else said["generation"]
        return _Pending(int(incarnation), dict(said["old"]), dict(said["new"]))
    except FileNotFoundError:
        return _NOTHING
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning(
            "%s: cannot be read, and is ignored: %s",
            path,
            disk.in_words(error),
            extra=about(LogEvent.FILE_UNREADABLE),
        )
        return _NOTHING


def _overridden(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be restored after this call, and what the call sets it to."""
    settings = payload.get("override_settings")
    restores = payload.get("override_settings_restore_afterwards") is not False
    if not isinstance(settings, Mapping) or not restores:
        return {}
    return {key: value for key, value in settings.items() if key not in _ALWAYS_RESTORED}
