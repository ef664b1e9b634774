"""Make the workflow of a call: its fields, with its images uploaded and its names as ComfyUI has
them."""

from __future__ import annotations

import base64
import binascii
import io
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from sdwatch.errors import WebUIBadRequestError, WebUIError
from sdwatch.policy.failure.facts import checkpoint_named
from sdwatch.policy.job.outputs.picture import NoPictureError, size_of, smallest_picture
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.translation.built_in import canary_picture, drawing, enlarging
from sdwatch.policy.translation.template_file import WorkflowTemplate
from sdwatch.policy.workflow.node_classes import (
    NodeClasses,
    checkpoint_meant,
    checkpoints,
    with_listed_checkpoints,
)
from sdwatch.policy.workflow.workflow import Workflow, WorkflowError
from sdwatch.policy.workflow.workflow_call import call_in, never_cached, without_traces
from sdwatch.webui.http.comfyui_questions import ComfyUIQuestions

_CANARY_STEPS = 1
_SIZE = ("width", "height", "batch_size")
_COLOURS = 1 << 24


class WorkflowsOfCalls:
    """Makes the workflows of one ComfyUI. `uploads`: takes images for LoadImage. `classes`: returns
    its node classes; `template`: that of a call, None for a built-in workflow."""

    def __init__(
        self,
        uploads: ComfyUIQuestions,
        classes: Callable[[], NodeClasses],
        template: Callable[[str, Mapping[str, Any]], WorkflowTemplate | None],
    ) -> None:
        self._uploads = uploads
        self._template = template
        self._classes = classes
        self._uploaded: dict[str, int] = {}  # images by the folder that they are in

    def of(self, stage: str, payload: Mapping[str, Any], folder: str, *, canary: bool) -> Workflow:
        """Return the workflow of a call, whose files go into `folder`. `canary`: it is not a job's.
        Raises WebUIError, also where an upload fails."""
        own = call_in(payload)
        if canary and own is None and has_no_model(payload):
            sides = (int(payload.get(name) or 1) for name in _SIZE)
            return canary_picture(random.randrange(_COLOURS), *sides)
        images = list(_images_of(stage, payload))
        self._uploaded[folder] = len(images)
        names = [
            self._uploads.upload(f"{number}.png", folder, image)
            for number, image in enumerate(images, 1)
        ]
        if own is not None:
            workflow = with_listed_checkpoints(own.ready(folder, names), self._classes())
            return self._as_test(workflow) if canary else self._run_anyway(workflow, folder)
        if (template := self._template(stage, payload)) is not None:
            try:
                workflow = template.filled(payload, folder, names)
            except WorkflowError as error:
                raise WebUIBadRequestError(str(error)) from error
            return self._run_anyway(workflow, folder)
        if STAGES[stage].has_steps:
            return drawing(payload, self._checkpoint(payload), folder, names)
        try:
            size = size_of(io.BytesIO(images[0]))
        except NoPictureError as error:
            raise WebUIBadRequestError(f"the image to enlarge {error}") from error
        return enlarging(payload, folder, names[0], size)

    def _run_anyway(self, workflow: Workflow, folder: str) -> Workflow:
        return never_cached(workflow, self._classes(), folder)

    def _as_test(self, workflow: Workflow) -> Workflow:
        try:
            return without_traces(workflow, self._classes())
        except WorkflowError as error:
            raise WebUIBadRequestError(str(error)) from error

    def take_back(self, folder: str, images: int = 0) -> None:
        """Put a tiny picture in the place of each image of a call that has ended: ComfyUI
        deletes none before its next start. `images`: how many they were, of a call that an earlier
        sdwatch sent. Never raises."""
        for number in range(1, (self._uploaded.pop(folder, 0) or images) + 1):
            try:
                self._uploads.upload(f"{number}.png", folder, smallest_picture())
            except WebUIError:
                return

    def take_back_all_but(self, folders: Collection[str]) -> None:
        """Do that for all calls that nobody waits for any more. `folders`: of the others."""
        for folder in [folder for folder in self._uploaded if folder not in folders]:
            self.take_back(folder)

    def _checkpoint(self, payload: Mapping[str, Any]) -> str:
        """Return the checkpoint of a call as ComfyUI lists it: it has none that is loaded. A name
        that it does not list stays as it is, and is refused by ComfyUI itself."""
        listed = checkpoints(self._classes())
        if named := checkpoint_named(payload):
            return checkpoint_meant(named, listed) or named
        if len(listed) == 1:
            return listed[0]
        raise WebUIBadRequestError(
            "the call names no checkpoint, and ComfyUI has none that is loaded by itself: name one "
            "(override_settings: {sd_model_checkpoint: NAME})"
        )


def has_no_model(payload: Mapping[str, Any]) -> bool:
    """Return whether the picture of a canary is made without one: that of a single step, and any
    that names no checkpoint, because the first in the list may be damaged or one that only other
    workflows can load. It is of one colour."""
    return payload.get("steps") == _CANARY_STEPS or not checkpoint_named(payload)


def images_in(stage: str, payload: Mapping[str, Any]) -> int:
    """Return how many images a call has."""
    return sum(1 for _ in _images_of(stage, payload))


def _images_of(stage: str, payload: Mapping[str, Any]) -> Iterator[bytes]:
    given = payload.get(STAGES[stage].image_field, ()) if STAGES[stage].takes_image else ()
    for text in given if isinstance(given, list | tuple) else [given]:
        encoded = str(text or "")
        try:
            yield base64.b64decode(encoded.partition(",")[2] if encoded[:5] == "data:" else encoded)
        except binascii.Error as error:
            raise WebUIBadRequestError("an image of the call is not base64") from error
