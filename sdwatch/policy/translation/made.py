"""What a workflow that ran used, in the form in which other WebUIs describe a picture. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PureWindowsPath
from typing import Any

from sdwatch.policy.translation.samplers import sampler_and_scheduler
from sdwatch.policy.workflow.workflow import Node, Workflow


def generation_info(workflow: Workflow, fields: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return what a workflow says of its pictures: the seed, the checkpoint, and so on; as far as
    one sampler and one checkpoint are in it. `fields`: of the job, whose names for the sampler are
    kept if they mean the same; `version`: of the WebUI."""
    info: dict[str, Any] = {"version": version} if version else {}
    models = _of_kind(workflow, "CheckpointLoaderSimple", "ckpt_name")
    if len({str(node.inputs["ckpt_name"]) for node in models}) == 1:
        info["sd_model_name"] = PureWindowsPath(str(models[0].inputs["ckpt_name"])).stem
    samplers = _of_kind(workflow, "KSampler", "seed")
    if samplers:
        info |= _sampled(samplers, fields)
    return info


def _of_kind(workflow: Workflow, kind: str, needed: str) -> list[Node]:
    return [n for n in workflow.nodes.values() if n.kind == kind and needed in n.values()]


def _sampled(samplers: list[Node], fields: Mapping[str, Any]) -> dict[str, Any]:
    batch = int(fields.get("batch_size") or 1)
    first = samplers[0].values()
    sampler, scheduler = str(first.get("sampler_name")), str(first.get("scheduler"))
    asked = str(fields.get("sampler_name") or ""), str(fields.get("scheduler") or "")
    if sampler_and_scheduler(*asked) == (sampler, scheduler):
        sampler, scheduler = asked[0] or sampler, asked[1] or scheduler
    found = {
        "seed": first["seed"],
        # A batch has one seed: its noise is as large as all its pictures.
        "all_seeds": [node.inputs["seed"] for node in samplers for _ in range(batch)],
        "steps": first.get("steps"),
        "cfg_scale": first.get("cfg"),
        "sampler_name": sampler,
        "denoising_strength": first.get("denoise"),
    }
    found["infotexts"] = [f"Steps: {found['steps']}, Schedule type: {scheduler}"]
    return {name: value for name, value in found.items() if value is not None}
