"""Check whether one ComfyUI can run the workflow of a stage. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sdwatch.policy.job.calls.catalogue import NODE_CLASSES
from sdwatch.policy.job.calls.name_checks import CheckReport
from sdwatch.policy.job.stage.confinement import HINT, JobRules, is_named_as_place
from sdwatch.policy.job.workflow_reach import may_be_place
from sdwatch.policy.workflow.node_classes import NodeClasses
from sdwatch.policy.workflow.places import InputPlace
from sdwatch.policy.workflow.preflight import Misfit, misfits
from sdwatch.policy.workflow.workflow import Workflow
from sdwatch.policy.workflow.workflow_call import PREFIX, WorkflowCall, choosing_places, savers_in


def check_workflow(report: CheckReport, rules: JobRules) -> None:
    """Report what the WebUI cannot run of the workflow of a stage."""
    stage, classes = report.stage, report.catalogue.classes
    used = stage.workflow
    assert used is not None
    assert stage.node is not None
    if classes is None:
        report.skipped["node classes"] = f"{report.webui} gave no /object_info"
        return
    call = used.call(max(used.seed, 0) if used.seed is not None else None)
    workflow = call.ready("sdwatch", [""] * len(call.images))
    allowed = (*used.allow, *rules.allow)
    found = [*misfits(workflow, classes, allowed_paid=allowed, coming=call.images)]
    found += _named_places(workflow, classes, rules)
    found += _idle_outputs(workflow, classes, call)
    if found:
        # Models arrive while it runs. One that restarts itself, as ComfyUI-Manager makes it do, or
        # that somebody else restarts, may have other classes, and that is no new incarnation.
        report.refusing.add(NODE_CLASSES)
    for misfit in found:
        place = used.where(stage.node, InputPlace(misfit.node, misfit.input))
        report.fail_at(place, misfit.message)


def _named_places(workflow: Workflow, classes: NodeClasses, rules: JobRules) -> Iterator[Misfit]:
    """Yield inputs that take any text, are places by their name, and have one."""
    for node in workflow.nodes.values():
        kind = classes.get(node.kind)
        for name, value in node.inputs.items():
            rule = kind.inputs.get(name) if kind else None
            is_place = rule is not None and rule.type == "STRING" and is_named_as_place(name)
            if not is_place or name == PREFIX or value in ("", None):
                continue
            if not may_be_place(node, name, rules):
                why = f"{name} of node {node.shown} names a place on ComfyUI's disk{HINT}"
                yield Misfit(node.id, name, why)


def _idle_outputs(workflow: Workflow, classes: NodeClasses, call: WorkflowCall) -> Iterator[Misfit]:
    """Yield nodes whose files are to be taken and that save none."""
    saves = {*choosing_places(workflow, classes)}
    for id in savers_in(workflow):
        kind = classes.get(workflow.nodes[id].kind)
        saves |= {id} if kind is None or kind.saves else set()
    for id in call.outputs:
        if id not in saves:
            yield Misfit(id, "", f"node {workflow.nodes[id].shown} saves nothing")
    kinds = (classes.get(node.kind) for node in workflow.nodes.values())
    if not saves and any(kind is not None and kind.saves for kind in kinds):  # else it is said
        words = "no node of the workflow saves anything: use SaveImage (a PreviewImage only shows)"
        yield Misfit("", "", words)
