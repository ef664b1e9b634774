"""Starts the simulator as a real process, for tests that need a WebUI."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.support import warm
from tests.support.helpers import free_port, wait_until

FAST = ("--step-time", "0", "--boot-time", "0", "--load-time", "0", "--switch-time", "0")
PAYLOAD: dict[str, Any] = {
    "prompt": "a cat",
    "steps": 2,
    "width": 64,
    "height": 64,
    "sampler_name": "Euler",
    "seed": 1,
}


@dataclass
class Simulator:
    """One process of it, with its log (both outputs in one file)."""

    port: int
    process: warm.Process
    log: Path
    session: requests.Session = field(default_factory=requests.Session)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path.lstrip('/')}"

    def get(self, name: str, **more: Any) -> requests.Response:
        return self.session.get(self.url(f"sdapi/v1/{name}"), timeout=30, **more)

    def post(self, name: str, fields: Any = None, **more: Any) -> requests.Response:
        return self.session.post(self.url(f"sdapi/v1/{name}"), json=fields, timeout=30, **more)

    def txt2img(self, **fields: Any) -> requests.Response:
        """A good small request with these fields laid over it."""
        return self.post("txt2img", {**PAYLOAD, **fields})

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.get("progress").json()["state"]
        return state

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = requests.get(self.url("simulator/stats"), timeout=30).json()
        return stats

    def lines(self) -> list[str]:
        """The log so far, split as a terminal shows it."""
        return re.split(r"[\r\n]+", self.log.read_text(encoding="utf-8"))

    def is_up(self) -> bool:
        try:
            return requests.get(self.url("simulator/stats"), timeout=5).ok
        except requests.ConnectionError:
            return False

    def exit_code(self) -> int:
        return self.process.wait(timeout=400)


def launch(folder: Path, *flags: str, port: int = 0, plan: str = "") -> Simulator:
    """Start the process and return at once. `plan` is the text of a fault plan."""
    port = port or free_port()
    words = ["-m", "sdwatch.simulator", "--port", str(port), *FAST, *flags]
    if "comfyui" in flags and "--base-directory" not in flags:
        (folder / "comfyui/custom_nodes").mkdir(parents=True, exist_ok=True)
        words += ["--base-directory", str(folder / "comfyui")]
    if plan:
        (folder / "faults.yaml").write_text(plan, encoding="utf-8")
        words += ["--faults", str(folder / "faults.yaml")]
    log = folder / f"simulator-{port}.log"
    env = {**os.environ, "SDWATCH_TEST": "1"}
    process = warm.begin(*words, out=log, env=env, creationflags=0)
    return Simulator(port, process, log)


@contextmanager
def running(folder: Path, *flags: str, port: int = 0, plan: str = "") -> Iterator[Simulator]:
    """A simulator that is up; killed at the end, whatever became of it."""
    sim = launch(folder, *flags, port=port, plan=plan)
    try:
        wait_until(
            lambda: sim.is_up() or sim.process.poll() is not None, why=f"start, see {sim.log}"
        )
        assert sim.process.poll() is None, sim.log.read_text(encoding="utf-8")
        yield sim
    finally:
        sim.process.kill()
        sim.process.wait()
