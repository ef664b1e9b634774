"""The routes, and the bytes on the wire. Facts about bodies and codes: Forge dfdcbab6."""

from __future__ import annotations

import base64
import binascii
import http.server
import json
import mmap
import os
import socketserver
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sdwatch.simulator import console, forge, pictures, validation
from sdwatch.simulator.checks import check_scripts
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.failures import CrashedError, RefusedError
from sdwatch.simulator.faults import STAGES, Plan
from sdwatch.simulator.generation import Machine

API = "/sdapi/v1/"
STATS = "/simulator/stats"
_KEEP_ALIVE_S = 30
_TOTAL_RAM = 25_276_510_208.0


@dataclass
class Request:
    """What came in. `path` is without the query; `canary`: it says that it is no job's."""

    method: str
    path: str
    query: dict[str, list[str]]
    authorization: str | None
    raw: bytes
    canary: bool = False


@dataclass
class Response:
    """What goes out. `damage` may cut it on its way; `crash` is logged after the access line."""

    status: int
    raw: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    damage: Damage | None = None
    crash: CrashedError | None = None


def as_json(status: int, value: Any, **more: Any) -> Response:
    raw = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(status, raw, **more)


class Site:
    """Every route with what answers it."""

    def __init__(
        self,
        machine: Machine,
        plan: Plan,
        *,
        port: int,
        auth: str | None = None,
        has_api: bool = True,
        ignore_sigterm: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._plan = plan
        self._port = port
        self._auth = auth
        self._has_api = has_api
        self._ignore_sigterm = ignore_sigterm
        self._get: dict[str, Callable[[Request], Any]] = {
            "progress": self._progress,
            "options": lambda _: machine.options,
            "sd-models": lambda _: self._sd_models(),
            "memory": lambda _: _memory(),
            "cmd-flags": lambda _: self._cmd_flags(),
            **{n: _constant([]) for n in ("loras", "sd-modules", "hypernetworks", "extensions")},
            "embeddings": _constant({"loaded": {}, "skipped": {}}),
        }
        for name in (
            "samplers", "schedulers", "upscalers", "latent-upscale-modes", "face-restorers",
            "scripts",
        ):  # fmt: skip
            self._get[name] = _constant(forge.LISTS[name])
        self._post: dict[str, Callable[[Request], Any]] = {
            "interrupt": lambda _: self._interrupt(),
            "skip": lambda _: self._skip(),
            "options": lambda r: machine.set_options(
                validation.check_object(validation.parse(r.raw))
            ),
            "png-info": _png_info,
            "unload-checkpoint": lambda _: self._unload(),
            "reload-checkpoint": _constant({}),
            "refresh-checkpoints": _constant(None),
            "refresh-vae": _constant(None),
        }

    def answer(self, request: Request) -> Response:
        """Answer any request; failures become the bodies that a WebUI gives."""
        try:
            return self._route(request)
        except RefusedError as e:
            return as_json(e.status, {"detail": e.detail})
        except CrashedError as e:
            if e.text_only:
                return Response(500, b"Internal Server Error", "text/plain; charset=utf-8", crash=e)
            return as_json(500, e.body(), crash=e)

    def _route(self, request: Request) -> Response:
        if not request.path.startswith(API):
            return self._outside(request)
        if not self._has_api:
            raise RefusedError(404, "Not Found")
        name = request.path.removeprefix(API)
        methods = {
            **({"GET": self._get[name]} if name in self._get else {}),
            **({"POST": self._post[name]} if name in self._post else {}),
        }
        if name in STAGES:
            methods = {"POST": self._generate}
        if not methods:
            raise RefusedError(404, "Not Found")
        if request.method not in methods:
            allow = {"allow": ", ".join(methods)}
            return as_json(405, {"detail": "Method Not Allowed"}, headers=allow)
        if refusal := self._unauthorized(request.authorization):
            return as_json(401, {"detail": refusal}, headers={"www-authenticate": "Basic"})
        value = methods[request.method](request)
        return value if isinstance(value, Response) else as_json(200, value)

    def _outside(self, request: Request) -> Response:
        if request.path == STATS:
            return as_json(200, self._plan.stats())
        if request.path == "/openapi.json" and self._has_api:
            return as_json(200, forge.OPENAPI)
        if request.path == "/" and not self._has_api:
            return Response(200, b"<!doctype html><title>Stable Diffusion</title>", "text/html")
        raise RefusedError(404, "Not Found")

    def _unauthorized(self, header: str | None) -> str | None:
        """Why the request may not pass, None if it may."""
        if self._auth is None:
            return None
        scheme, _, encoded = (header or "").partition(" ")
        if scheme.lower() != "basic":
            return "Not authenticated"
        try:
            given = base64.b64decode(encoded).decode()
        except (binascii.Error, ValueError):
            return "Invalid authentication credentials"
        return None if given == self._auth else "Incorrect username or password"

    def _generate(self, request: Request) -> Response:
        stage = request.path.removeprefix(API)
        damage = self._damage(stage, request)
        fields = validation.check(validation.parse(request.raw), forge.SCHEMAS[stage])
        if stage == "img2img" and fields["init_images"] is None:
            raise RefusedError(404, "Init image not found")
        if stage != "extra-single-image":
            check_scripts(stage, fields)
        return Response(200, self._machine.run(stage, fields, damage), damage=damage)

    def _damage(self, stage: str, request: Request) -> Damage:
        """Count the request, whatever becomes of it, and get its faults."""
        try:
            prompt = json.loads(request.raw).get("prompt", "")
        except (ValueError, AttributeError):
            prompt = ""
        prompt = prompt if isinstance(prompt, str) else ""
        faults = self._plan.request(stage, prompt, request.canary)
        return Damage(faults, self._ignore_sigterm, lambda: self._machine.state.interrupted)

    def _progress(self, request: Request) -> dict[str, Any]:
        without = request.query.get("skip_current_image", ["false"])[0].lower()
        return self._machine.state.progress(with_image=without not in ("true", "1"))

    def _sd_models(self) -> list[dict[str, Any]]:
        return [c.item() for c in forge.CHECKPOINTS] if self._machine.has_model else []

    def _interrupt(self) -> dict[str, Any]:
        self._machine.state.interrupted = True
        return {}

    def _skip(self) -> None:
        self._machine.state.skipped = True

    def _unload(self) -> dict[str, Any]:
        self._machine.loaded = None
        return {}

    def _cmd_flags(self) -> None:
        """Always a 500 in Forge, whose port is an integer where its schema says string."""
        mistake = {
            "type": "string_type",
            "loc": ("response", "port"),
            "msg": "Input should be a valid string",
            "input": self._port,
            "url": "https://errors.pydantic.dev/2.8/v/string_type",
        }
        name = "ResponseValidationError"
        flags = {**forge.LISTS["cmd-flags"], "port": self._port}
        message = f"1 validation errors:\n  {mistake}\n"
        raise CrashedError(name, message, qualified=f"fastapi.exceptions.{name}", answered=flags)


def _constant(value: Any) -> Callable[[Request], Any]:
    return lambda _: value


def _png_info(request: Request) -> dict[str, Any]:
    fields = validation.check(validation.parse(request.raw), forge.SCHEMAS["png-info"])
    text = pictures.infotext_of(pictures.decode(fields["image"]))
    return {"info": text, "items": {}, "parameters": forge.parse_infotext(text)}


def _memory() -> dict[str, Any]:
    """Our own memory in bytes, where the system tells; the graphics card is not there."""
    used = 688_119_808
    statm = Path("/proc/self/statm")
    if statm.exists():
        used = int(statm.read_text().split()[1]) * mmap.PAGESIZE
    free = _TOTAL_RAM - used
    ram = {"free": free, "used": used, "total": _TOTAL_RAM}
    return {"ram": ram, "cuda": {"error": "unavailable"}}


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection: reads requests, writes replies, each in one go."""

    protocol_version = "HTTP/1.1"
    timeout = _KEEP_ALIVE_S
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def _serve(self) -> None:
        url = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        request = Request(
            self.command,
            url.path,
            parse_qs(url.query),
            self.headers.get("authorization"),
            raw,
            canary="x-sdwatch-canary" in self.headers,
        )
        response = self.server.site.answer(request)
        if url.path != STATS:
            self._log(response)
        self._send(response)

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _serve  # noqa: N815

    def _log(self, response: Response) -> None:
        host, port = self.client_address[:2]
        reason = HTTPStatus(response.status).phrase
        console.out(
            f'INFO:     {host}:{port} - "{self.command} {self.path} HTTP/1.1" '
            f"{response.status} {reason}"
        )
        if response.crash:
            console.traceback(response.crash.last_line())

    def _send(self, response: Response) -> None:
        damage, length = response.damage, len(response.raw)
        cut = damage.cut_reply(length) if damage else None
        self.send_response_only(response.status)
        self.send_header("date", self.date_time_string())
        self.send_header("server", "uvicorn")
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(length))
        self.send_header("content-type", response.content_type)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.raw if cut is None else response.raw[:cut])
        self.wfile.flush()
        if damage and cut is not None:
            self.close_connection = True
            damage.after_cut()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the access line is ours."""


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread for each connection. Raises OSError where the port cannot be bound."""

    daemon_threads = True
    # On Windows this option would let two servers share the port.
    allow_reuse_address = os.name == "posix"
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        self.site = site
        super().__init__(address, Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event; anything else is a mistake of ours, and is shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)
