"""Read the templates of a ComfyUI from the folder that the config names."""

from __future__ import annotations

from pathlib import Path

from sdwatch.errors import Problem
from sdwatch.policy.translation.template_file import WorkflowTemplate, read_template
from sdwatch.policy.translation.templates import Templates
from sdwatch.policy.workflow.workflow import MAX_BYTES, WorkflowError
from sdwatch.system import disk

MOST_TEMPLATES = 500


def read_templates(folder: Path | None) -> Templates:
    """Return what the folder has now; no templates without one. Never raises: what cannot be read
    is among the wrong ones."""
    if folder is None:
        return Templates()
    try:
        names = sorted(e.name for e in disk.entries(folder) if e.name.endswith(".json"))
    except OSError as error:
        return Templates(wrong={"": _problem(folder, disk.in_words(error))})
    known: list[WorkflowTemplate] = []
    wrong: dict[str, Problem] = {}
    for name in names[:MOST_TEMPLATES]:
        try:
            with disk.open_file(folder / name) as file:
                template = read_template(name, file.read(MAX_BYTES + 1))
        except WorkflowError as error:
            wrong[_called(name)] = Problem(*error.place, str(error), file=str(folder / name))
        except OSError as error:
            wrong[_called(name)] = _problem(folder / name, disk.in_words(error))
        else:
            known.append(template)
    if len(names) > MOST_TEMPLATES:
        why = f"has {len(names):,} templates; at most {MOST_TEMPLATES} are read"
        wrong[""] = _problem(folder, why)
    return Templates(tuple(known), wrong)


def _problem(path: Path, why: str) -> Problem:
    return Problem(0, 0, why, file=str(path))


def _called(file: str) -> str:
    """Return the name that jobs would use."""
    return file.removesuffix(".json").rpartition(".")[0] or file.removesuffix(".json")
