"""Find the stages in a job file, in its short form and in its long one. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated, TypeAlias

from pydantic import Field, create_model

from sdwatch.errors import Problem
from sdwatch.policy.job.conduct import ConductFields
from sdwatch.policy.job.needs import NeedsFields
from sdwatch.policy.job.outputs.result import ResultFields
from sdwatch.policy.job.points.expansion import Expanding
from sdwatch.policy.job.points.template import Part
from sdwatch.policy.job.stage.stage_kinds import STAGE_NAMES, STAGES, TXT2IMG
from sdwatch.policy.job.text.document import Mapping, Node, Scalar, Sequence
from sdwatch.policy.job.text.typed_values import WHOLE, found
from sdwatch.policy.naming import nearest

MAX_STAGES = 100

Keys: TypeAlias = "dict[str, tuple[Scalar, Node]]"


class Header(ResultFields, ConductFields, NeedsFields):
    """Fields of the job itself."""

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="For people; default: the file's name."
    )
    priority: Annotated[int, Field(ge=-1000, le=1000), WHOLE] | None = Field(
        None, description="Higher comes first; default: 0."
    )


ShortForm = create_model("ShortForm", __base__=(Header, Expanding, TXT2IMG.fields))
LongForm = create_model("LongForm", __base__=(Header, Expanding))


@dataclass(frozen=True)
class StageForms:
    """Finds the stages of a job. `names`: those that have values; `problems`: gets what is
    wrong."""

    names: Collection[str]
    problems: list[Problem]

    def parts_of(self, root: Mapping, keys: Keys) -> tuple[list[Part], Mapping]:
        """Return the stages as written, and the job's own fields."""
        if _is_workflow(root):
            self._fail(
                root,
                "this is a workflow of ComfyUI and no job: put it into a folder with a job.yaml "
                "that names it, as `stages:` with `- workflow: {file: NAME.json}`",
            )
            return [], replace(root, entries=())
        head = tuple(entry for entry in root.entries if entry[0].text in Header.model_fields)
        rest = tuple(entry for entry in root.entries if entry[0].text not in Header.model_fields)
        parts_of = self._long_form if "stages" in keys else self._short_form
        return parts_of(replace(root, entries=rest), keys), replace(root, entries=head)

    def _short_form(self, root: Mapping, keys: Keys) -> list[Part]:
        """Find one txt2img stage, with its fields at the top level."""
        if (given := next((key for key in keys if key in STAGE_NAMES), None)) is not None:
            self._fail(root, f'put the stage into a list under "stages:", as `- {given}:`')
            return []
        prompt = keys.get("prompt")
        misspelt = prompt is None and any('"prompt"' in nearest(key, ("prompt",)) for key in keys)
        if misspelt or "prompt" in self.names:
            pass  # reported at its place, or given for each point
        elif prompt is None or (isinstance(prompt[1], Scalar) and prompt[1].is_null):
            self._fail(
                prompt[0] if prompt else root, 'a job needs a "prompt" with a text, or "stages"'
            )
        return [Part(TXT2IMG, ShortForm, TXT2IMG.name, root, root)]

    def _long_form(self, root: Mapping, keys: Keys) -> list[Part]:
        """Find `stages:`, with nothing of a stage beside it."""
        for key, _ in root.entries:
            if key.text in ShortForm.model_fields:
                self._fail(
                    key,
                    f'"{key.text}" is beside "stages"; move it into a stage or into "defaults", '
                    'or remove "stages"',
                )
            elif key.text != "stages":
                near = nearest(key.text, (*LongForm.model_fields, "stages"))
                self._fail(key, f"unknown field {found(key)} in a job{near}")
        return self._parts(keys["stages"][1])

    def _parts(self, node: Node) -> list[Part]:
        if not isinstance(node, Sequence) or not node.items:
            what = "an empty list" if isinstance(node, Sequence) else found(node)
            self._fail(node, f"stages must be a list such as `- txt2img:`, not {what}")
            return []
        if len(node.items) > MAX_STAGES:
            self._fail(node, f"a job has at most {MAX_STAGES} stages, not {len(node.items)}")
            return []
        parts = [part for part in map(self._part, node.items) if part is not None]
        return [replace(part, number=number) for number, part in enumerate(parts, 1)]

    def _part(self, node: Node) -> Part | None:
        if (
            isinstance(node, Scalar) and node.text in STAGE_NAMES
        ):  # `- upscale`, with nothing to say
            entry: tuple[Scalar, Node] = (node, Scalar("", node.line, node.column))
        elif isinstance(node, Mapping) and len(node.entries) == 1:
            entry = node.entries[0]
        else:
            wrong = f"{found(node)} is not a stage"
            if isinstance(node, Mapping):
                wrong = f"{len(node.entries)} keys in one stage (indent its fields below its kind)"
            aliases = " or ".join(f'"{name}"' for name in STAGE_NAMES if name not in STAGES)
            kinds = f"{', '.join(STAGES)} (also called {aliases})"
            self._fail(node, f"{wrong}; a stage is one of {kinds}, then a colon")
            return None
        key, value = entry
        kind = STAGE_NAMES.get(key.text)
        if kind is None:
            near = nearest(key.text, STAGE_NAMES)
            self._fail(key, f"unknown stage {found(key)}{near}")
            return None
        if isinstance(value, Scalar) and value.is_null:
            value = Mapping((), key.line, key.column)
        return Part(kind, kind.fields, key.text, key, value)

    def _fail(self, node: Node, message: str) -> None:
        self.problems.append(Problem(node.line, node.column, message))


def _is_workflow(root: Mapping) -> bool:
    """Return whether somebody dropped a workflow, exported in whichever form."""
    keys = {key.text for key, _ in root.entries}
    nodes = (value for _, value in root.entries if isinstance(value, Mapping))
    return {"nodes", "links"} <= keys or any(
        key.text == "class_type" for node in nodes for key, _ in node.entries
    )
