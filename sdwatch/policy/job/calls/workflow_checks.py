"""Check whether one ComfyUI can run the workflow of a stage. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sdwatch.policy.job.calls.catalogue import NODE_CLASSES
from sdwatch.policy.job.calls.name_checks import CheckReport, embeddings_in
from sdwatch.policy.job.calls.payload import DRAWN_FOR_WORKFLOWS
from sdwatch.policy.job.stage.confinement import HINT, JobRules, is_named_as_place
from sdwatch.policy.job.workflow_stage import SEEDS, StageWorkflow
from sdwatch.policy.workflow.node_classes import NodeClasses, rule_of, with_listed_checkpoints
from sdwatch.policy.workflow.places import InputPlace, prompt_texts
from sdwatch.policy.workflow.preflight import Misfit, misfits, plain
from sdwatch.policy.workflow.workflow import Workflow
from sdwatch.policy.workflow.workflow_call import PREFIX, WorkflowCall, choosing_places, savers_in


def check_workflow(report: CheckReport) -> None:
    """Report what the WebUI cannot run of the workflow of a stage."""
    rules, stage, classes = report.rules, report.stage, report.catalogue.classes
    used = stage.workflow
    assert used is not None
    if classes is None:
        report.skipped["node classes"] = f"{report.webui} gave no /object_info"
        return
    is_drawn = used.seed is not None and used.seed < 0
    call = used.call(DRAWN_FOR_WORKFLOWS if is_drawn else used.seed)
    ready = call.ready("sdwatch", [""] * len(call.images))
    workflow = with_listed_checkpoints(ready, classes)
    allowed = (*used.allow, *rules.allow)
    coming = (*call.images, *(used.seeds if is_drawn else ()))
    found = [*misfits(workflow, classes, allowed_paid=allowed, coming=coming)]
    found += _last_seeds(used, classes, stage.fields.get("repeat", 1))
    found += _named_places(workflow, classes, rules)
    found += _idle_outputs(workflow, classes, call)
    _check_embeddings(report, used)
    for at, why in _off_steps(workflow, classes):
        report.warn_at(used.where(at), why)
    if found:
        # Models arrive while it runs. One that restarts itself, as ComfyUI-Manager makes it do, or
        # that somebody else restarts, may have other classes, and that is not a new incarnation.
        report.refusing.add(NODE_CLASSES)
    for misfit in found:
        report.fail_at(used.where(InputPlace(misfit.node, misfit.input)), misfit.message)


def _check_embeddings(report: CheckReport, used: StageWorkflow) -> None:
    """Look up the embeddings that its prompts name."""
    for place in sorted(prompt_texts(used.workflow)):
        text = used.workflow.nodes[place.node].inputs[place.input]
        for name in embeddings_in(text) if isinstance(text, str) else ():
            names = report.names("embeddings")
            if names is not None and name not in names:
                report.lacks(used.where(place), "embedding", "embeddings", name, names)


def _off_steps(workflow: Workflow, classes: NodeClasses) -> Iterator[tuple[InputPlace, str]]:
    """Yield whole numbers that the editor would not let anybody type: ComfyUI takes them, and most
    nodes use another one, as EmptyLatentImage does (height // 8 in nodes.py of 0.33.0)."""
    for node in workflow.nodes.values():
        for name, value in node.values().items():
            rule = rule_of(classes, node.kind, name)
            if rule is None or rule.type != "INT" or type(value) is not int:
                continue
            beyond = (value - int(rule.minimum or 0)) % rule.step
            if beyond and value > (rule.minimum or 0):
                why = f"goes in steps of {rule.step}; its node may silently use {value - beyond}"
                yield InputPlace(node.id, name), f"input {name} of node {node.shown} {why}"


def _last_seeds(used: StageWorkflow, classes: NodeClasses, calls: int) -> Iterator[Misfit]:
    """Yield inputs that do not take the largest seed that they may get, though they may take the
    first. `calls`: with a seed each."""
    is_drawn = used.seed is not None and used.seed < 0
    last = 2 * DRAWN_FOR_WORKFLOWS - 1 if is_drawn else (used.seed or 0) + calls - 1
    for place, further in used.seeds.items():
        node = used.workflow.nodes[place.node]
        rule = rule_of(classes, node.kind, place.input)
        most = rule.maximum if rule else None
        if most is None or last + further <= most or last + further >= SEEDS:
            continue
        why = f"and the last of {calls} calls has {last + further}"
        if is_drawn:
            why = f"and a random seed may be as large as {last}: give a seed"
        elif (used.seed or 0) + further > most:
            continue  # the first is too large, too
        words = f"input {place.input} of node {node.shown} takes at most {plain(most)}, {why}"
        yield Misfit(place.node, place.input, words)


def _named_places(workflow: Workflow, classes: NodeClasses, rules: JobRules) -> Iterator[Misfit]:
    """Yield inputs that take any text, are places by their name, and have one."""
    for node in workflow.nodes.values():
        for name, value in node.inputs.items():
            rule = rule_of(classes, node.kind, name)
            is_place = rule is not None and rule.type == "STRING" and is_named_as_place(name)
            if not is_place or name == PREFIX or value in ("", None):
                continue
            if not rules.allows(node.kind, name):
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
