"""What the tests of the simulator's kinds share: what was measured, and how they ask."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from pathlib import Path
from typing import Any

import requests
from PIL import Image

from tests.support.helpers import wait_until
from tests.webui.sim import PAYLOAD, Simulator, running

FACTS = Path(__file__).parents[1] / "facts"
OTHERS = ("a1111", "sdnext", "sdcpp")
CORRUPT = {"sd_model_checkpoint": "simulated-corrupt"}
GOOD = {"sd_model_checkpoint": "simulated-b"}


def facts(kind: str, name: str) -> Any:
    return json.loads((FACTS / kind / f"{name}.json").read_text(encoding="utf-8"))


REPLIES = {kind: facts(kind, "replies") for kind in OTHERS}


def picture(width: int = 96, height: int = 64) -> str:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 50).convert("RGB").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


PICTURE = picture()


def opened(image: str) -> Image.Image:
    found = Image.open(io.BytesIO(base64.b64decode(image)))
    found.load()
    return found


def info_of(reply: requests.Response) -> dict[str, Any]:
    info: dict[str, Any] = json.loads(reply.json()["info"])
    return info


class Pool:
    """One simulator for each kind, for the tests that leave it as it was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Any] = {}

    def get(self, kind: str) -> Simulator:
        if kind not in self._running:
            folder = self._folder / kind
            folder.mkdir()
            manager = running(folder, "--kind", kind)
            self._running[kind] = (manager, up(manager.__enter__(), kind))
        sim: Simulator = self._running[kind][1]
        return sim

    def close(self) -> None:
        for manager, _ in self._running.values():
            manager.__exit__(None, None, None)


def up(sim: Simulator, kind: str) -> Simulator:
    """The simulator, once its checkpoint is loaded, where that is to be waited for."""
    if kind == "sdnext":
        wait_until(lambda: sim.get("checkpoint").json()["type"])
        wait_until(lambda: "Startup time" in log(sim))
    if kind == "a1111":
        wait_until(lambda: "Model loaded" in log(sim))
    return sim


def log(sim: Simulator) -> str:
    return sim.log.read_text(encoding="utf-8")


def log_of(sim: Simulator) -> str:
    """The log with what rich has wrapped put together again."""
    return " ".join(log(sim).split())


def in_background(sim: Simulator, **fields: Any) -> tuple[threading.Thread, list[Any]]:
    """A txt2img on a thread, and the list that its reply or its error will be in."""
    found: list[Any] = []

    def ask() -> None:
        try:
            body = {**PAYLOAD, **fields}
            found.append(requests.post(sim.url("sdapi/v1/txt2img"), json=body, timeout=30))
        except requests.RequestException as e:
            found.append(e)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread, found


def faults(name: str, **more: Any) -> str:
    return json.dumps([{"fault": name, "when": {"generation": 1}, **more}])


def same_shape(mine: Any, recorded: Any, where: str = "body") -> None:
    """The same keys and JSON types, all the way down; of a list, its first item."""
    assert type(mine) is type(recorded), where
    if isinstance(recorded, dict):
        if where != "body.parameters":
            assert list(mine) == list(recorded), where
        for key in recorded:
            same_shape(mine[key], recorded[key], f"{where}.{key}")
    if isinstance(recorded, list) and recorded:
        assert mine, where
        same_shape(mine[0], recorded[0], f"{where}[0]")


def refused(sim: Simulator) -> bool:
    try:
        socket.create_connection(("127.0.0.1", sim.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionError:
        return False  # in the moment of its closing
    return False
