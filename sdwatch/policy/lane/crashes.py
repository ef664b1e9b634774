"""The crash history of one WebUI as a value: crashes in a row, what outlasts a restart. Pure.

Each change returns the new history and the record of it, which is saved before anything that
follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sdwatch.policy.failure.cooldown import (
    STABLE_AFTER,
    Crash,
    Instant,
    delay_after,
    entry_of,
    remaining,
)


class IdleFailure(StrEnum):
    """How the WebUI failed without a call of a job. The values are what histories contain."""

    FAILED_SELF_TEST = "failed canary"
    START_FAILED = "failed start"
    CRASHED_REPEATEDLY = "crashed repeatedly"


NEED_SELF_TEST = (IdleFailure.FAILED_SELF_TEST, IdleFailure.CRASHED_REPEATEDLY)
"""After these, the WebUI is ready only once it has passed a self-test."""


@dataclass(frozen=True)
class Record:
    """One line of the history: what happened, when, and more fields by name. `until`: the end of
    the cool-down on the wall clock, None for what starts none."""

    event: str
    at: Instant
    fields: Mapping[str, Any] = field(default_factory=dict)
    until: float | None = None


@dataclass(frozen=True)
class History:
    """`crashes`: since the WebUI was last stable, oldest first. `needs_self_test`: since one of
    NEED_SELF_TEST it has passed none. `failed_fresh`: the last incarnation that failed one before
    any job's call, 0 for none. `successes`: calls in a row."""

    cooldown: tuple[float, ...]
    crashes: tuple[Crash, ...] = ()
    needs_self_test: bool = False
    failed_fresh: int = 0
    successes: int = 0

    @property
    def in_a_row(self) -> int:
        """Return the number of crashes since the WebUI was last stable."""
        return len(self.crashes)

    def entry(self, number: int) -> float:
        """Return the n-th entry of the cool-down (n from 1), in seconds."""
        return delay_after(number, self.cooldown)

    def remaining(self, now: Instant) -> float:
        """Return the seconds for which nothing may be started or sent; 0 without a cool-down."""
        return remaining(self.crashes, self.cooldown, now)

    def crashed_by(self, now: Instant) -> tuple[str, ...]:
        """Return the runs that crashed it in a row, while their cool-down lasts, else ()."""
        return self.crashes[-1].runs if self.remaining(now) > 0 else ()

    def crashed(
        self,
        kind: str,
        now: Instant,
        failed_fresh: int = 0,
        runs: tuple[str, ...] = (),
        exit_code: int | None = None,
    ) -> tuple[History, Record]:
        """Add a crash. `failed_fresh`: the incarnation that failed its self-test before any job's
        call, 0 for none. `runs`: as for Crash. `exit_code`: of its process, None where that did
        not end, or nobody saw it; for people."""
        crashes = (*self.crashes, Crash(kind, now, runs))
        entry = entry_of(crashes, self.cooldown)
        fields: dict[str, Any] = {"kind": kind, "in_a_row": len(crashes), "cooldown": entry}
        if failed_fresh:
            fields["failed_fresh"] = failed_fresh
        if runs:
            fields["runs"] = list(runs)
        if exit_code is not None:
            fields["exit_code"] = exit_code
        changed = replace(
            self,
            crashes=crashes,
            needs_self_test=self.needs_self_test or kind in NEED_SELF_TEST,
            failed_fresh=max(self.failed_fresh, failed_fresh),
            successes=0,
        )
        return changed, Record("crash", now, fields, until=now.wall + entry)

    def passed_self_test(self, now: Instant) -> tuple[History, Record | None]:
        """Note that it passed a self-test, or generated what a job asked for."""
        if not self.needs_self_test:
            return self, None
        return replace(self, needs_self_test=False), Record("self_test_passed", now)

    def released(self, now: Instant) -> tuple[History, Record | None]:
        """Note that a person says the WebUI is healthy: jobs that crashed it are to blame."""
        return self.forgive(1 if self.crashed_by(now) else 0, now)

    def forgive(self, count: int, now: Instant) -> tuple[History, Record | None]:
        """Forget the last so many crashes: a job caused them."""
        if not (count := min(count, len(self.crashes))):
            return self, None
        changed = replace(self, crashes=self.crashes[:-count])
        return changed, Record("forgiven", now, {"crashes": count})

    def succeeded(self, now: Instant) -> tuple[History, Record | None]:
        """Count a call that succeeded. Enough of them in a row, and the WebUI is stable."""
        changed = replace(self, successes=self.successes + 1)
        if not changed.crashes or changed.successes < STABLE_AFTER:
            return changed, None
        return replace(changed, crashes=()), Record("stable", now)
