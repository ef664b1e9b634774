"""The crash history of one WebUI as a value: crashes in a row, what outlasts a restart. Pure.

lane/crash_history_file.py saves it and reads it again.

The cool-down, for which nothing is started or sent after a crash, is a function of it and of
nothing else: no jitter, so the same history gives the same waiting (promise 6).

Each change returns the new history and the record of it, which is saved before anything that
follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sdwatch.policy.lane.instant import Instant

STABLE_AFTER = 3
"""So many consecutive successful calls end a row of crashes. Idle time never does."""


class IdleFailure(StrEnum):
    """How the WebUI failed without a call of a job. The values are what histories contain."""

    FAILED_SELF_TEST = "failed canary"
    START_FAILED = "failed start"
    CRASHED_REPEATEDLY = "crashed repeatedly"


NEED_SELF_TEST = (IdleFailure.FAILED_SELF_TEST, IdleFailure.CRASHED_REPEATEDLY)
"""After these, the WebUI is ready only once it has passed a self-test."""


@dataclass(frozen=True)
class Crash:
    """One crash in the history. `kind`: what it was, such as a failed canary. `runs`: the different
    jobs in a row that crashed the WebUI, for a crash that stands for all of them."""

    kind: str
    at: Instant
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class HistoryRecord:
    """One line of the history: what happened, when, and more fields by name. `until`: the end of
    the cool-down on the wall clock, None for what starts none."""

    event: str
    at: Instant
    fields: Mapping[str, Any] = field(default_factory=dict)
    until: float | None = None


@dataclass(frozen=True)
class CrashHistory:
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
        """Return the wait after the n-th consecutive crash (n from 1), in seconds; the last one
        repeats."""
        return self.cooldown[min(number, len(self.cooldown)) - 1]

    @property
    def wait(self) -> float:
        """Return the wait after the last crash, in seconds: the longest where it stands for several
        jobs."""
        return self.cooldown[-1] if self.crashes[-1].runs else self.entry(len(self.crashes))

    def remaining(self, now: Instant) -> float:
        """Return the seconds for which nothing may be started or sent; 0 without a cool-down.

        Within one boot the boot clock counts, which nobody can set. After a reboot only the wall
        clock is left, and it may be wrong: what it says is clamped to [0, wait].
        """
        if not self.crashes:
            return 0.0
        last = self.crashes[-1].at
        same_boot = now.boot_id == last.boot_id
        passed = now.boot - last.boot if same_boot else now.wall - last.wall
        return min(max(self.wait - passed, 0.0), self.wait)

    def on_this_boot(self, now: Instant) -> CrashHistory:
        """Return it for a monitor that starts now: the rest of a cool-down from before a reboot is
        computed once from the wall clock, and runs on the boot clock from then on."""
        if not self.crashes or self.crashes[-1].at.boot_id == now.boot_id:
            return self
        passed = self.wait - self.remaining(now)
        at = Instant(now.wall - passed, now.boot - passed, now.boot_id)
        return replace(self, crashes=(*self.crashes[:-1], replace(self.crashes[-1], at=at)))

    def replayed(self, record: Mapping[str, Any]) -> CrashHistory:
        """Return it after a record of its file. Raises ValueError, KeyError, TypeError where that
        cannot be read."""
        event = record["event"]
        if event == "stable":
            return replace(self, crashes=())
        if event in ("self_test_passed", "well"):  # the second: earlier versions
            return replace(self, needs_self_test=False)
        if event == "forgiven":
            left = max(0, len(self.crashes) - int(record["crashes"]))
            return replace(self, crashes=self.crashes[:left])
        if event not in ("crash", "suspects"):  # the second: earlier versions
            return self
        kind = str(record.get("kind", IdleFailure.CRASHED_REPEATEDLY))
        runs = tuple(map(str, record.get("runs", ())))
        failed_fresh = int(record.get("failed_fresh", 0))
        return self._with(Crash(kind, _instant(record), runs), failed_fresh)

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
    ) -> tuple[CrashHistory, HistoryRecord]:
        """Add a crash. `failed_fresh`: the incarnation that failed its self-test before any job's
        call, 0 for none. `runs`: as for Crash. `exit_code`: of its process, None where that did
        not end, or nobody saw it; for people."""
        changed = replace(self._with(Crash(kind, now, runs), failed_fresh), successes=0)
        fields: dict[str, Any] = {
            "kind": kind,
            "in_a_row": changed.in_a_row,
            "cooldown": changed.wait,
        }
        if failed_fresh:
            fields["failed_fresh"] = failed_fresh
        if runs:
            fields["runs"] = list(runs)
        if exit_code is not None:
            fields["exit_code"] = exit_code
        return changed, HistoryRecord("crash", now, fields, until=now.wall + changed.wait)

    def _with(self, crash: Crash, failed_fresh: int) -> CrashHistory:
        return replace(
            self,
            crashes=(*self.crashes, crash),
            needs_self_test=self.needs_self_test or crash.kind in NEED_SELF_TEST,
            failed_fresh=max(self.failed_fresh, failed_fresh),
        )

    def passed_self_test(self, now: Instant) -> tuple[CrashHistory, HistoryRecord | None]:
        """Note that it passed a self-test, or generated what a job asked for."""
        if not self.needs_self_test:
            return self, None
        return replace(self, needs_self_test=False), HistoryRecord("self_test_passed", now)

    def released(self, now: Instant) -> tuple[CrashHistory, HistoryRecord | None]:
        """Note that a person says the WebUI is healthy: jobs that crashed it are to blame."""
        return self.forgive(1 if self.crashed_by(now) else 0, now)

    def forgive(self, count: int, now: Instant) -> tuple[CrashHistory, HistoryRecord | None]:
        """Forget the last so many crashes: a job caused them."""
        if not (count := min(count, len(self.crashes))):
            return self, None
        changed = replace(self, crashes=self.crashes[:-count])
        return changed, HistoryRecord("forgiven", now, {"crashes": count})

    def succeeded(self, now: Instant) -> tuple[CrashHistory, HistoryRecord | None]:
        """Count a call that succeeded. Enough of them in a row, and the WebUI is stable."""
        changed = replace(self, successes=self.successes + 1)
        if not changed.crashes or changed.successes < STABLE_AFTER:
            return changed, None
        return replace(changed, crashes=()), HistoryRecord("stable", now)


def _instant(record: Mapping[str, Any]) -> Instant:
    wall, boot = float(record["wall"]), float(record["boot"])
    if not (math.isfinite(wall) and math.isfinite(boot)):
        raise ValueError("no time")
    return Instant(wall, boot, str(record["boot_id"]))
