"""Check the sizes that a job's stages ask for against one WebUI and `max_generation`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sdwatch.policy.job.calls.name_checks import CheckReport
from sdwatch.policy.job.calls.payload import (
    DEFAULT_SCALE,
    DEFAULT_SIDE,
    first_size,
    hires_size,
    names_upscaler,
    restores_faces,
    scaled,
)
from sdwatch.policy.job.files.job_images import Size
from sdwatch.policy.job.stage.stage_kinds import STAGES, Makes
from sdwatch.policy.naming import some_of


def check_size(report: CheckReport, source: Size | None) -> Size | None:
    """Check the sizes and return that of the result, if it is known. `source`: the size of the
    picture that the stage works on, if it is known."""
    return CHECKS[STAGES[report.stage.kind].makes](report, source)


def _check_generated(report: CheckReport, source: Size | None) -> Size | None:
    fields = report.stage.fields
    width, height = fields.get("width"), fields.get("height")
    for name, side in (("width", width), ("height", height)):
        if side and side % 8:
            near = f"the WebUI would silently use {side // 8 * 8}"
            report.fail((name,), f"{name} must be a multiple of 8, not {side}; {near}")
    if (width, height) == (8, 8) and report.kind.fails_at_8x8:
        report.fail(("width",), f"{report.webui} answers 500 to a size of 8x8")
    first = first_size(report.stage, source)
    if first is None:
        return None
    made = hires_size(first, fields)
    name = "hr_scale" if made != first else "width"
    _check_area(report, name, made, fields.get("batch_size", 1))
    return made


def _check_saved(report: CheckReport, source: Size | None) -> Size | None:
    """Check nothing but the area: only the workflow knows what else it makes."""
    del source
    if (workflow := report.stage.workflow) is not None:
        width, height = workflow.value("width"), workflow.value("height")
        if isinstance(width, int) and isinstance(height, int):
            batch = workflow.pictures or 1
            field = "width" if "width" in report.stage.fields else "file"
            _check_area(report, field, (width, height), batch)
    return None


def _check_upscaled(report: CheckReport, source: Size | None) -> Size | None:
    fields = report.stage.fields
    whole, made = upscaled(source, fields)
    if not names_upscaler(fields) and report.kind.needs_upscaler:
        asks_for_more = made != source
        if source is None:  # as far as it is known
            times = fields.get("upscaling_resize", DEFAULT_SCALE)
            asks_for_more = fields.get("resize_mode") != 1 and times != 1
        if asks_for_more and not restores_faces(fields):
            _without_upscaler(report)
        return source
    if whole:
        name = "upscaling_resize_w" if fields.get("resize_mode") == 1 else "upscaling_resize"
        _check_area(report, name, whole, 1)
    return made


def _without_upscaler(report: CheckReport) -> None:
    """Report an upscale without an upscaler: the picture would come back unchanged, with a 200
    (measured with Forge and AUTOMATIC1111), whatever else the job asks for."""
    names = report.names("upscalers")
    others = [name for name in names.shown if name != "None"] if names else []
    named = 'has the upscaler_1 "None"' if "upscaler_1" in report.stage.fields else "names none"
    webui, there_are = report.webui, f"; there are {some_of(others)}" if others else ""
    report.fail(("upscaler_1",), f"{webui} needs an upscaler to enlarge a picture, and "
              f"this stage {named}{there_are}")  # fmt: skip


def _check_area(report: CheckReport, field: str, made: Size, batch: int) -> None:
    if made[0] * made[1] * batch <= report.max_generation:
        return
    times = f", {batch} of them," if batch > 1 else ""
    area, most = made[0] * made[1] * batch / 1e6, report.max_generation / 1e6
    report.fail((field,), f"{made[0]}x{made[1]}{times} has {area:.4g} megapixels; "
              f"max_generation in the config allows {most:.4g}")  # fmt: skip


CHECKS: Mapping[Makes, Callable[[CheckReport, Size | None], Size | None]] = {
    Makes.GENERATED: _check_generated,
    Makes.ENLARGED: _check_upscaled,
    Makes.SAVED: _check_saved,
}


def upscaled(source: Size | None, fields: Mapping[str, Any]) -> tuple[Size | None, Size | None]:
    """Return the size that an upscale computes, and that of its result: an upscale to a size
    enlarges the picture until both sides are long enough, and crops the rest."""
    if fields.get("resize_mode") != 1:
        made = source and scaled(source, fields.get("upscaling_resize", DEFAULT_SCALE))
        return made, made
    width = fields.get("upscaling_resize_w", DEFAULT_SIDE)
    height = fields.get("upscaling_resize_h", DEFAULT_SIDE)
    if source is None:
        return (width, height), (width, height)
    whole = scaled(source, max(width / source[0], height / source[1]))
    return whole, (width, height) if fields.get("upscaling_crop", True) else whole
