"""Settings that a call overrode and the WebUI kept: seen through /options, and undone.

AUTOMATIC1111 and Forge put back only the keys that stand in their config.json, and a fresh install
has none: CLIP_stop_at_last_layers=2 stayed for all jobs after the one that asked for it (measured
with v1.10.1; webui-facts, a1111.md section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sdwatch.errors import WebUIError

QUESTION_TIMEOUT = 5.0

_ALWAYS_RESTORED = ("sd_model_checkpoint",)
"""At the next job, not at the end of this one (measured)."""

_ABSENT = object()


class Options(Protocol):
    """The WebUI's settings. See SDWebUIClient."""

    def options(self, timeout: float) -> dict[str, Any]: ...
    def set_options(self, options: Mapping[str, Any], timeout: float) -> bool: ...


class Leaks:
    """Watches the settings of one WebUI around each call; used by whoever has its permit.

    To undo a setting means POST /options, which writes it into the WebUI's own config.json: the
    value is the one that was in use before, so what stands there afterwards is what was true. It
    also makes the WebUI put that key back by itself from then on (measured).
    """

    def __init__(self, client: Options) -> None:
        self._client = client
        self._generation = -1
        self._old: dict[str, object] = {}  # overridden keys, until they are seen to be put back

    def before(self, payload: Mapping[str, Any], generation: int) -> tuple[list[str], list[str]]:
        """A call is about to be sent: what an earlier one left is settled first, see `settle`, and
        what this one overrides is looked up."""
        settled = self.settle(generation)
        if keys := _overridden(payload):
            options = self._options()
            if options:  # stable-diffusion.cpp has next to none, and overrides nothing
                self._old = {key: options.get(key, _ABSENT) for key in keys}
                self._generation = generation
        return settled

    def settle(self, generation: int) -> tuple[list[str], list[str]]:
        """The names of the settings that were kept, and have been undone; and of those that cannot
        be. What cannot be asked now is asked the next time."""
        if self._generation != generation:  # another life of it, which knows nothing of the last
            self._old = {}
        if not self._old or not (options := self._options()):
            return [], []
        kept = self._kept(options)
        values = {key: self._old[key] for key in kept if self._old[key] not in (_ABSENT, None)}
        if values:
            self._client.set_options(values, QUESTION_TIMEOUT)
            options = self._options()
        left = self._kept(options) if options else kept
        self._old = {}
        return [key for key in kept if key not in left], left

    def _kept(self, options: Mapping[str, Any]) -> list[str]:
        return [key for key, old in self._old.items() if options.get(key, _ABSENT) != old]

    def _options(self) -> dict[str, Any]:
        try:
            return self._client.options(QUESTION_TIMEOUT)
        except WebUIError:
            return {}


def _overridden(payload: Mapping[str, Any]) -> list[str]:
    """What is to be put back after this call."""
    settings = payload.get("override_settings")
    if not isinstance(settings, Mapping) or not _restores(payload):
        return []
    return [key for key in settings if key not in _ALWAYS_RESTORED]


def _restores(payload: Mapping[str, Any]) -> bool:
    return payload.get("override_settings_restore_afterwards") is not False
