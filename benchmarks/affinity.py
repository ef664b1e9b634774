"""What it saves to serve jobs first whose checkpoint is loaded: loads and seconds of a night.

200 jobs over four checkpoints in random order, a switch of 5 s, an image of 1 s: simulated with the
real policy on an injected clock, in the plain order and with several limits (`affinity_max_wait`).
`latest` is by how much the job that lost most starts later than in the plain order; it must not be
more than the limit, the run under way, and its switch. Then a real night of --jobs jobs over the
two checkpoints of the simulator, at a fiftieth of these times. Returns 1 where a night needs more
loads than checkpoints without a limit in its way, or a job waits too long.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import common

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.nights import night_of, simulated

SWITCH, IMAGE = 5.0, 1.0
LIMITS = (None, 10.0, 30.0, 60.0, 120.0, 600.0)
_PARTS = 50
_STEPS = 4


@dataclass(frozen=True)
class Real:
    """A night of real runs: `loads` of checkpoints, and seconds from the first claim to the end."""

    loads: int
    seconds: float


def main() -> int:
    """Return the command's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=40, help="of the real night")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    good = _simulated_nights(args.seed)
    rows = []
    for limit in ("off", "10 min"):
        night = _real_night(args.jobs, args.seed, limit)
        rows.append((limit, str(night.loads), f"{night.seconds:.1f} s"))
        good &= limit == "off" or night.loads <= 2
    common.print_table(("real, limit", "loads", "seconds"), rows)
    return 0 if good else 1


def _simulated_nights(seed: int) -> bool:
    jobs = night_of(seed)
    plain = simulated(jobs, None, switch=SWITCH, image=IMAGE)
    rows, good = [], True
    for limit in LIMITS:
        night = simulated(jobs, limit, switch=SWITCH, image=IMAGE)
        latest = max(night.started[job] - plain.started[job] for job in plain.started)
        good &= limit is None or latest <= limit + SWITCH + IMAGE
        shown = "off" if limit is None else f"{limit:g} s"
        rows.append((shown, str(night.loads), f"{night.seconds:.0f} s", f"{latest:.0f} s"))
    common.print_table(("simulated, limit", "loads", "seconds", "latest"), rows)
    return good and night.loads == len({job.needs for job in jobs})


def _real_night(jobs: int, seed: int, limit: str) -> Real:
    drawn = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        root, port = Path(folder), common.free_port()
        speed = ("--step-time", str(IMAGE / _PARTS / _STEPS), "--boot-time", "0")
        loads = ("--load-time", str(SWITCH / _PARTS), "--switch-time", str(SWITCH / _PARTS))
        command = (sys.executable, "-m", "sdwatch.simulator", "--port", str(port), *speed, *loads)
        config = common.make_config(root, command, port)
        wait = None if limit == "off" else 600.0
        config = config.model_copy(update={"affinity_max_wait": wait, "settle": 0.0})
        for number in range(jobs):
            name = f"simulated-{drawn.choice('ab')}"
            fields = {"prompt": "a castle", "width": 64, "height": 64, "steps": _STEPS}
            override = {"override_settings": {"sd_model_checkpoint": name}}
            common.drop(config, f"{number:03}", {**fields, **override})
        seconds, _ = common.run_monitor(config, jobs)
        printed = sorted((config.state).rglob("*.log"))
        text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in printed)
        return Real(text.count("Model loaded in"), seconds)


if __name__ == "__main__":
    sys.exit(main())
