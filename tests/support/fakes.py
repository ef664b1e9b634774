"""Fakes of the WebUI, and a real spool to run a job in."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from sdwatch.errors import WebUIError, WebUIServerError
from sdwatch.policy.lane.state import Setup
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.spool.archive import claim
from sdwatch.spool.folders import Spool
from sdwatch.spool.inbox import Inbox
from sdwatch.spool.patient_disk import PatientDisk
from sdwatch.spool.recorder import RunRecorder
from sdwatch.spool.run import Run
from sdwatch.stages.runner import StageRunner
from sdwatch.stages.settings import RunSettings
from sdwatch.system.clock import Clock, SystemClock
from sdwatch.webui.http.api import WebUIAPI
from sdwatch.webui.http.call import Sent
from sdwatch.webui.http.client import Reply
from sdwatch.webui.http.roles import CallSettings
from sdwatch.webui.http.run_control import RunControl

Answer = Reply | WebUIError | Callable[[str, Mapping[str, Any]], Reply]


def picture(
    number: int = 0, kind: str = "PNG", size: tuple[int, int] = (64, 64), infotext: str = ""
) -> bytes:
    """The bytes of a small picture of two colours; another number is another picture."""
    buffer = io.BytesIO()
    texts = PngImagePlugin.PngInfo()
    if infotext:
        texts.add_text("parameters", infotext)
    image = Image.new("RGB", size, (number % 256, number // 256 % 256, 90))
    image.paste((200, 200, 200), (0, 0, size[0] // 2, size[1] // 2))
    image.save(buffer, kind, **({"pnginfo": texts} if kind == "PNG" else {}))
    return buffer.getvalue()


def reply(*images: bytes, first_image: int = 0) -> Reply:
    return Reply(images or (picture(),), first_image)


def server_error(text: str = "RuntimeError") -> WebUIServerError:
    return WebUIServerError(f"POST txt2img was answered 500: {text}", stage="txt2img", status=500)


class PlainClient:
    """Gives its answers one after the other, then the last one forever; keeps what was asked.
    It has `generate_images` and nothing else."""

    def __init__(self, *answers: Answer) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self._answers = answers or (reply(),)

    def generate_images(
        self,
        stage: str,
        payload: Mapping[str, Any],
        given_up: Callable[[], bool] = lambda: False,
    ) -> Reply:
        del given_up  # nothing here takes so long
        answer = self._answers[min(len(self.posts), len(self._answers) - 1)]
        self.posts.append((stage, dict(payload)))
        if isinstance(answer, WebUIError):
            raise answer
        return answer if isinstance(answer, Reply) else answer(stage, payload)


class FakeClient(PlainClient):
    """The same, and what the crash-aware call asks of a client beside it."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(*answers)
        self.state: dict[str, Any] = {}  # what /progress says
        self.lists: dict[str, list[Any]] = {}
        self.interrupts = 0
        self.abandons = 0

    def progress(self, timeout: float) -> dict[str, Any]:
        del timeout
        return {"state": self.state}

    def listed(self, name: str, timeout: float) -> list[Any]:
        del timeout
        return self.lists.get(name, [])

    def interrupt(self) -> bool:
        self.interrupts += 1
        return True

    def abandon(self) -> None:
        self.abandons += 1


@dataclass
class FakeProcess:
    """A process manager whose restarts succeed, or not."""

    restarts_well: bool = True
    incarnation: int = 1
    restarts: int = 0
    alive: bool = True
    tail: dict[str, str] = field(default_factory=lambda: {"stdout": "out", "stderr": "err"})

    def is_process_alive(self) -> bool:
        return self.alive

    def get_tail_logs(self, max_lines: int = 200) -> dict[str, str]:
        del max_lines
        return self.tail

    def restart_and_wait_ready(self, timeout_s: float) -> bool:
        assert timeout_s > 0
        self.restarts += 1
        self.incarnation += 1
        return self.restarts_well


def settings_of(**setup: Any) -> CallSettings:
    """Of a WebUI without a lane."""
    return CallSettings(setup=Setup(supervised=False, **setup))


@dataclass
class Workplace:
    """A real spool, and the road of a job through it without a monitor."""

    root: Path
    clock: Clock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self.spool = Spool(self.root / "spool", "worker")
        self.spool.prepare()
        self.control = RunControl()

    def claimed(
        self, job: str, images: Mapping[str, bytes] | None = None, name: str = "job.yaml"
    ) -> Run:
        """Drop a job (a job folder where it has images) and claim it. `name`: in the inbox."""
        target = self.spool.inbox / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if images is not None:
            folder = self.spool.inbox / "folder"
            folder.mkdir()
            for name, data in images.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
            target = folder / "job.yaml"
        target.write_text(job, encoding="utf-8")
        inbox = Inbox(self.spool.inbox, settle=0.0, arrival_timeout=0.0, clock=self.clock)
        (arrival,) = inbox.scan()
        run = claim(arrival, self.spool, self.clock)
        assert run is not None
        return run

    def recorder(self, run: Run, control: RunControl | None = None) -> RunRecorder:
        disk = PatientDisk(run, self.clock, control or self.control)
        return RunRecorder(run, Redactor(), self.clock, disk)

    def runner(self, run: Run, webui: Any = None, **more: Any) -> StageRunner:
        """`webui`: a plain client; None for none. See `recovering` for the crash-aware call."""
        control = more.pop("control", self.control)
        recorder = self.recorder(run, control)
        settings = RunSettings(**more)
        return StageRunner(
            run, webui, recorder, clock=self.clock, settings=settings, control=control
        )

    def recovering(
        self, run: Run, client: Any, process: Any, *, host_snapshots: Any = None, **setup: Any
    ) -> StageRunner:
        """A runner with the crash-aware call. `setup`: of a WebUI without a lane."""
        recorder = self.recorder(run)
        settings = replace(settings_of(**setup), host_snapshots=host_snapshots)
        api = WebUIAPI(client, process, recorder, control=self.control, settings=settings)
        return StageRunner(run, api, recorder, clock=self.clock, control=self.control)

    def resumed(self) -> Run:
        """The one run in working/, as the next start opens it."""
        (folder,) = self.spool.run_folders()
        return Run(folder, self.clock)

    def done(self) -> Path:
        (folder,) = self.spool.done.iterdir()
        return folder

    def failed(self) -> Path:
        (folder,) = self.spool.failed.iterdir()
        return folder


def journal(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def events(folder: Path) -> list[str]:
    return [record["event"] for record in journal(folder)]


def envelope(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "error.json").read_text(encoding="utf-8"))
    return found


def on_a_thread(sent: Sent, act: Callable[[], None]) -> None:
    """In place of the lane's thread for POSTs."""
    del sent
    threading.Thread(target=act, daemon=True).start()
