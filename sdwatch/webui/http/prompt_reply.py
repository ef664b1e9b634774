"""The pictures of a prompt that ended: by its entry in ComfyUI's history, or by the files that it
left in its folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from PIL import Image

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUINotUsableError,
    WebUIReplyError,
    WebUIServerError,
)
from sdwatch.policy.failure.reply_checks import BadReply
from sdwatch.policy.job.picture import BROKEN, FORMATS, PictureData, opened
from sdwatch.policy.job.stage_kinds import STAGES
from sdwatch.policy.workflow.built_in import drawing, enlarging, saved_by
from sdwatch.policy.workflow.history import OutputFile, PromptResult
from sdwatch.policy.workflow.made import generation_info
from sdwatch.policy.workflow.saved_files import files_of
from sdwatch.policy.workflow.workflow import Workflow, workflow_of
from sdwatch.policy.workflow.workflow_call import call_in
from sdwatch.webui.http.reply import Reply, check_image


class Files(Protocol):
    """Where the files of a ComfyUI are. See ComfyUIClient."""

    version: str

    def file(self, named: OutputFile) -> bytes | None: ...


def folder_of(prompt_id: str) -> str:
    """Return the folder below output/ that the files of this prompt are in, and no others."""
    return f"sdwatch/{prompt_id}"


def failed(result: PromptResult) -> WebUIServerError:
    """Return the error of a prompt in which a node raised an exception."""
    failure = result.failure
    if failure is None:
        return WebUIServerError("the prompt failed in ComfyUI, which does not say why")
    node = result.workflow.nodes.get(failure.node) if result.workflow else None
    named = node.shown if node else failure.node or "?"
    raised = ": ".join(filter(None, (failure.exception, failure.message)))
    words = f"node {named} of class {failure.kind} failed: {raised}"
    return WebUIServerError(words, kind=failure.exception, said=failure.message)


def reply_from(
    files: Files,
    stage: str,
    payload: Mapping[str, Any],
    prompt_id: str,
    result: PromptResult,
    *,
    is_plain: bool = False,
) -> Reply:
    """Return the pictures that a prompt saved, in the order of its nodes. Raises WebUIReplyError
    for a file of another prompt, which is what the cache answers with, and for one that is gone or
    no picture."""
    order = list(result.workflow.nodes) if result.workflow else []
    saved = sorted(result.files.items(), key=lambda item: _place(order, item[0]))
    named = [file for _, listed in saved for file in listed]
    for file in named:
        if file.type == "output" and file.subfolder.replace("\\", "/") != folder_of(prompt_id):
            words = "ComfyUI answered from its cache, with a file of another prompt"
            raise WebUIReplyError(words, stage=stage, status=200, kind=BadReply.NO_IMAGE)
    if not named:
        words = "the prompt ended well and has no image: no node saved one"
        raise WebUIReplyError(words, stage=stage, status=200, kind=BadReply.NO_IMAGE)
    reply = _reply(files, stage, named, is_plain=is_plain)
    return replace(reply, info=_info(files, payload, result.workflow))


def _place(order: list[str], node: str) -> int:
    return order.index(node) if node in order else len(order)


def reply_from_folder(
    files: Files, stage: str, payload: Mapping[str, Any], prompt_id: str
) -> Reply | None:
    """Return the pictures that a prompt had saved when ComfyUI ended and forgot it; None unless all
    of them are there and whole. A disk that was full leaves one that is cut off, under its final
    name."""
    names = _saved(stage, payload, folder_of(prompt_id))
    if names is None:
        return None
    named = [OutputFile(name, folder_of(prompt_id), "output") for name in names]
    try:
        reply = _reply(files, stage, named)
    except (WebUIReplyError, WebUIBadRequestError, WebUINotUsableError):
        return None
    return replace(reply, info=_info(files, payload, _workflow_in(reply.images[0])))


def _workflow_in(picture: PictureData) -> Workflow | None:
    """Return the workflow that ComfyUI wrote into a picture; None with --disable-metadata."""
    try:
        with Image.open(opened(picture), formats=FORMATS) as image:
            written = json.loads(image.info.get("prompt", ""))
        return workflow_of(written) if isinstance(written, dict) else None
    except (*BROKEN, TypeError, RecursionError):  # a WorkflowError is a ValueError, too
        return None


def _info(files: Files, payload: Mapping[str, Any], workflow: Workflow | None) -> Mapping[str, Any]:
    if workflow is None:
        return {"version": files.version}
    return generation_info(workflow, payload, files.version)


def _saved(stage: str, payload: Mapping[str, Any], folder: str) -> list[str] | None:
    """Return the names of the files that a call saves; None where nobody knows how many."""
    if (own := call_in(payload)) is not None:
        return files_of(own, folder)
    saves = saved_by(_shape(stage, payload, folder), payload)
    return [f"{id}_{n:05}_.png" for id, count in saves.items() for n in range(1, count + 1)]


def _shape(stage: str, payload: Mapping[str, Any], folder: str) -> Workflow:
    """Return the workflow of a call as far as it shows which files it saves."""
    if not STAGES[stage].has_steps:
        return enlarging(payload, folder, "", (1, 1))
    given = payload.get(STAGES[stage].image_field) if STAGES[stage].needs_image else ()
    fields = {"seed": 0, **payload}
    return drawing(fields, "", folder, [""] * len(given or ()))


def _reply(
    files: Files,
    stage: str,
    named: Iterable[OutputFile],
    *,
    is_plain: bool = False,
) -> Reply:
    images, sizes, one_colour = [], [], []
    for number, file in enumerate(named, 1):
        data = files.file(file)
        if data is None:
            words = f"ComfyUI names a file that is gone: {file.filename}"
            raise WebUIReplyError(words, stage=stage, status=200, kind=BadReply.NO_PICTURE)
        size, colour = check_image(stage, number, data)
        images.append(data)
        sizes.append(size)
        one_colour.append(colour)
    return Reply(tuple(images), 0, {}, tuple(sizes), tuple(one_colour), is_plain)
