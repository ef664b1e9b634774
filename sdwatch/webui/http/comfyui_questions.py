"""What ComfyUI is asked about prompts, and about itself. Shapes measured with 0.33.0.

It has no authentication of its own; a proxy in front of it may.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import urlencode

from sdwatch.errors import WebUIBadRequestError, WebUIError, WebUIReplyError
from sdwatch.policy.job.outputs.picture import PictureData
from sdwatch.policy.workflow.node_classes import NodeClass, read_classes
from sdwatch.policy.workflow.prompt_result import OutputFile, PromptResult, read_entry
from sdwatch.system.scratch import Arriving, Scratch
from sdwatch.webui.http.reply import error_for, parse_json
from sdwatch.webui.http.transport import Transport

_NO_ROUTE = (404, 405)
_FILE_LIMIT_S = 600.0
_OUTSIDE = (400, 403)
"""What /view answers for a name or a folder outside of output/ (0.33.0, server.py:539-552)."""
MAX_FILE_BYTES = 4 << 30
"""Of one file that a prompt saved: a long video."""


class ComfyUIQuestions(Transport):
    """The questions to one ComfyUI. `answer_limit`: seconds for each that belongs to a call.
    `scratch`: a local folder for large files while they are needed, or None."""

    answer_limit = 30.0
    scratch: Path | None = None
    _files = 0  # that were asked for
    _arriving: Arriving | None = None  # the last of them

    @property
    def fetched(self) -> tuple[int, int]:
        """Return how many files were asked for, and the bytes of the last one so far."""
        return self._files, 0 if self._arriving is None else len(self._arriving)

    def system_stats(self, timeout: float) -> Mapping[str, Any]:
        """GET /system_stats: its `system`, {} where it has none. It answers only when everything is
        loaded but the checkpoints. Raises WebUIError."""
        body = self._get("/system_stats", timeout)
        system = body.get("system") if isinstance(body, dict) else None
        return system if isinstance(system, dict) else {}

    def node_classes(self, timeout: float) -> dict[str, NodeClass]:
        """GET /object_info, of one or two megabytes. Raises WebUIError."""
        return read_classes(self._get("/object_info", timeout))

    def embeddings(self, timeout: float) -> list[str]:
        """GET /embeddings. Raises WebUIError."""
        body = self._get("/embeddings", timeout)
        return [name for name in body if isinstance(name, str)] if isinstance(body, list) else []

    def queue(self, timeout: float) -> tuple[dict[str, str], dict[str, str]]:
        """GET /queue: the prompts that run, and those that wait; each id with its client's. Raises
        WebUIError."""
        return _queue(self._get("/queue", timeout))

    # -- questions that belong to a call, and are cut with it

    def result_of(self, prompt_id: str) -> PromptResult | None:
        """GET /history/ID; None while it waits or runs, and where it is not known. Raises
        WebUIError."""
        body = self._get_of_call(f"/history/{prompt_id}")
        entry = body.get(prompt_id) if isinstance(body, dict) else None
        try:
            return None if entry is None else read_entry(entry)
        except ValueError as error:
            raise WebUIReplyError(str(error), status=200) from error

    def is_queued(self, prompt_id: str) -> bool:
        """Return whether a prompt runs or waits. Raises WebUIError."""
        return any(prompt_id in part for part in _queue(self._get_of_call("/queue")))

    def cancel(self, prompt_id: str, timeout: float) -> bool:
        """End a prompt, whether it runs or waits, and return whether that was accepted. One that
        starts in this instant runs on: cancel it until it has ended. Versions without /api/jobs
        have two requests for it. Never raises."""
        older = (("/queue", {"delete": [prompt_id]}), ("/interrupt", {"prompt_id": prompt_id}))
        try:
            status = self._ask("POST", f"/api/jobs/{prompt_id}/cancel", timeout, {})[0]
            if status in _NO_ROUTE:
                status = max(self._ask("POST", path, timeout, body)[0] for path, body in older)
        except WebUIError:
            return False
        return status == 200

    def unload_checkpoint(self, timeout: float) -> bool:
        """POST /free, which the worker does when it is idle. Return whether it was accepted. Never
        raises."""
        return self._free(timeout, unload_models=True)

    def forget_cache(self, timeout: float) -> bool:
        """Do the same, but keep the models: what nodes have made is not taken from the cache
        again. Never raises."""
        return self._free(timeout, unload_models=False)

    def _free(self, timeout: float, *, unload_models: bool) -> bool:
        wanted = {"unload_models": unload_models, "free_memory": True}
        try:
            return self._ask("POST", "/free", timeout, wanted)[0] == 200
        except WebUIError:
            return False

    def file(self, named: OutputFile) -> PictureData | None:
        """GET /view: the bytes of a file, None where it is gone; large ones go to a scratch file.
        Raises WebUIError."""
        query = {"filename": named.filename, "subfolder": named.subfolder, "type": named.type}
        path, arriving = f"/view?{urlencode(query)}", Arriving(Scratch(self.scratch))
        self._files, self._arriving = self._files + 1, arriving
        status, body = self._ask(
            "GET", path, _FILE_LIMIT_S, of_call=True, most=MAX_FILE_BYTES, into=arriving
        )
        if status == 200:
            return arriving.finish()
        if status == 404:
            return None
        if status in _OUTSIDE and _leads_outside(named):
            words = (
                f"a node saved {named.filename} outside of ComfyUI's output folder "
                f"({named.subfolder}), and its API does not hand that out"
            )
            raise WebUIBadRequestError(words, status=400)
        raise error_for(status, body, "/view", "")

    def upload(self, name: str, folder: str, data: bytes) -> str:
        """POST /upload/image into temp/, which ComfyUI empties at its start; return the name that
        LoadImage takes. Raises WebUIError."""
        fields = {"subfolder": folder, "type": "temp", "overwrite": "true"}
        status, body = self._ask(
            "POST", "/upload/image", self.answer_limit, fields, of_call=True,
            files={"image": (name, data, "application/octet-stream")},
        )  # fmt: skip
        if status != 200:
            raise error_for(status, body, "/upload/image", "")
        try:
            said = parse_json(body)
            parts = [str(said[key]) for key in ("subfolder", "name") if said[key]]
        except (ValueError, KeyError, TypeError) as error:
            raise WebUIReplyError("the answer to /upload/image is not as expected") from error
        return f"{'/'.join(parts)} [temp]"

    def _get_of_call(self, path: str) -> Any:
        status, body = self._ask("GET", path, self.answer_limit, of_call=True)
        if status != 200:
            raise error_for(status, body, path.partition("?")[0], "")
        try:
            return parse_json(body)
        except ValueError as error:
            raise WebUIReplyError(f"the reply is not JSON ({self.url}{path})") from error


def _queue(body: Any) -> tuple[dict[str, str], dict[str, str]]:
    parts = (body.get(key) if isinstance(body, dict) else None for key in _PARTS)
    running, pending = (_items(part if isinstance(part, list) else []) for part in parts)
    return running, pending


_PARTS = ("queue_running", "queue_pending")


def _items(listed: list[Any]) -> dict[str, str]:
    """Return the ids of prompts, each with the id of the client that sent it; an item is [number,
    id, prompt, extra_data, outputs]."""
    found = {}
    for item in listed:
        if isinstance(item, list) and len(item) > 3 and isinstance(item[1], str):
            client = item[3].get("client_id") if isinstance(item[3], dict) else None
            found[item[1]] = client if isinstance(client, str) else ""
    return found


def _leads_outside(named: OutputFile) -> bool:
    """Return whether the name of a file that a node saved leaves output/. A 403 for any other is a
    proxy's, whose password is wrong."""
    names = (named.subfolder, named.filename)
    return any(".." in name or PureWindowsPath(name).anchor for name in names)
