"""Asks the simulator as ComfyUI is asked: prompts, histories, the websocket."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.helpers import wait_until
from tests.webui.kinds import facts
from tests.webui.sim import Simulator, running

Prompt = dict[str, Any]
PROMPTS = facts("comfyui", "prompts")
HISTORIES = facts("comfyui", "histories")
MESSAGES = facts("comfyui", "messages")
REPLIES = facts("comfyui", "replies")
MODEL = "simulated-a.safetensors"
FOREVER_S = 60.0


def node(kind: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def empty(color: int = 0, size: int = 64, batch: int = 1) -> dict[str, Any]:
    return node("EmptyImage", width=size, height=size, batch_size=batch, color=color)


def saved(source: str, prefix: str = "sdw/test", slot: int = 0) -> dict[str, Any]:
    return node("SaveImage", images=[source, slot], filename_prefix=prefix)


def plain(color: int, prefix: str = "sdw/test") -> Prompt:
    """A picture of one colour."""
    return {"1": empty(color), "9": saved("1", prefix)}


def canary(color: int) -> Prompt:
    """What needs no model and uses the device all the same."""
    return {
        "1": empty(color),
        "2": node("ImageBlur", image=["1", 0], blur_radius=3, sigma=1.0),
        "9": node("PreviewImage", images=["2", 0]),
    }


def through(kind: str, /, color: int = 0, **inputs: Any) -> Prompt:
    """A picture of one colour through one more node."""
    return {"1": empty(color), "5": node(kind, image=["1", 0], **inputs), "9": saved("5", "sdw/x")}


def txt2img(text: str = "a castle", **changes: Any) -> Prompt:
    """The workflow of a checkpoint; `changes`: of inputs of the sampler, or of the checkpoint's
    name, the number of pictures and the prefix."""
    name, batch = changes.pop("ckpt_name", MODEL), changes.pop("batch_size", 1)
    prefix = changes.pop("prefix", "sdw/t2i")
    sampler = {"seed": 1, "steps": 4, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal",
               "denoise": 1.0, **changes}  # fmt: skip
    links = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0]}
    return {
        "4": node("CheckpointLoaderSimple", ckpt_name=name),
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=batch),
        "6": node("CLIPTextEncode", text=text, clip=["4", 1]),
        "7": node("CLIPTextEncode", text="", clip=["4", 1]),
        "3": node("KSampler", **sampler, **links, latent_image=["5", 0]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": saved("8", prefix),
    }


@dataclass
class Listener:
    """A websocket, and what came in: messages as they are, previews as bytes."""

    socket: ClientConnection
    messages: list[dict[str, Any]] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)

    def until(self, kind: str, **data: Any) -> dict[str, Any]:
        """Read on until a message of this kind has these data: its data."""
        while True:
            received = self.socket.recv(timeout=FOREVER_S)
            if isinstance(received, bytes):
                self.previews.append(received)
                continue
            message = json.loads(received)
            self.messages.append(message)
            if message["type"] == kind and data.items() <= message["data"].items():
                found: dict[str, Any] = message["data"]
                return found

    def until_closed(self) -> None:
        try:
            self.until("never")
        except ConnectionClosed:
            return

    def kinds(self) -> list[str]:
        return [message["type"] for message in self.messages]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message["data"] for message in self.messages if message["type"] == kind]


@dataclass
class Comfy:
    """A simulated ComfyUI; `base`: the folder with its output/ and input/."""

    sim: Simulator
    base: Path

    def url(self, path: str) -> str:
        return self.sim.url(path)

    def get(self, path: str, **query: Any) -> requests.Response:
        return requests.get(self.url(path), params=query, timeout=FOREVER_S)

    def json(self, path: str, **query: Any) -> Any:
        return self.get(path, **query).json()

    def post(self, path: str, body: Any = None, **more: Any) -> requests.Response:
        return requests.post(self.url(path), json=body, timeout=FOREVER_S, **more)

    def queue(self, prompt: Prompt, **more: Any) -> str:
        """Queue a prompt that is good: its id."""
        reply = self.post("prompt", {"prompt": prompt, **more})
        assert reply.status_code == 200, reply.text
        found: str = reply.json()["prompt_id"]
        return found

    def ended(self, prompt_id: str) -> dict[str, Any]:
        """The entry in the history, once it is there."""
        wait_until(lambda: self.json(f"history/{prompt_id}"), FOREVER_S, why="the end of a prompt")
        entry: dict[str, Any] = self.json(f"history/{prompt_id}")[prompt_id]
        return entry

    def run(self, prompt: Prompt, **more: Any) -> dict[str, Any]:
        """Queue a prompt and wait for its end: its entry in the history."""
        return self.ended(self.queue(prompt, **more))

    def interrupted(self, prompt_id: str) -> dict[str, Any]:
        """Interrupt a prompt until it has ended (one that comes in the moment of its start is
        lost): its entry in the history."""
        body = {"prompt_id": prompt_id}
        wait_until(
            lambda: self.post("interrupt", body) and self.json(f"history/{prompt_id}"), FOREVER_S
        )
        return self.ended(prompt_id)

    def free(self) -> None:
        """Empty the cache. The worker does it between two prompts."""
        assert self.post("free", {"unload_models": True, "free_memory": True}).status_code == 200
        self.run(canary(uuid.uuid4().int % 2**24))

    def runs(self, prompt_id: str) -> bool:
        """Whether this prompt runs."""
        return bool([i for i in self.json("queue")["queue_running"] if i[1] == prompt_id])

    def file(self, image: dict[str, str]) -> Path:
        """The file that a history names."""
        return self.base / image["type"] / image["subfolder"] / image["filename"]

    def picture(self, image: dict[str, str]) -> Image.Image:
        """What /view has of it."""
        opened = Image.open(io.BytesIO(self.get("view", **image).content))
        opened.load()
        return opened

    @contextmanager
    def listening(self, client_id: str) -> Iterator[Listener]:
        url = f"ws://127.0.0.1:{self.sim.port}/ws?clientId={client_id}"
        with connect(url, close_timeout=1) as socket:
            listener = Listener(socket)
            listener.until("status", sid=client_id)
            yield listener


@contextmanager
def comfyui(folder: Path, *flags: str, port: int = 0, plan: str = "") -> Iterator[Comfy]:
    with running(folder, "--kind", "comfyui", *flags, port=port, plan=plan) as sim:
        yield Comfy(sim, folder / "comfyui")


def images_of(entry: dict[str, Any], node_id: str = "9") -> list[dict[str, str]]:
    found: list[dict[str, str]] = entry["outputs"][node_id]["images"]
    return found


def error_of(entry: dict[str, Any]) -> dict[str, Any]:
    """The message of a prompt that failed."""
    kind, data = entry["status"]["messages"][-1]
    assert kind == "execution_error"
    found: dict[str, Any] = data
    return found


def cached_of(entry: dict[str, Any]) -> list[str]:
    found: list[str] = dict(entry["status"]["messages"])["execution_cached"]["nodes"]
    return found
