"""The pictures and other files of a prompt that ended: by its entry in ComfyUI's history, or by the
files that it left in its folder."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
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
from sdwatch.policy.job.outputs.other_files import (
    check_whole_file,
    format_of,
    is_named_after_another,
    is_still_picture,
)
from sdwatch.policy.job.outputs.picture import BROKEN, FORMATS, PictureData, opened
from sdwatch.policy.job.outputs.whole_file import NotWholeError
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.privacy.printable import shortened
from sdwatch.policy.translation.built_in import drawing, enlarging, saved_by
from sdwatch.policy.translation.made import generation_info
from sdwatch.policy.translation.template_file import WorkflowTemplate
from sdwatch.policy.workflow.node_classes import NodeClasses
from sdwatch.policy.workflow.prompt_result import OutputFile, PromptResult
from sdwatch.policy.workflow.saved_files import (
    MOST_IN_SERIES,
    Series,
    files_of,
    series_of,
    shows_mask,
)
from sdwatch.policy.workflow.workflow import Workflow, workflow_of
from sdwatch.policy.workflow.workflow_call import PREFIX, call_in
from sdwatch.webui.http.reply import MadeFile, Reply, check_image

_LONGEST_MESSAGE = 20_000  # characters


class Files(Protocol):
    """Where the files of a ComfyUI are. See ComfyUIClient."""

    version: str

    def all_here(self) -> None: ...
    def known_classes(self) -> NodeClasses: ...
    def file(self, named: OutputFile) -> PictureData | None: ...
    def template_for(self, stage: str, payload: Mapping[str, Any]) -> WorkflowTemplate | None: ...


def folder_of(prompt_id: str) -> str:
    """Return the folder below output/ that the files of this prompt are in, and no others."""
    return f"sdwatch/{prompt_id}"


def bounded(said: str) -> str:
    """Return what a node said, which may show a whole tensor, as far as it can be looked through.
    Its ends stay, with a mark in between at which the redactor takes away what it cannot know."""
    return shortened(said, _LONGEST_MESSAGE)


def failed(result: PromptResult) -> WebUIServerError:
    """Return the error of a prompt in which a node raised an exception."""
    failure = result.failure
    if failure is None:
        return WebUIServerError("the prompt failed in ComfyUI, which does not say why")
    node = result.workflow.nodes.get(failure.node) if result.workflow else None
    named = (
        node.with_class(failure.kind) if node else f"{failure.node or '?'} of class {failure.kind}"
    )
    raised = bounded(": ".join(filter(None, (failure.exception, failure.message))))
    loads = ", ".join(node.model_files) if node else ""
    named += f", which loads {loads}," if loads else ""
    words = f"node {named} failed: {raised}"
    error = WebUIServerError(words, kind=bounded(failure.exception), said=bounded(failure.message))
    error.node = failure.kind
    return error


def reply_from(
    files: Files,
    stage: str,
    payload: Mapping[str, Any],
    prompt_id: str,
    result: PromptResult,
    *,
    is_plain: bool = False,
) -> Reply:
    """Return what a prompt saved, in the order of its nodes; previews (temp) only where it saved
    nothing. Raises WebUIReplyError for a file of another prompt, which is what the cache answers
    with, and for one that is gone or not whole."""
    order = list(result.workflow.nodes) if result.workflow else []
    saved = sorted(result.files.items(), key=lambda item: _place(order, item[0]))
    for node, listed in saved:
        for file in listed:
            _refuse_of_another_prompt(stage, folder_of(prompt_id), file, node, result)
    named = [file for _, listed in saved for file in listed]
    named = [file for file in named if file.type == "output"] or named
    shown = sorted(result.texts.items(), key=lambda item: _place(order, item[0]))
    texts = [MadeFile(text.encode("utf-8", "replace"), "txt") for _, t in shown for text in t]
    if not named and not texts:
        words = "the prompt ended well and has no image: no node saved one"
        raise WebUIReplyError(words, stage=stage, status=200, kind=BadReply.NO_IMAGE)
    masks = {
        file.filename
        for node, listed in saved
        if result.workflow and shows_mask(result.workflow, node)
        for file in listed
    }
    reply = _reply(files, stage, [(file,) for file in named], masks, is_plain=is_plain)
    info = _info(files, stage, payload, result.workflow)
    return replace(reply, info=info, files=(*reply.files, *texts))


def _place(order: list[str], node: str) -> int:
    return order.index(node) if node in order else len(order)


def _refuse_of_another_prompt(
    stage: str, folder: str, file: OutputFile, node: str, result: PromptResult
) -> None:
    """Raise WebUIReplyError for a file that lies elsewhere, unless its node is known to have run: a
    custom node may choose its own folder."""
    subfolder = file.subfolder.replace("\\", "/")
    is_ours = subfolder == folder or subfolder.startswith(f"{folder}/")
    has_run = result.cached is not None and node not in result.cached
    if file.type == "output" and not is_ours and not has_run:
        words = "ComfyUI answered from its cache, with a file of another prompt"
        raise WebUIReplyError(words, stage=stage, status=200, kind=BadReply.NO_IMAGE)


def reply_from_folder(
    files: Files, stage: str, payload: Mapping[str, Any], prompt_id: str
) -> Reply | None:
    """Return what a prompt had saved when ComfyUI ended and forgot it; None unless all
    of them are there and whole. A disk that was full leaves one that is cut off, under its final
    name."""
    named = _files_expected(files, stage, payload, prompt_id)
    if not named:
        return None
    try:
        reply = _reply(files, stage, named, _masks_expected(payload, prompt_id))
    except (WebUIReplyError, WebUIBadRequestError, WebUINotUsableError):
        return None
    workflow = _workflow_in(reply.images[0]) if reply.images else None
    return replace(reply, info=_info(files, stage, payload, workflow))


def _files_expected(
    files: Files, stage: str, payload: Mapping[str, Any], prompt_id: str
) -> list[tuple[OutputFile, ...]]:
    """Return the files that a prompt saves, as far as that is known before, each by the names that
    it may have; else []."""
    folder, template = folder_of(prompt_id), files.template_for(stage, payload)
    classes = files.known_classes()
    names: Sequence[tuple[str, ...]]
    if (own := call_in(payload)) is not None:
        workflow = own.ready(folder, [""] * len(own.images))
        names = _names_in(files, folder, series_of(workflow, classes, own.takes))
    elif template is not None:
        names = _names_in(files, folder, series_of(template.filled(payload, folder), classes))
    else:
        workflow = _shape(stage, payload, folder)
        counts = saved_by(workflow, payload)
        stems = {
            node: str(workflow.nodes[node].inputs[PREFIX]).rpartition("/")[2] for node in counts
        }
        names = [
            (f"{stems[node]}_{number:05}_.png",)
            for node, count in counts.items()
            for number in range(1, count + 1)
        ]
    return [tuple(OutputFile(name, folder, "output") for name in each) for each in names]


def _names_in(
    files: Files, folder: str, series: Sequence[Series] | None
) -> Sequence[tuple[str, ...]]:
    """Return the names of the files of a workflow; of a node that makes nobody knows how many, of
    those that are there. [] where one has none, or they may be anywhere."""
    found: list[tuple[str, ...]] = []
    for each in series or ():
        if each.count is not None:
            found += map(each.names, range(1, each.count + 1))
            continue
        there = _there(files, folder, each)
        if not there:
            return []
        found += there
    return found


def _there(files: Files, folder: str, series: Series) -> list[tuple[str, ...]]:
    """Return the names of the files of a node that are there."""
    found: list[tuple[str, ...]] = []
    while len(found) < MOST_IN_SERIES:
        known_as = series.names(len(found) + 1)
        asked = ((name, files.file(OutputFile(name, folder, "output"))) for name in known_as)
        there = (name for name, data in asked if data is not None)
        name = next(there, None)
        if name is None:
            break
        found.append((name,))
    return found


def _masks_expected(payload: Mapping[str, Any], prompt_id: str) -> set[str]:
    """Return the names that pictures of masks have, of a workflow of the job's own."""
    if (own := call_in(payload)) is None:
        return set()
    workflow = own.ready(folder_of(prompt_id), [""] * len(own.images))
    names = files_of(workflow, {}, lambda id: own.takes(id) and shows_mask(workflow, id))
    return {name for each in names or () for name in each}


def _workflow_in(picture: PictureData) -> Workflow | None:
    """Return the workflow that ComfyUI wrote into a picture; None with --disable-metadata."""
    try:
        with Image.open(opened(picture), formats=FORMATS) as image:
            written = json.loads(image.info.get("prompt", ""))
        return workflow_of(written) if isinstance(written, dict) else None
    except (*BROKEN, TypeError, RecursionError):  # a WorkflowError is a ValueError, too
        return None


def _info(
    files: Files, stage: str, payload: Mapping[str, Any], workflow: Workflow | None
) -> Mapping[str, Any]:
    template = files.template_for(stage, payload)
    named = {"sd_model_name": template.name} if template and STAGES[stage].has_steps else {}
    if workflow is None:
        return {"version": files.version, **named}
    return {**generation_info(workflow, payload, files.version), **named}


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
    named: Iterable[tuple[OutputFile, ...]],
    masks: Collection[str] = (),
    *,
    is_plain: bool = False,
) -> Reply:
    """Return the files as they are by their content, each by the first of its names that is there.
    `masks`: the names of pictures that may be of one colour. Raises WebUIReplyError for one that is
    gone, does not decode or is not whole."""
    images: list[PictureData] = []
    others: list[MadeFile] = []
    sizes, one_colour = [], []
    found = []
    for known_as in named:
        there = ((each, data) for each in known_as if (data := files.file(each)) is not None)
        found.append(next(there, (known_as[0], None)))
    files.all_here()
    for file, data in found:
        if data is None:
            kind = BadReply.NO_PICTURE if _claims_to_be_picture(file) else BadReply.NO_FILE
            words = f"ComfyUI names a file that is gone: {file.filename}"
            raise WebUIReplyError(words, stage=stage, status=200, kind=kind)
        if is_still_picture(data) or (
            _claims_to_be_picture(file) and format_of(data).name not in _MOVING
        ):
            size, colour = check_image(stage, len(images) + 1, data)
            images.append(data)
            sizes.append(size)
            one_colour.append(colour if file.filename not in masks else False)
        else:
            others.append(_whole(stage, file, data))
    return Reply(
        tuple(images), 0, {}, tuple(sizes), tuple(one_colour), is_plain, files=tuple(others)
    )


_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_MOVING = ("animated PNG", "animated WebP", "GIF")


def _claims_to_be_picture(file: OutputFile) -> bool:
    return file.filename.lower().endswith(_PICTURES)


def _whole(stage: str, file: OutputFile, data: PictureData) -> MadeFile:
    format = format_of(data, file.filename)
    if len(data) and is_named_after_another(format, file.filename):
        ending = file.filename.rpartition(".")[2]
        words = f"a file that ComfyUI calls .{ending} is {format.name}, or its start is missing"
        raise WebUIReplyError(words, stage=stage, status=200, kind=BadReply.NO_FILE)
    try:
        check_whole_file(data, format)
    except NotWholeError as error:
        words = f"a file that ComfyUI saved ({format.name}, {len(data):,} bytes) {error}"
        raise WebUIReplyError(words, stage=stage, status=200, kind=BadReply.NO_FILE) from error
    return MadeFile(data, format.ending)
