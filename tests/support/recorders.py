"""The recorder of a call that belongs to no run: its journal is kept in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.spool.recorder import RunRecorder
from sdwatch.spool.run import Run
from sdwatch.system.clock import SystemClock


class _InMemory(Run):
    """A run without a folder."""

    def __init__(self) -> None:
        super().__init__(Path("no such run"), SystemClock())
        self._records: list[Mapping[str, Any]] = []

    @property
    def records(self) -> Sequence[Mapping[str, Any]]:
        return self._records

    def record(self, event: str, /, **data: Any) -> None:
        self._records.append({"at": self.now(), "event": event, **data})
        for noted in self._noted(self._records[-1:]):
            self.ledger.apply(noted)


def recorder_alone(redactor: Redactor | None = None) -> RunRecorder:
    """What records one call in memory, and its evidence where the call has a `run_dir`."""
    return RunRecorder(_InMemory(), redactor or Redactor(), SystemClock())
