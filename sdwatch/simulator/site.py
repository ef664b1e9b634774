"""The routes and the bodies of the replies. Facts about bodies and codes: Forge dfdcbab6."""

from __future__ import annotations

import base64
import binascii
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BufferedIOBase
from typing import Any

from sdwatch.simulator import infotext
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.failures import CrashedError, RefusedError
from sdwatch.simulator.faults import STAGES, Plan
from sdwatch.simulator.generation import Machine
from sdwatch.simulator.traits import Traits

API = "/sdapi/v1/"
STATS, GPU = "/simulator/stats", "/simulator/gpu"
MEBIBYTE = 1024 * 1024
_TOTAL_RAM = 25_276_510_208.0
Routes = dict[str, Callable[["Request"], Any]]


@dataclass
class Request:
    """What came in. `path` is without the query; `client` is an address; `canary`: it says that it
    is not a job's; `headers`: by their names in lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    authorization: str | None
    raw: bytes
    client: str = "127.0.0.1"
    canary: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the route below /sdapi/v1/; of another path its last part."""
        is_api = self.path.startswith(API)
        return self.path.removeprefix(API) if is_api else self.path.rpartition("/")[2]

    def first(self, name: str) -> str | None:
        """Return a field of the query."""
        return next(iter(self.query.get(name, ())), None)


@dataclass
class Response:
    """What goes out. `damage` may cut it on its way; `crash`: what the log says of it.

    Without a `content_type` there is no body. `takes_over`: what becomes of the connection instead
    of a reply; it gets the socket, what reads from it, and the request as it came.
    """

    status: int
    raw: bytes = b""
    content_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    damage: Damage | None = None
    crash: CrashedError | None = None
    seconds: float = 0.0
    takes_over: Callable[[socket.socket, BufferedIOBase, bytes], None] | None = None


def as_json(status: int, value: Any, **more: Any) -> Response:
    raw = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(status, raw, "application/json", **more)


@dataclass(frozen=True)
class Settings:
    """What the flags say about the API. `rate_limit` and `extras_work` are for SD.Next;
    `late_answers`: see Site.is_late; `max_upload`: bytes of a body, for ComfyUI."""

    port: int
    auth: str | None = None
    has_api: bool = True
    rate_limit: int | None = None
    extras_work: bool = False
    late_answers: int = 0
    max_upload: int = 100 * MEBIBYTE


class Site:
    """Every route with what answers it; Forge's. Another kind overrides what differs."""

    listed: tuple[str, ...] = (
        "samplers", "schedulers", "upscalers", "latent-upscale-modes", "face-restorers",
        "scripts", "script-info",
    )  # fmt: skip
    """GET routes that answer a list of the kind's data."""
    empty: tuple[str, ...] = ("loras", "sd-modules", "hypernetworks", "extensions")
    """GET routes that answer [], unless the kind's data have such a list."""
    stages: tuple[str, ...] = STAGES
    wrong_password = "Incorrect username or password"

    def __init__(
        self,
        traits: Traits,
        machine: Machine,
        plan: Plan,
        settings: Settings,
        ignore_sigterm: Callable[[], None],
    ) -> None:
        self.traits = traits
        self.machine = machine
        self.plan = plan
        self.settings = settings
        self._ignore_sigterm = ignore_sigterm
        self._late: Counter[bool] = Counter()
        self._get = self.get_routes()
        self._post = self.post_routes()

    # -- what another kind overrides

    def get_routes(self) -> Routes:
        return {
            "progress": self._progress,
            "options": lambda _: self.machine.options,
            "sd-models": lambda _: self.machine.models(),
            "memory": lambda _: _memory(),
            "cmd-flags": lambda _: self.cmd_flags(),
            "embeddings": constant({"loaded": {}, "skipped": {}}),
            **{n: constant(self.traits.lists.get(n, [])) for n in self.empty},
            **{n: constant(self.traits.lists[n]) for n in self.listed},
        }

    def post_routes(self) -> Routes:
        return {
            "interrupt": lambda _: self.interrupt(),
            "skip": lambda _: self.skip(),
            "options": lambda r: self.machine.set_options(self._object(r)),
            "png-info": lambda r: self.png_info(r),
            "unload-checkpoint": lambda _: self.unload(),
            "reload-checkpoint": lambda _: self.reload(),
            "refresh-checkpoints": lambda _: self.machine.refresh(),
            "refresh-vae": constant(None),
        }

    def standing_headers(self, date: str) -> dict[str, str]:
        """Return the headers that every reply starts with."""
        return {"date": date, "server": "uvicorn"}

    def refused(self, e: RefusedError) -> Any:
        """Return the body for an HTTPException or a failed validation."""
        return {"detail": e.detail}

    def crashed(self, e: CrashedError) -> Any:
        """Return the body for any other exception; its text can be empty."""
        return {"error": e.error, "detail": "", "body": e.answered, "message": e.message}

    def missing(self) -> Response:
        """Return what a route that does not exist answers."""
        return as_json(404, {"detail": "Not Found"})

    def not_allowed(self, methods: list[str]) -> Response:
        """Return what a route answers to another method than these."""
        allow = {"allow": ", ".join(methods)}
        return as_json(405, {"detail": "Method Not Allowed"}, headers=allow)

    def unauthorized(self, reason: str) -> Response:
        headers = {"www-authenticate": "Basic"}
        return as_json(401, {"detail": reason}, headers=headers)

    def page(self) -> Response | None:
        """Return what is at /: the user interface, where it was started without --api."""
        if self.settings.has_api:
            return None
        return Response(200, b"<!doctype html><title>Stable Diffusion</title>", "text/html")

    def finish(self, _request: Request, response: Response) -> Response:
        """Return the reply as it leaves, whatever it is."""
        return response

    # -- the way of a request

    def answer(self, request: Request) -> Response:
        """Answer any request; failures become the bodies that a WebUI gives."""
        begin = time.monotonic()
        try:
            response = self._route(request)
        except RefusedError as e:
            response = as_json(e.status, self.refused(e))
        except CrashedError as e:
            if e.text_only:
                text = "text/plain; charset=utf-8"
                response = Response(500, e.plain.encode(), text, crash=e)
            else:
                response = as_json(500, self.crashed(e), crash=e)
        response.seconds = time.monotonic() - begin
        return self.finish(request, response)

    def is_late(self, is_schema: bool) -> bool:
        """Return whether the routes are still being added: as with a UI, where the port opens
        before. The first answers are 404 then, one path after another comes to be, and the
        schema that is made meanwhile is a KeyError (measured with SD.Next 058a7f0c; Forge and
        AUTOMATIC1111: 404)."""
        self._late[is_schema] += 1
        return self._late[is_schema] <= self.settings.late_answers

    def _route(self, request: Request) -> Response:
        is_schema = request.path == "/openapi.json"
        if (is_schema or request.path.startswith(API)) and self.is_late(is_schema):
            if is_schema:
                raise CrashedError("KeyError", "'txt2img'")
            return self.missing()
        if not request.path.startswith(API):
            return self._outside(request)
        if not self.settings.has_api:
            return self.missing()
        name = request.name
        methods = {
            **({"GET": self._get[name]} if name in self._get else {}),
            **({"POST": self._post[name]} if name in self._post else {}),
        }
        if name in self.stages:
            methods = {"POST": self.generate}
        if not methods:
            return self.missing()
        if request.method not in methods:
            return self.not_allowed(list(methods))
        if refusal := self._refusal(request.authorization):
            return self.unauthorized(refusal)
        value = methods[request.method](request)
        return value if isinstance(value, Response) else as_json(200, value)

    def _outside(self, request: Request) -> Response:
        if request.path == STATS:
            return as_json(200, self.plan.stats())
        if request.path == GPU:
            return as_json(200, {"on_gpu": self.machine.on_gpu, "loads": self.machine.loads})
        if request.path == "/openapi.json" and self.settings.has_api and self.traits.openapi:
            return as_json(200, self.traits.openapi)
        if request.path == "/" and (page := self.page()):
            return page
        return self.missing()

    def _refusal(self, header: str | None) -> str | None:
        """Why the request may not pass, None if it may."""
        if self.settings.auth is None:
            return None
        scheme, _, encoded = (header or "").partition(" ")
        if scheme.lower() != "basic":
            return "Not authenticated"
        try:
            given = base64.b64decode(encoded).decode()
        except (binascii.Error, ValueError):
            return "Invalid authentication credentials"
        return None if given == self.settings.auth else self.wrong_password

    def generate(self, request: Request) -> Response:
        """Answer one of the three stages."""
        stage, traits = request.name, self.traits
        damage = self._damage(stage, request)
        fields = traits.validation.check(
            traits.validation.parse(request.raw), traits.schemas[stage]
        )
        traits.checks.before_queue(stage, fields)
        raw = self.machine.run(stage, fields, damage)
        return Response(200, raw, "application/json", damage=damage)

    def _damage(self, stage: str, request: Request) -> Damage:
        """Count the request, whatever becomes of it, and get its faults."""
        try:
            prompt = json.loads(request.raw).get("prompt", "")
        except (ValueError, AttributeError):
            prompt = ""
        prompt = prompt if isinstance(prompt, str) else ""
        faults = self.plan.request(stage, prompt, request.canary)
        return Damage(faults, self._ignore_sigterm, lambda: self.machine.state.interrupted, prompt)

    def _object(self, request: Request) -> dict[str, Any]:
        validation = self.traits.validation
        return validation.check_object(validation.parse(request.raw))

    # -- what the routes do

    def _progress(self, request: Request) -> dict[str, Any]:
        without = request.query.get("skip_current_image", ["false"])[0].lower()
        return self.machine.state.progress(with_image=without not in ("true", "1"))

    def interrupt(self) -> Any:
        self.machine.state.interrupted = True
        return {}

    def skip(self) -> Any:
        self.machine.state.skipped = True

    def unload(self) -> Any:
        self.machine.unload()
        return {}

    def reload(self) -> Any:
        self.machine.reload()
        return {}

    def png_info(self, request: Request) -> dict[str, Any]:
        from sdwatch.simulator import pictures

        validation = self.traits.validation
        fields = validation.check(validation.parse(request.raw), self.traits.schemas["png-info"])
        text = pictures.infotext_of(pictures.decode(fields["image"]))
        return {"info": text, "items": {}, "parameters": infotext.parse_infotext(text)}

    def flags(self) -> dict[str, Any]:
        """Return the command line's flags, with our port."""
        return {**self.traits.lists["cmd-flags"], "port": self.settings.port}

    def cmd_flags(self) -> Any:
        """Return a 500 always: in Forge the port is an integer where its schema says string."""
        mistake = {
            "type": "string_type",
            "loc": ("response", "port"),
            "msg": "Input should be a valid string",
            "input": self.settings.port,
            "url": "https://errors.pydantic.dev/2.8/v/string_type",
        }
        name = "ResponseValidationError"
        message = f"1 validation errors:\n  {mistake}\n"
        raise CrashedError(
            name, message, qualified=f"fastapi.exceptions.{name}", answered=self.flags()
        )


def constant(value: Any) -> Callable[[Request], Any]:
    return lambda _: value


def _memory() -> dict[str, Any]:
    """Our own memory in bytes, as AUTOMATIC1111 asks psutil for it; there is no graphics card."""
    import psutil  # here, because most runs start without it, and sooner

    used = psutil.Process().memory_info().rss
    free = _TOTAL_RAM - used
    ram = {"free": free, "used": used, "total": _TOTAL_RAM}
    return {"ram": ram, "cuda": {"error": "unavailable"}}
