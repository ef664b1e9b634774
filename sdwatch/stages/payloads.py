"""Build the payload of a call: its fields, with the images of the job and of earlier stages in
them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sdwatch.errors import Problem, SpoolError
from sdwatch.policy.failure.ledger import Image
from sdwatch.policy.job.calls.payload import Call, own_images
from sdwatch.policy.job.job import Stage
from sdwatch.policy.job.outputs.picture import size_of
from sdwatch.policy.job.stage.scripts import SCRIPT_FIELDS, with_images
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.report.envelope import (
    lost_image_envelope,
    no_picture_envelope,
    not_kept_envelope,
)
from sdwatch.spool.inside import MAX_PICTURE_BYTES
from sdwatch.spool.run import JOB_FILE, Run
from sdwatch.stages.run_end import CallFailedError

if TYPE_CHECKING:
    from sdwatch.policy.job.workflow_stage import StageWorkflow


class Payloads:
    """Builds the payloads of `run`. `read` calls a function that reads a file of the job, and
    retries it while that file cannot be read."""

    def __init__(self, run: Run, read: Callable[[Callable[[], Any]], Any]) -> None:
        self._run = run
        self._read = read

    def payload(self, stage: Stage, call: Call) -> dict[str, Any]:
        """Return the call's fields with its images in them. Raises CallFailedError for an image
        that is gone, or no image."""
        own = bool(own_images(stage))
        if stage.workflow is not None:
            return self._workflow(stage.workflow, call, own)
        images = self._read_all(call, call.images, own)
        payload = dict(call.fields)
        if mask := payload.get("mask"):
            payload["mask"] = _encoded(self._read_image(call, mask, own=True))
        payload |= self._script_images(call, stage)
        kind = STAGES[call.kind]
        payload |= kind.carrying([_encoded(image) for image in images])
        has_size = "width" in payload or "height" in payload
        if kind.needs_image and kind.has_steps and not has_size:
            # Without a size a WebUI squeezes every image to 512x512 (measured).
            payload |= _size_of(images[0])
        return payload

    def _workflow(self, workflow: StageWorkflow, call: Call, own: bool) -> dict[str, Any]:
        fixed = self._read_all(call, list(workflow.images.values()), own=True)
        images = [*fixed, *self._read_all(call, call.images, own)]
        made = workflow.call(call.fields.get("seed"))
        made = replace(made, workflow=replace(made.workflow, places=self._places(workflow)))
        return {
            **call.fields,
            **made.as_payload(),
            **STAGES[call.kind].carrying(list(map(_encoded, images))),
        }

    def _places(self, workflow: StageWorkflow) -> dict[str, str]:
        """Return where the nodes of a workflow are written, and what the job sets in them."""
        if self._run.job is None:
            return {}
        located, found = self._run.job.sources.located, {}
        for name, (line, column) in workflow.places().items():
            place = located(Problem(line, column, ""))
            found[name] = f"{place.file or JOB_FILE}:{place.line}:{place.column}"
        return found

    def _script_images(self, call: Call, stage: Stage) -> dict[str, Any]:
        """Return the scripts' arguments with the job's images instead of their names. Each image is
        read once."""
        names = sorted(set(stage.script_images))
        read = self._read_all(call, names, own=True)
        images = dict(zip(names, map(_encoded, read), strict=True))
        given = {key: call.fields[key] for key in SCRIPT_FIELDS if key in call.fields}
        return {key: with_images(value, lambda n: images.get(n, n)) for key, value in given.items()}

    def _read_all(self, call: Call, names: Sequence[str], own: bool) -> list[bytes]:
        images: list[bytes] = []
        for name in names:
            images.append(self._read_image(call, name, own))
            if sum(map(len, images)) > MAX_PICTURE_BYTES:
                why = f"and the images before it have more than {MAX_PICTURE_BYTES >> 20} MB"
                raise CallFailedError(no_picture_envelope(call.kind, call.id, name, why))
        return images

    def _read_image(self, call: Call, name: str, own: bool) -> bytes:
        try:
            image: bytes = self._read(lambda: self._run.read_image(name, own))
            return image
        except FileNotFoundError as error:
            if not own and self._run.was_dropped(name):
                raise CallFailedError(not_kept_envelope(call.kind, call.id, name)) from error
            raise CallFailedError(lost_image_envelope(call.kind, call.id, name)) from error
        except SpoolError as error:
            why = str(error)
            raise CallFailedError(no_picture_envelope(call.kind, call.id, name, why)) from error


def names_of(images: Sequence[Image]) -> list[str]:
    """Return the images that a later stage may take."""
    return [image.name for image in images if not image.grid]


def _encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


def _size_of(image: bytes) -> dict[str, int]:
    """Return an image's size as a WebUI makes it: multiples of 8."""
    width, height = size_of(io.BytesIO(image))
    return {"width": max(8, width // 8 * 8), "height": max(8, height // 8 * 8)}
