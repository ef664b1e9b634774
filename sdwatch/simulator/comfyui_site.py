"""ComfyUI's routes and the bodies of its replies. Measured with 0.33.0, 783545f6."""

from __future__ import annotations

import email.parser
import email.policy
import json
import mimetypes
import socket
import time
import uuid
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sdwatch.simulator.comfyui_files import MODELS, OutsideError
from sdwatch.simulator.comfyui_jobs import STATES, job_of, jobs_of
from sdwatch.simulator.comfyui_machine import ComfyMachine, prompt_texts, stage_of
from sdwatch.simulator.comfyui_queue import shown
from sdwatch.simulator.comfyui_socket import Client
from sdwatch.simulator.comfyui_validation import (
    MISTAKES,
    RefusedPromptError,
    Validation,
    error_of,
)
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.failures import CrashedError
from sdwatch.simulator.site import STATS, Request, Response, Routes, Site

_JSON = "application/json; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
_TOTAL_RAM = 25_276_510_208
_PACKAGES = {
    "comfyui-frontend-package": "1.49.6",
    "comfyui-workflow-templates": "0.11.44",
    "comfyui-embedded-docs": "0.5.10",
    "comfy-kitchen": "0.2.31",
    "comfy-aimdo": "0.4.13",
}
_BAD_ID = (
    "prompt_id must be a UUID string in canonical lowercase hyphenated form; omit it to let the "
    "server generate one"
)
_EMPTY = Response(200, content_type="application/octet-stream")


def answer(value: Any, status: int = 200) -> Response:
    return Response(status, json.dumps(value).encode(), _JSON)


class ComfySite(Site):
    """A route is looked up by its whole path; the last part of some is a name."""

    machine: ComfyMachine

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._number = 0

    def get_routes(self) -> Routes:
        machine = self.machine
        return {
            "/ws": self._websocket,
            "/system_stats": lambda _: self._system_stats(),
            "/prompt": lambda _: machine.status(),
            "/queue": lambda _: self._queue(),
            "/history": self._history,
            "/history/*": lambda r: machine.prompts.history(r.name),
            "/object_info": lambda _: machine.classes(),
            "/object_info/*": self._object_info,
            "/models": lambda _: list(MODELS),
            "/models/*": self._models,
            "/embeddings": lambda _: [Path(n).stem for n in machine.folders.models("embeddings")],
            "/features": lambda _: self._features(),
            "/extensions": lambda _: [],
            "/view": self._view,
            "/api/jobs": self._jobs,
            "/api/jobs/*": self._job,
            "/": lambda _: Response(200, b"<!doctype html><title>ComfyUI</title>", "text/html"),
            STATS: lambda _: self.plan.stats(),
        }

    def post_routes(self) -> Routes:
        return {
            "/prompt": self._prompt,
            "/queue": self._change_queue,
            "/history": self._change_history,
            "/interrupt": self._interrupt,
            "/free": self._free,
            "/upload/image": self._upload,
            "/api/jobs/cancel": self._cancel_many,
            "/api/jobs/*/cancel": lambda r: {"cancelled": self._cancel(r.path.split("/")[-2])},
        }

    def standing_headers(self, date: str) -> dict[str, str]:
        return {"Date": date, "Server": "Python/3.11 aiohttp/3.14.5"}

    # -- the way of a request

    def answer(self, request: Request) -> Response:
        """Answer any request; what leaves a handler is a 500, and a traceback in the log."""
        if self._is_foreign(request):
            return Response(403, b"403: Forbidden", _TEXT)
        if len(request.raw) > self.settings.max_upload:
            size = f"{self.settings.max_upload} exceeded, actual body size {len(request.raw)}"
            return Response(413, f"Maximum request body size {size}".encode(), _TEXT)
        path = request.path
        if path.startswith("/api/") and not path.startswith("/api/jobs"):
            path = path.removeprefix("/api")  # each route is there, too
        methods = {
            method: found
            for method, routes in (("GET", self._get), ("POST", self._post))
            if (found := _found(routes, path))
        }
        if not methods:
            return Response(404, b"404: Not Found", _TEXT)
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allow = {"Allow": ",".join(methods)}
            return Response(405, b"405: Method Not Allowed", _TEXT, headers=allow)
        return self._handled(handler, request)

    def _handled(self, handler: Callable[[Request], Any], request: Request) -> Response:
        try:
            value = handler(request)
        except CrashedError as e:
            crash = e
        except MISTAKES as e:
            crash = CrashedError(type(e).__name__, str(e))
        else:
            return value if isinstance(value, Response) else answer(value)
        text = b"500 Internal Server Error\n\nServer got itself in trouble"
        return Response(500, text, _TEXT, crash=crash)

    def _is_foreign(self, request: Request) -> bool:
        """Return whether a page of another origin asks; `text/plain` bodies do not show it."""
        headers = request.headers
        if headers.get("sec-fetch-site") == "cross-site":
            return True
        host, origin = headers.get("host", ""), headers.get("origin")
        if origin is None or not host:
            return False
        theirs, ours = urlsplit(origin), urlsplit(f"//{host}")
        if theirs.port is None or ours.port is None:
            foreign = theirs.hostname != ours.hostname
        else:
            foreign = theirs.netloc.lower() != host.lower()
        if foreign:
            self.machine.comfy_voice.foreign_origin(host, origin)
        return foreign

    # -- what is asked

    def _system_stats(self) -> dict[str, Any]:
        import psutil  # here, because most runs start without it, and sooner

        free = _TOTAL_RAM - psutil.Process().memory_info().rss
        memory = {"vram_total": _TOTAL_RAM, "vram_free": free,
                  "torch_vram_total": _TOTAL_RAM, "torch_vram_free": free}  # fmt: skip
        return {
            "system": {
                "os": "linux",
                "ram_total": _TOTAL_RAM,
                "ram_free": free,
                "comfyui_version": self.traits.version,
                "required_frontend_version": _PACKAGES["comfyui-frontend-package"],
                "installed_templates_version": _PACKAGES["comfyui-workflow-templates"],
                "required_templates_version": _PACKAGES["comfyui-workflow-templates"],
                "comfy_package_versions": [
                    {"name": name, "installed": version, "required": version}
                    for name, version in _PACKAGES.items()
                ],
                "python_version": "3.11.7 (main, May  9 2026, 07:35:25) [GCC 12.2.0]",
                "pytorch_version": "2.13.0+cpu",
                "embedded_python": False,
                "deploy_environment": "local-git",
                "argv": ["main.py", "--cpu", "--port", str(self.settings.port),
                         "--base-directory", str(self.machine.folders.base)],
            },
            "devices": [{"name": "cpu", "type": "cpu", "index": None, **memory}],
        }  # fmt: skip

    def _features(self) -> dict[str, Any]:
        return {
            "supports_preview_metadata": True,
            "supports_model_type_tags": True,
            "max_upload_size": self.settings.max_upload,
            "extension": {"manager": {"supports_v4": True}},
            "node_replacements": True,
            "assets": False,
        }

    def _queue(self) -> dict[str, Any]:
        running, pending = self.machine.prompts.contents()
        return {
            "queue_running": [shown(item) for item in running],
            "queue_pending": [shown(item) for item in pending],
        }

    def _history(self, request: Request) -> dict[str, Any]:
        entries = list(self.machine.prompts.history().items())
        if (most := request.first("max_items")) is not None:
            offset = int(request.first("offset") or -1)
            offset = offset if offset >= 0 else max(len(entries) - int(most), 0)
            entries = entries[offset : offset + int(most)]
        return dict(entries)

    def _object_info(self, request: Request) -> dict[str, Any]:
        return {n: node for n, node in self.machine.classes().items() if n == request.name}

    def _models(self, request: Request) -> Any:
        if request.name not in MODELS:
            return Response(404, b"", "application/octet-stream")
        return self.machine.folders.models(request.name)

    def _view(self, request: Request) -> Response:
        query = {name: values[0] for name, values in request.query.items()}
        found = self.machine.folders.viewed(query)
        if isinstance(found, int):
            return Response(found, b"", "application/octet-stream")
        kind = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
        named = {"Content-Disposition": f'filename="{found.name}"'}
        return Response(200, found.read_bytes(), kind, headers=named)

    def _jobs(self, request: Request) -> Any:
        wanted = [s.strip().lower() for s in (request.first("status") or "").split(",") if s]
        if wrong := [state for state in wanted if state not in STATES]:
            message = f"Invalid status value(s): {', '.join(wrong)}. Valid values: "
            return answer({"error": message + ", ".join(STATES)}, 400)
        jobs = [j for j in jobs_of(self.machine.prompts) if not wanted or j["status"] in wanted]
        given = request.first("limit")
        if given is not None and not (given.isdecimal() and int(given) > 0):
            return answer({"error": "limit must be a positive integer"}, 400)
        limit, offset = int(given) if given else None, int(request.first("offset") or 0)
        page = jobs[offset:] if limit is None else jobs[offset : offset + limit]
        more = offset + len(page) < len(jobs)
        pages = {"offset": offset, "limit": limit, "total": len(jobs), "has_more": more}
        return {"jobs": page, "pagination": pages}

    def _job(self, request: Request) -> Any:
        job = job_of(self.machine.prompts, request.name)
        return answer({"error": "Job not found"}, 404) if job is None else job

    def _websocket(self, request: Request) -> Response:
        machine, client_id = self.machine, request.first("clientId") or ""

        def take(connection: socket.socket, reader: BufferedIOBase, raw: bytes) -> None:
            client = Client(connection, reader, raw)
            machine.hub.serve(
                client, client_id, machine.status(), machine.running_node, self._features()
            )

        return Response(101, takes_over=take)

    # -- what is done

    def _prompt(self, request: Request) -> Response:
        voice = self.machine.comfy_voice
        voice.got_prompt()
        damage = self._strikes(request)
        body = json.loads(request.raw)
        if not isinstance(body, dict) or "prompt" not in body:
            text = "No prompt provided"
            return answer({"error": error_of("no_prompt", text, text), "node_errors": {}}, 400)
        number = self._number_of(body)
        prompt_id = body.get("prompt_id")
        if prompt_id is None:
            prompt_id = str(uuid.uuid4())
        elif not _is_canonical(prompt_id):
            error = error_of("invalid_prompt_id", "prompt_id must be a valid UUID", _BAD_ID)
            return answer({"error": error, "node_errors": {}}, 400)
        machine, prompt = self.machine, body["prompt"]
        there = machine.folders.annotated
        validation = Validation(
            prompt, machine.classes(), lambda name: there(str(name)) is not None
        )
        try:
            outputs, errors = validation.outputs(body.get("partial_execution_targets"))
        except RefusedPromptError as e:
            voice.not_valid(validation.printed)
            voice.invalid_prompt(e.error)
            return answer({"error": e.error, "node_errors": e.node_errors}, 400)
        voice.not_valid(validation.printed)
        extra = dict(body.get("extra_data", {}))
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        extra["create_time"] = int(time.time() * 1000)
        machine.prompts.put((number, prompt_id, prompt, extra, outputs, damage))
        return self._accepted(
            {"prompt_id": prompt_id, "number": number, "node_errors": errors}, damage
        )

    def _accepted(self, body: dict[str, Any], damage: Damage) -> Response:
        """Return the reply, which a fault may cut: what it answers to is in the queue by now."""
        raw = json.dumps(body).encode()
        return Response(200, damage.broken(raw), _JSON, damage=damage)

    def _number_of(self, body: dict[str, Any]) -> float:
        if "number" in body:
            return float(body["number"])
        number = -self._number if body.get("front") else self._number
        self._number += 1
        return number

    def _strikes(self, request: Request) -> Damage:
        """Count the prompt, whatever becomes of it, and get its faults. One that hides what went
        wrong goes wrong before anything is queued."""
        try:
            prompt = json.loads(request.raw).get("prompt")
        except (ValueError, AttributeError):
            prompt = None
        text, state = prompt_texts(prompt, self.machine.kinds), self.machine.state
        faults = self.plan.request(stage_of(prompt), text, request.canary)
        damage = Damage(faults, self._ignore_sigterm, lambda: state.interrupted, text)
        if damage.take("opaque-500-text"):
            raise CrashedError("RuntimeError", "injected failure in a handler")
        return damage

    def _change_queue(self, request: Request) -> Response:
        body, prompts = json.loads(request.raw), self.machine.prompts
        if body.get("clear"):
            prompts.clear()
        for prompt_id in body.get("delete", ()):
            prompts.remove(prompt_id)
        return _EMPTY

    def _change_history(self, request: Request) -> Response:
        body = json.loads(request.raw)
        if body.get("clear"):
            self.machine.prompts.forget(None)
        self.machine.prompts.forget(list(body.get("delete", ())))
        return _EMPTY

    def _interrupt(self, request: Request) -> Response:
        try:
            prompt_id = json.loads(request.raw).get("prompt_id")
        except ValueError:
            prompt_id = None
        voice = self.machine.comfy_voice
        if prompt_id:
            voice.interrupting(prompt_id, runs=self.machine.prompts.interrupt_running(prompt_id))
        else:
            voice.interrupting_whatever_runs()
            self.machine.interrupt()
        return _EMPTY

    def _cancel(self, prompt_id: str) -> bool:
        prompts, voice = self.machine.prompts, self.machine.comfy_voice
        if prompts.remove(prompt_id):
            voice.cancelling("pending", prompt_id)
            return True
        if prompts.interrupt_running(prompt_id):
            voice.cancelling("running", prompt_id)
            return True
        return False

    def _cancel_many(self, request: Request) -> Any:
        try:
            body = json.loads(request.raw)
        except ValueError:
            return answer({"error": "Request body must be valid JSON"}, 400)
        ids = body.get("job_ids") if isinstance(body, dict) else None
        if not isinstance(ids, list):
            return answer({"error": "job_ids must be a list"}, 400)
        if wrong := [each for each in ids if not _is_canonical(each)]:
            error = {"error": "job_ids contains invalid id(s)", "invalid_ids": wrong}
            return answer(error, 400)
        cancelled = [self._cancel(each) for each in ids]
        return {"cancelled": any(cancelled)}

    def _free(self, request: Request) -> Response:
        body = json.loads(request.raw)
        for name in ("unload_models", "free_memory"):
            if body.get(name):
                self.machine.prompts.set_flag(name, True)
        return _EMPTY

    def _upload(self, request: Request) -> Response:
        fields = _multipart(request)
        name, raw = fields.get("image", ("", b""))
        if not name:
            return Response(400, b"", "application/octet-stream")
        texts = {key: value.decode() for key, (_, value) in fields.items() if key != "image"}
        subfolder, kind = texts.get("subfolder", ""), texts.get("type", "input")
        overwrite = texts.get("overwrite") in ("true", "1")
        try:
            name = self.machine.folders.uploaded(name, subfolder, kind, raw, overwrite=overwrite)
        except OutsideError:
            return Response(400, b"", "application/octet-stream")
        return answer({"name": name, "subfolder": subfolder, "type": kind})


def _found(routes: Routes, path: str) -> Callable[[Request], Any] | None:
    """Return the handler of a path: its own, or that of a route with a name in it."""
    if path in routes:
        return routes[path]
    parts = path.split("/")
    for at in (-1, -2):
        if len(parts) > 2 and parts[at]:
            whole = "/".join([*parts[:at], "*", *parts[len(parts) + at + 1 :]])
            if whole in routes:
                return routes[whole]
    return None


def _is_canonical(text: object) -> bool:
    try:
        return isinstance(text, str) and str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _multipart(request: Request) -> dict[str, tuple[str, bytes]]:
    """Return the parts of a form: name of the file ("" for a text) and bytes, by field."""
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.raw)
    fields = {}
    for part in message.iter_parts():
        field = part.get_param("name", header="content-disposition")
        raw = part.get_payload(decode=True)
        if isinstance(field, str) and isinstance(raw, bytes):
            fields[field] = (unquote(part.get_filename("")), raw)
    return fields
