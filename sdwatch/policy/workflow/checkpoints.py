"""The checkpoints of one ComfyUI, as its list names them and as jobs do. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PureWindowsPath

from sdwatch.policy.workflow.node_classes import NodeClasses
from sdwatch.policy.workflow.workflow import Workflow

_CHECKPOINT = "ckpt_name"


def choices(classes: NodeClasses, kind: str, input: str) -> tuple[str, ...]:
    """Return the names that an input of a node class takes; () where there is no such list."""
    found = classes.get(kind)
    rule = found.inputs.get(input) if found else None
    return (rule.choices or ()) if rule else ()


def checkpoints(classes: NodeClasses) -> tuple[str, ...]:
    """Return the checkpoints, as CheckpointLoaderSimple names them: paths below their folder."""
    return choices(classes, "CheckpointLoaderSimple", "ckpt_name")


def checkpoint_meant(name: str, listed: Sequence[str]) -> str:
    """Return the checkpoint of the list that a job's name means: as it is listed, or without its
    folder or its ending; '' where none or several are meant. Case is passed over."""
    if name in listed:
        return name
    found = [each for each in listed if name.lower() in _spellings(each)]
    return found[0] if len(found) == 1 else ""


def _spellings(listed: str) -> set[str]:
    path = PureWindowsPath(listed)
    both = (path.as_posix(), path.with_suffix("").as_posix(), path.name, path.stem, listed)
    return {spelling.lower() for spelling in both}


def with_listed_checkpoints(workflow: Workflow, classes: NodeClasses) -> Workflow:
    """Return a workflow whose checkpoints have the names in ComfyUI's list, where the same file is
    meant; one that is not there keeps its name."""
    listed = checkpoints(classes)
    values: dict[tuple[str, str], str] = {}
    for node in workflow.nodes.values():
        name = node.inputs.get(_CHECKPOINT)
        if isinstance(name, str) and (meant := checkpoint_meant(name, listed)):
            values[node.id, _CHECKPOINT] = meant
    return workflow.with_values(values)
