"""Settings that a call overrode and the WebUI kept: seen through /options, and undone.

AUTOMATIC1111 and Forge put back only the keys that stand in their config.json, and a fresh install
has none: CLIP_stop_at_last_layers=2 stayed for all jobs after the one that asked for it (measured
with v1.10.1).
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
    """What a call overrode in a generation. `old`: the values in use before; `new`: of keys whose
    old value is not known, or that had none, what the call set."""

    incarnation: int
    old: dict[str, Any] = field(default_factory=dict)
    new: dict[str, Any] = field(default_factory=dict)

    def kept(self, options: Mapping[str, Any]) -> list[str]:
        """Those that are not put back."""
        other = [key for key, value in self.old.items() if options.get(key, value) != value]
        return [
            *other,
            *(k for k, value in self.new.items() if k in options and options[k] == value),
        ]


_NOTHING = _Pending(-1)


class OptionLeaks:
    """Watches the settings of one WebUI around each call; used by whoever has its permit. What is
    not settled yet stands in the file `path`, so that the monitor's death makes nobody forget it.

    To undo a setting means POST /options, which writes it into the WebUI's own config.json: the
    value is the one that was in use before, so what stands there afterwards is what was true. It
    also makes the WebUI put that key back by itself from then on (measured).
    """

    def __init__(self, client: Options, path: Path) -> None:
        self._client = client
        self._path = path
        self._pending = _read(path)

    def before_call(
        self, payload: Mapping[str, Any], incarnation: int
    ) -> tuple[list[str], list[str]]:
        """A call is about to be sent: what an earlier one left is settled first, see `undo`, and
        what this one overrides is looked up."""
        undone = self.undo(incarnation)
        if overridden := _overridden(payload):
            options = self._options()
            if options is None:  # no answer now: what it was before is not known
                self._save(_Pending(incarnation, new=overridden))
            elif options:  # stable-diffusion.cpp has next to none, and overrides nothing
                old = {k: options[k] for k in overridden if options.get(k) is not None}
                new = {k: value for k, value in overridden.items() if k not in old}
                self._save(_Pending(incarnation, old, new))
        return undone

    def undo(self, incarnation: int) -> tuple[list[str], list[str]]:
        """The names of the settings that were kept, and have been undone; and of those that cannot
        be. What cannot be asked now is asked the next time."""
        if (
            self._pending.incarnation != incarnation
        ):  # another life of it, which knows nothing of it
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
        """None where there was no answer; nothing of a WebUI that has none."""
        try:
            return self._client.options(QUESTION_TIMEOUT)
        except (WebUIBadRequestError, WebUINotUsableError):
            return {}
        except WebUIError:
            return None

    def _save(self, pending: _Pending) -> None:
        """Within this life it is known without the disk."""
        if pending is self._pending:
            return
        self._pending = pending
        try:
            if pending is _NOTHING:
                disk.remove(self._path)
            else:
                disk.write(self._path, json.dumps(asdict(pending)).encode())
        except (OSError, ValueError) as error:
            log.warning("%s: what the call overrides is not written down: %s", self._path, error)


def _read(path: Path) -> _Pending:
    try:
        said = json.loads(disk.read(path))
        # "generation" was its name until 0.1.0.
        incarnation = said["incarnation"] if "incarnation" in said else said["generation"]
        return _Pending(int(incarnation), dict(said["old"]), dict(said["new"]))
    except FileNotFoundError:
        return _NOTHING
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: cannot be read, and does not count: %s", path, error)
        return _NOTHING


def _overridden(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be put back after this call, and what it sets it to."""
    settings = payload.get("override_settings")
    if not isinstance(settings, Mapping) or not _restores(payload):
        return {}
    return {key: value for key, value in settings.items() if key not in _ALWAYS_RESTORED}


def _restores(payload: Mapping[str, Any]) -> bool:
    return payload.get("override_settings_restore_afterwards") is not False
