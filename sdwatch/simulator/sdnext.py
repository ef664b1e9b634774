"""SD.Next 058a7f0c (July 2026), measured in November 2026: what differs from Forge."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections import defaultdict, deque
from typing import Any

from sdwatch.simulator import console
from sdwatch.simulator.checks import Checks
from sdwatch.simulator.failures import CrashedError, RefusedError
from sdwatch.simulator.generation import EXTRAS
from sdwatch.simulator.kind import Kind
from sdwatch.simulator.process import Process
from sdwatch.simulator.sdnext_machine import NextMachine
from sdwatch.simulator.sdnext_voice import NextVoice, say
from sdwatch.simulator.site import (
    STATS,
    Request,
    Response,
    Routes,
    Site,
    as_json,
    constant,
)
from sdwatch.simulator.traits import Traits, load, schemas_of
from sdwatch.simulator.validation import Pydantic2

LISTS = load("sdnext_lists.json")
OPENAPI = load("sdnext_openapi.json")
_NO_INIT = "Init image is none"
_COSTS = {"/sdapi/v1/txt2img": 5, "/sdapi/v1/img2img": 5}
_MINUTE_S = 60
_EXIT_PAUSE_S = 0.15
_SOLVERS = {
    "Euler": "EulerDiscreteScheduler",
    "Euler a": "EulerAncestralDiscreteScheduler",
    "Default": "EulerAncestralDiscreteScheduler",
}


class NextChecks(Checks):
    def before_queue(self, stage: str, f: dict[str, Any]) -> None:
        if stage == "img2img" and f["init_images"] is None:
            raise RefusedError(400, _NO_INIT)
        if stage != EXTRAS and self._sampler(f["sampler_name"]) is None:
            raise RefusedError(404, "Sampler not found")

    def _sampler(self, name: str) -> str | None:
        """Return the sampler's own name; case does not count."""
        known = {n.lower(): n for n in ("Default", *self.lists["samplers"])}
        return known.get(name.lower())

    def sampler_and_schedule(self, f: dict[str, Any]) -> tuple[str, str]:
        """Return the names; the scheduler is the solver's class, whatever the request says."""
        sampler = self._sampler(f["sampler_name"]) or "Default"
        return sampler, _SOLVERS.get(sampler, "DPMSolverMultistepScheduler")

    def scripts(self, _stage: str, f: dict[str, Any]) -> None:
        """No always-on script is known here; the name of another one is ignored."""
        for name in f["alwayson_scripts"]:
            raise RefusedError(422, f"Always on script not found: {name}")
        if f["script_name"]:
            say("ERROR", f"API: script={f['script_name']} available=[] not found")

    def numbers(self, f: dict[str, Any]) -> None:
        """Steps and sizes of 0 are taken. Of these errors only the status was recorded."""
        if f["prompt"] is None:
            raise CrashedError("AssertionError", "")
        if (f["batch_size"] or 0) < 1 or (f["n_iter"] or 0) < 1:
            raise CrashedError("IndexError", "list index out of range")
        if None in (f["steps"], f["cfg_scale"]):
            raise CrashedError("TypeError", "'NoneType' object cannot be interpreted as an integer")


class Limiter:
    """What each path has cost in the last minute. What is refused costs nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)

    def allows(self, path: str, limit: int | None) -> bool:
        """Count one more request, unless it goes over the limit."""
        if limit is None:
            return True
        cost, now = _COSTS.get(path, 1), time.monotonic()
        with self._lock:
            spent = self._spent[path]
            while spent and now - spent[0][0] >= _MINUTE_S:
                spent.popleft()
            if sum(c for _, c in spent) + cost > limit:
                return False
            spent.append((now, cost))
            return True


class NextSite(Site):
    machine: NextMachine
    limiter = Limiter()
    listed = ("upscalers",)
    empty = ("loras", "sd-vae", "extensions")
    wrong_password = "Unauthorized"

    def get_routes(self) -> Routes:
        return {
            **super().get_routes(),
            "samplers": constant([{"name": n, "options": {}} for n in LISTS["samplers"]]),
            "schedulers": lambda _: self._schedulers(),
            "embeddings": constant({"loaded": [], "skipped": []}),
            "scripts": constant({"txt2img": [], "img2img": [], "control": []}),
            "version": constant(LISTS["version"]),
            "status": lambda _: self.machine.state.status(),
            "checkpoint": lambda _: self.machine.checkpoint(),
        }

    def post_routes(self) -> Routes:
        """Return the POST routes; those that Forge answers with {} or null are 204 with no body."""
        routes = super().post_routes()
        done = constant(Response(204))
        return {
            **routes,
            "reload-checkpoint": done,
            "refresh-checkpoints": done,
            "refresh-vae": done,
            "checkpoint": self._choose,
            "shutdown": lambda _: self._shutdown(),
        }

    def interrupt(self) -> Any:
        super().interrupt()
        return Response(204)

    def skip(self) -> Any:
        super().skip()
        return Response(204)

    def unload(self) -> Any:
        super().unload()
        return Response(204)

    def cmd_flags(self) -> Any:
        return self.flags()

    def _choose(self, request: Request) -> Any:
        names = request.query.get("sd_model_checkpoint")
        if not names:
            missing = {"type": "missing", "loc": ["query", "sd_model_checkpoint"],
                       "msg": "Field required", "input": None}  # fmt: skip
            raise RefusedError(422, [missing])
        return {"ok": self.machine.select(names[0])}

    def _shutdown(self) -> Response:
        timer = threading.Timer(_EXIT_PAUSE_S, os._exit, (0,))
        timer.daemon = True
        timer.start()
        return Response(204)

    def _schedulers(self) -> Any:
        """Return a 500 always: its separators have no class."""
        rows = LISTS["schedulers"]
        mistakes = [
            {"type": "string_type", "loc": ("response", i, "cls"),
             "msg": "Input should be a valid string", "input": None}
            for i, row in enumerate(rows) if row["cls"] is None
        ]  # fmt: skip
        text = f"{len(mistakes)} validation errors:\n" + "".join(f"  {m}\n" for m in mistakes)
        raise CrashedError("ResponseValidationError", text, answered=rows)

    def generate(self, request: Request) -> Response:
        """Upscale; the reply lacks html_info, which its schema requires."""
        response = super().generate(request)
        if request.name == EXTRAS and not self.settings.extras_work:
            text = (
                "1 validation error for ResProcessImage\nhtml_info\n  Input should be a valid "
                "string [type=string_type, input_value=None, input_type=NoneType]\n"
                "    For further information visit https://errors.pydantic.dev/2.13/v/string_type"
            )
            raise CrashedError("ValidationError", text)
        return response

    def png_info(self, request: Request) -> dict[str, Any]:
        body = super().png_info(request)
        text = re.sub(r"\nNegative prompt: \nTemplate: .*", "", body["info"])
        found: dict[str, Any] = {**body["parameters"], "Prompt": text.partition("\n")[0]}
        return {**body, "items": {"parameters": body["info"]}, "parameters": found}

    # -- how it answers

    def page(self) -> Response | None:
        return Response(200, b"<!doctype html><title>SD.Next</title>", "text/html")

    def refused(self, e: RefusedError) -> Any:
        if isinstance(e.detail, list):
            return {"detail": e.detail}
        if e.detail == _NO_INIT:
            return {"error": e.detail}
        errors = f"{e.status}: {e.detail}"
        return _body("HTTPException", e.status, e.detail, "", errors)

    def crashed(self, e: CrashedError) -> Any:
        return _body(e.error, 500, "", e.answered, e.message)

    def unauthorized(self, reason: str) -> Response:
        """Answer without WWW-Authenticate."""
        return as_json(401, self.refused(RefusedError(401, reason)))

    def finish(self, request: Request, response: Response) -> Response:
        """Apply the rate limit last: what it refuses has been done, and is thrown away."""
        if request.path != STATS and not self.limiter.allows(
            request.path, self.settings.rate_limit
        ):
            where = f"{request.client}:{request.path}"
            self.machine.voice.limited(request.client, request.path)
            return as_json(429, self.refused(RefusedError(429, f"{where}: rate limit exceeded")))
        if response.status != 500:
            response.headers["x-process-time"] = str(round(response.seconds, 4))
        return response


def _body(error: str, code: int, detail: Any, body: Any, errors: str) -> dict[str, Any]:
    return {"error": error, "code": code, "detail": detail, "body": body, "errors": errors}


class NextProcess(Process):
    def handle_signals(self) -> None:
        """SIGTERM kills; SIGINT is exit 0, or an abort in the middle of a job."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, lambda *_: self._interrupted())

    def _interrupted(self) -> None:
        if self.machine and self.machine.state.job:
            console.err("terminate called without an active exception")
            os.abort()
        say("INFO", "Exiting")
        os._exit(0)

    def bind_failed(self) -> None:
        sys.exit(1)


SDNEXT = Kind(
    Traits(
        name="sdnext",
        lists=LISTS,
        openapi=OPENAPI,
        schemas=schemas_of(OPENAPI),
        job_names={"txt2img": "API-TXT", "img2img": "API-IMG", EXTRAS: "Upscale"},
        validation=Pydantic2(url=None),
        checks=NextChecks(LISTS),
        voice=NextVoice(),
    ),
    NextMachine,
    NextSite,
    NextProcess,
    own=("rate_limit", "extras_work"),
    lacks=("no_api", "has"),  # --api means nothing to it, the API is always there
)
