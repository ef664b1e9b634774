"""A long night leaves nothing behind in the monitor."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.support.helpers import open_handles, wait_until
from tests.support.monitored import Monitored, job, monitored

CRASH_AT = (9, 17, 25, 33, 41)


def held(monitor: psutil.Process) -> tuple[int, int, int]:
    """How many threads, open files and descendants it has, and how many of these are dead."""
    return monitor.num_threads(), open_handles(monitor), len(monitor.children(recursive=True))


def settled(spool: Monitored, monitor: psutil.Process) -> tuple[int, int, int]:
    """The same once nothing is under way any more: it stays so from one beat to the next."""
    seen: list[tuple[int, tuple[int, int, int]]] = []

    def stays() -> bool:
        status = spool.status()
        if not status or status["runs"] or status["queued"]:
            seen.clear()
        elif not seen or seen[-1][0] != status["beat"]:
            seen.append((status["beat"], held(monitor)))
        return len(seen) > 2 and seen[-1][1] == seen[-2][1]

    wait_until(stays, 40, "the monitor is idle")
    return seen[-1][1]


def test_50_jobs_with_5_crashes_leave_no_thread_descriptor_or_process(tmp_path: Path) -> None:
    plan = "".join(f"- fault: sigkill-mid-step\n  when: {{generation: {n}}}\n" for n in CRASH_AT)
    with monitored(tmp_path, faults=plan, settings={"cooldown": [0]}) as spool:
        monitor = spool.start_process()
        for number in range(5):
            spool.drop(f"first-{number}.yaml", job(seed=number))
        spool.wait_for(done=5)
        before = settled(spool, monitor)

        for number in range(45):
            spool.drop(f"then-{number}.yaml", job(seed=number))
        spool.wait_for(done=50, timeout=90)
        after = settled(spool, monitor)
        assert spool.stats()["starts"] == 1 + len(CRASH_AT)
        assert all(now <= then for now, then in zip(after, before, strict=True)), (before, after)
        assert len(spool.processes()) == 1
