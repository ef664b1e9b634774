"""`sdwatch demo`: run three jobs on the simulator, with one crash, and explain what happened."""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from sdwatch.cli.shared.chosen_config import CONFIG, FOR_YOUR_OWN
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.plain_lines import say
from sdwatch.cli.shared.session import Session
from sdwatch.config_file import load_config
from sdwatch.monitor.once import MonitorEnd
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.policy.queue.run_names import IMAGES
from sdwatch.spool.diagnostics import ENVELOPE, WHY
from sdwatch.spool.folders import Spool
from sdwatch.spool.manifest import MANIFEST
from sdwatch.system import disk

LIMIT = 90.0
"""Seconds after which the demo gives up."""

_CONFIG = """\
# Written by `sdwatch demo`.
spool: .
state: state
settle: 0.5
min_free: 50 MB
cooldown: [3, 6, 12]
webuis:
  simulator:
    url: http://127.0.0.1:{port}
    command: ["{{python}}", -m, sdwatch.simulator, --port, "{{port}}", --step-time, "0.25",
              --faults, faults.yaml, --state, state/simulator.json]
    cwd: .
    stop_grace: 3
"""

_FAULTS = """\
# The WebUI is killed while it generates the lighthouse for the first time.
- fault: sigkill-mid-step
  when: {prompt: lighthouse}
  times: once
  at: 0.6
"""

_JOBS = {
    "castle.yaml": """\
# Three stages: each takes the images of the one before it.
priority: 2
stages:
  - txt2img:
      prompt: a castle on a hill
      seed: 42
      steps: 20
  - img2img:
      prompt: a castle on a hill, oil painting
      denoising_strength: 0.6
      seed: 43
      steps: 20
  - upscale:
      upscaler_1: R-ESRGAN 4x+
      upscaling_resize: 2
""",
    "lighthouse.yaml": """\
# The WebUI dies in the middle of this one.
priority: 1
prompt: a lighthouse in a storm
seed: 7
steps: 20
""",
    "mistake.yaml": """\
# One field is misspelt.
prompt: a village by a river
stepz: 20
""",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("sdwatch-demo"),
        metavar="DIR",
        help="default: ./%(default)s; if that is not empty, a new folder in it",
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Run the demo; the exit code says whether it went as promised. Raises SpoolError, OSError."""
    began = time.monotonic()
    folder = _fresh(args.folder.absolute())
    _set_up(folder)
    say(f"Three jobs and a simulated WebUI, in {folder}. The WebUI will be killed once.")
    say("The pictures are not real: they come from the simulator; no GPU is needed.")
    session = Session(load_config(folder / CONFIG), folder / CONFIG, once=True)
    limit = threading.Timer(LIMIT, session.monitor.stop)
    limit.start()
    try:
        result = session.run()
    finally:
        in_time = limit.is_alive()
        limit.cancel()
    outcome = _outcome(Spool(folder, ""), time.monotonic() - began)
    if outcome is None and result is MonitorEnd.STOPPED and in_time:
        say(f"The demo was stopped. Its files are in {folder}")
        return ExitCode.INTERRUPTED
    if outcome is None:
        say(
            f"The demo did not end as promised ({result}). Please report it, with the log "
            f"{folder / 'state' / 'sdwatch.log'}; all its files are in {folder}"
        )
        return ExitCode.DEMO_FAILED
    say(outcome)
    return ExitCode.OK


def _fresh(folder: Path) -> Path:
    """Return `folder`, or a new one in it if it is not empty."""
    number, fresh = 1, folder
    while fresh.exists() and (not fresh.is_dir() or any(fresh.iterdir())):
        number += 1
        fresh = folder / f"demo-{number}"
    return fresh


def _set_up(folder: Path) -> None:
    Spool(folder, "").prepare()
    (folder / "state").mkdir(exist_ok=True)
    files = {CONFIG: _CONFIG.format(port=free_port()), "faults.yaml": _FAULTS}
    files |= {f"inbox/{name}": text for name, text in _JOBS.items()}
    for name, text in files.items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)  # a config that others may write is refused, and so it is with umask 0


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _outcome(spool: Spool, seconds: float) -> str | None:
    """Return what came out, in words; None if it is not what the demo promises."""
    manifests = (json.loads(disk.read(path)) for path in spool.done.glob(f"*/{MANIFEST}"))
    done = {manifest["source"]: manifest for manifest in manifests}
    whys = list(spool.failed.glob(f"*/{WHY}"))
    if set(done) != {"castle.yaml", "lighthouse.yaml"} or len(whys) != 1:
        return None
    castle = _final_images(spool, done["castle.yaml"])
    lighthouse = _final_images(spool, done["lighthouse.yaml"])
    cost = _crash_cost(done["lighthouse.yaml"])
    if not castle or not lighthouse or cost is None:
        return None
    cause = printable_text(json.loads(disk.read(whys[0].with_name(ENVELOPE)))["message"])
    return "\n".join(
        [
            "",
            f"That took {seconds:.0f} s. What happened:",
            "",
            "1. castle went through three stages: txt2img, img2img, upscale. Its picture:",
            *(f"     {path}" for path in castle),
            "2. lighthouse: the WebUI was killed in the middle of it. sdwatch noticed, waited",
            "   for the cool-down, restarted the WebUI, and sent the call once more",
            f"   {cost:.1f} s after the crash. No job was lost. Its picture:",
            *(f"     {path}" for path in lighthouse),
            "3. mistake has a misspelt field. It failed at once, and its WHY.txt says why:",
            f"     {whys[0]}",
            *(f"     | {line}" for line in cause.splitlines()),
            "",
            f"With your own WebUI: {FOR_YOUR_OWN}",
        ]
    )


def _final_images(spool: Spool, manifest: dict[str, Any]) -> list[Path]:
    folder = spool.done / manifest["run_id"] / IMAGES
    paths = [folder / image["name"] for image in manifest["calls"][-1]["images"]]
    return paths if all(path.is_file() for path in paths) else []


def _crash_cost(manifest: dict[str, Any]) -> float | None:
    """Return the seconds from the failure of the first attempt to the start of the second."""
    attempts = manifest["calls"][0]["attempts"]
    if len(attempts) != 2:
        return None
    failed, again = attempts[0]["ended"], attempts[1]["began"]
    return (datetime.fromisoformat(again) - datetime.fromisoformat(failed)).total_seconds()
