"""A box of a cluster on Windows, as far as wine shows it, with broker and dispatcher on this
machine. The environment that make_environment.py made is named in SDWATCH_WINE."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.machines import DRIVER, Cluster, Machine, cluster, shown
from tests.cluster.test_cluster import FIVE, calls_in, check_once, first_image
from tests.support.helpers import free_port, wait_until
from tests.support.monitored import FAST, job

sys.path.insert(0, str(Path(__file__).parent))

from make_environment import wine_environment
from run import PYTHON, end_all

__all__ = ["cluster"]

WINE = "SDWATCH_WINE"
pytestmark = [
    pytest.mark.posix_only("wine's side of it is the box"),
    pytest.mark.skipif(WINE not in os.environ, reason=f"needs {WINE}, see tests/windows/README.md"),
]


class WineBox:
    """A box in the environment `wine`, with a simulator there."""

    def __init__(self, wine: Path, url: str) -> None:
        self._wine, self._url = wine, url
        self.root = wine / "prefix" / "drive_c" / "box"
        shutil.rmtree(self.root, ignore_errors=True)
        (self.root / "spool" / "inbox").mkdir(parents=True)
        (self.root / "driver.py").write_text(DRIVER)
        port = free_port()
        simulator = [PYTHON, "-m", "sdwatch.simulator", "--port", str(port), *FAST]
        webui = {
            "url": f"http://127.0.0.1:{port}",
            "command": [*simulator, "--step-time", "0.5", "--state", r"C:\box\simulator.json"],
            "stop_grace": 1,
            "start_limit": 120,
        }
        config = {
            "spool": r"C:\box\spool",
            "state": r"C:\box\state",
            "min_free": "1 MB",
            "webuis": {"sim": webui},
        }
        (self.root / "sdwatch.yaml").write_text(json.dumps(config))

    @property
    def log(self) -> str:
        file = self.root / "state" / "sdwatch.log"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    @property
    def name(self) -> str:
        file = self.root / "state" / "worker"
        return file.read_text().strip() if file.exists() else ""

    def start(self) -> None:
        """Start its monitor. wine takes pipes alone as standard streams."""
        process = subprocess.Popen(
            ["wine", PYTHON, r"C:\box\driver.py", r"C:\box\sdwatch.yaml", "box", self._url, ""],
            env=wine_environment(self._wine),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdin is not None
        process.stdin.close()
        threading.Thread(target=self._copy, args=(process,), daemon=True).start()

    def _copy(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with open(self.root / "out.txt", "ab") as out:
            while data := process.stdout.read1(65536):  # type: ignore[attr-defined]
                out.write(data)
                out.flush()
        process.wait()

    def kill(self) -> None:
        """End all of it at once, as a power cut does."""
        end_all(self._wine)


@pytest.fixture
def box(cluster: Cluster) -> Iterator[WineBox]:
    made = WineBox(Path(os.environ[WINE]).absolute(), cluster.url)
    try:
        yield made
    except BaseException:
        print((made.root / "out.txt").read_text(errors="replace")[-6000:], made.log[-6000:])
        raise
    finally:
        made.kill()


def box_of(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["webui"]["box"])


def test_a_box_on_windows_generates_and_resumes(cluster: Cluster, box: WineBox) -> None:
    with shown(cluster):
        dispatcher: Machine = cluster.machine("dispatcher", "dispatcher")
        box.start()
        (dispatcher.site.inbox / "tower.yaml").write_text(job("a tower"))
        tower = check_once(dispatcher, 1)
        assert box_of(tower) == box.name
        shutil.rmtree(tower)

        (dispatcher.site.inbox / "castle.yaml").write_text(FIVE)
        run = first_image(dispatcher)
        before = calls_in(run)
        box.kill()
        box.start()
        published = check_once(dispatcher)
        assert box_of(published) == box.name
        for call in before:
            assert box.log.count(f"{run.name}: {call}: sent") == 1, "it was made again"
        posts = json.loads((box.root / "simulator.json").read_text())["posts"]
        assert posts <= 1 + 5 + 1, "one call was cut off"
        working = box.root / "spool" / "working"
        wait_until(lambda: not list(working.glob("*/*/journal.jsonl")), 30, "it keeps no copy")
