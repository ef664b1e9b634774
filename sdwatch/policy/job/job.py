"""Read a job from its YAML file: what to generate, in stages.

The smallest job is `prompt: a castle`. All mistakes of a file are reported at once, with their
places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, create_model

from sdwatch.errors import FileProblems, JobError, Problem
from sdwatch.policy.job import document
from sdwatch.policy.job.aliases import where_it_goes
from sdwatch.policy.job.confinement import JobRules, beyond
from sdwatch.policy.job.document import (
    Node,
    Scalar,
    Sequence,
    UnreadableError,
    open_end,
    parse_document,
    text_of,
    too_large,
    unique,
    written_wrong,
)
from sdwatch.policy.job.dumped import without_dumped
from sdwatch.policy.job.fields import ExtraSingleImageFields, Img2ImgFields, Txt2ImgFields
from sdwatch.policy.job.infotext import Infotext, looks_like_infotext, read_infotext
from sdwatch.policy.job.job_images import JobImages, Size
from sdwatch.policy.job.schema import Places, found, nearest, read_with_places, readable
from sdwatch.policy.job.scripts import (
    SCRIPT_FIELDS,
    Where,
    image_nodes,
    images_in,
    misshapen,
    with_images,
)

StageKind: TypeAlias = Literal["txt2img", "img2img", "extra-single-image"]

STAGE_KINDS: tuple[StageKind, ...] = ("txt2img", "img2img", "extra-single-image")
STAGE_ALIASES: Mapping[str, StageKind] = {"upscale": "extra-single-image"}
STAGE_FIELDS: Mapping[StageKind, type[BaseModel]] = {
    "txt2img": Txt2ImgFields,
    "img2img": Img2ImgFields,
    "extra-single-image": ExtraSingleImageFields,
}
_NAMES_OF_STAGES = {str(kind): frozenset(m.model_fields) for kind, m in STAGE_FIELDS.items()}
IMAGE_FIELDS = ("init_images", "image", "mask")
MAX_STAGES = 100

# Fields that would break how sdwatch runs a stage, and why.
_DROPPED = {
    "send_images": "the WebUI would return nothing",
    "force_task_id": "sdwatch names its tasks itself",
}
_PROMPTS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt")


@dataclass(frozen=True)
class Stage:
    """One step of a job: the fields that its author gave, typed, without defaults.

    Images are names within the job folder: `init_images` (a list), `image`, `mask`;
    `script_images` are those in the arguments of its scripts. `line`: where the stage starts in its
    file; `places`: line and column of each value by its path; `()` is the stage itself.
    """

    kind: StageKind
    fields: Mapping[str, Any]
    line: int
    places: Places = dataclass_field(default_factory=dict, compare=False, repr=False)
    script_images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A job file's content. Higher `priority` comes first; 0 if none was given. `sizes`: width and
    height in pixels of the images beside it, by name, when it was read."""

    name: str
    priority: int
    stages: tuple[Stage, ...]
    warnings: tuple[Problem, ...] = ()
    sizes: Mapping[str, Size] = dataclass_field(default_factory=dict, compare=False)


class Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="For people; default: the file's name."
    )
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = Field(
        None, description="Higher comes first; default: 0."
    )


ShortForm = create_model("ShortForm", __base__=(Header, Txt2ImgFields))


def _unseen(name: str) -> Size | None:
    del name
    return None


def parse_job(
    data: bytes,
    file: str,
    images: frozenset[str] | None = None,
    default_name: str = "",
    *,
    rules: JobRules = JobRules(),  # noqa: B008 - it is frozen
    look: Callable[[str], Size | None] = _unseen,
) -> Job:
    """Return the job in `data`; `file` is only named in errors.

    `images`: names of the images in the job's folder, relative to it, with `/`; None for a job that
    is a single file. `look` returns the size of an image that is there, or raises SpoolError for
    one that cannot be used, with a text such as `is cut off`; each is looked at once. Raises
    JobError with every problem."""
    infotext = _infotext_in(data)
    try:
        root = infotext.root if infotext else parse_document(data, file)
    except FileProblems as error:
        raise JobError(file, readable(error.problems)) from None
    reader = _JobReader(JobImages(images, look), rules)
    if infotext and infotext.left_out:
        left_out = f"left out of the picture's settings: {', '.join(infotext.left_out)}"
        reader.warnings.append(Problem(infotext.line, 1, left_out))
    job = reader.job(root, default_name)
    if reader.problems:
        if not infotext and (why := written_wrong(text_of(data))):
            reader.problems.append(why)
        at_end = open_end(root, data)
        raise JobError(file, readable(unfinished_at(at_end, reader.problems)))
    return job


def _infotext_in(data: bytes) -> Infotext | None:
    """Return the settings of a picture if they were pasted as the job file."""
    try:
        text = text_of(data) if not too_large(len(data)) else ""
    except UnreadableError:
        return None
    return read_infotext(text) if looks_like_infotext(text) else None


def unfinished_at(end: tuple[int, int] | None, problems: Collection[Problem]) -> Iterator[Problem]:
    """Return the problems; those at `end`, where the text stops within a value, are unfinished."""
    for problem in problems:
        at_end = (problem.line, problem.column) == end
        yield replace(problem, unfinished=problem.unfinished or at_end)


def image_names(stage: Stage) -> list[str]:
    """Return the images of the job folder that a stage names, in the order of its fields."""
    given = [stage.fields[key] for key in IMAGE_FIELDS if key in stage.fields]
    names = [name for one in given for name in ([one] if isinstance(one, str) else one)]
    return [*names, *stage.script_images]


class _JobReader:
    """Turns a document into a job and collects problems and warnings."""

    def __init__(
        self,
        images: JobImages,
        rules: JobRules,
    ) -> None:
        self.images = images
        self.rules = rules
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def job(self, root: Node, default_name: str) -> Job:
        if not isinstance(root, document.Mapping):
            self.fail(
                root,
                f"a job is a mapping of `field: value`, not {found(root)}; "
                "the smallest is `prompt: a castle`",
            )
            return Job("", 0, ())
        keys = unique(root, self.problems)
        if "stages" in keys:
            header, stages = self.long_form(root, keys)
        else:
            header, stages = self.short_form(root, keys)
        name = header.get("name", default_name)
        return Job(
            name, header.get("priority", 0), tuple(stages), tuple(self.warnings), self.images.sizes
        )

    def short_form(
        self, root: document.Mapping, keys: dict[str, tuple[Scalar, Node]]
    ) -> tuple[dict[str, Any], list[Stage]]:
        """Read one txt2img stage, with its fields at the top level."""
        if any(_kind(key) for key in keys):
            self.fail(root, 'put the stage into a list under "stages:", as `- txt2img:`')
            return {}, []
        prompt = keys.get("prompt")
        misspelt = prompt is None and any('"prompt"' in nearest(key, ("prompt",)) for key in keys)
        if misspelt:
            pass  # reported at its place
        elif prompt is None or (isinstance(prompt[1], Scalar) and prompt[1].is_null):
            self.fail(
                prompt[0] if prompt else root, 'a job needs a "prompt" with a text, or "stages"'
            )
        fields, places = self.fields(root, ShortForm, "txt2img")
        header = {key: fields.pop(key) for key in Header.model_fields if key in fields}
        return header, [Stage("txt2img", fields, root.line, places, self.script_images(fields))]

    def long_form(
        self, root: document.Mapping, keys: dict[str, tuple[Scalar, Node]]
    ) -> tuple[dict[str, Any], list[Stage]]:
        """Read `stages:`, with only name and priority beside it."""
        head = []
        for key, value in root.entries:
            if key.text in Header.model_fields:
                head.append((key, value))
            elif key.text in ShortForm.model_fields:
                self.fail(
                    key,
                    f'"{key.text}" is beside "stages"; move it into a stage, or remove "stages"',
                )
            elif key.text != "stages":
                near = nearest(key.text, (*Header.model_fields, "stages"))
                self.fail(key, f"unknown field {found(key)} in a job{near}")
        only_head = document.Mapping(tuple(head), root.line, root.column)
        header, _ = self.fields(only_head, Header, "job")
        return header, self.stages(keys["stages"][1])

    def stages(self, node: Node) -> list[Stage]:
        if not isinstance(node, Sequence) or not node.items:
            what = "an empty list" if isinstance(node, Sequence) else found(node)
            self.fail(node, f"stages must be a list such as `- txt2img:`, not {what}")
            return []
        if len(node.items) > MAX_STAGES:
            self.fail(node, f"a job has at most {MAX_STAGES} stages, not {len(node.items)}")
            return []
        stages = [self.stage(item, first=item is node.items[0]) for item in node.items]
        return [stage for stage in stages if stage is not None]

    def stage(self, node: Node, *, first: bool) -> Stage | None:
        if isinstance(node, Scalar) and _kind(node.text):  # `- upscale`, with nothing to say
            entry: tuple[Scalar, Node] = (node, Scalar("", node.line, node.column))
        elif isinstance(node, document.Mapping) and len(node.entries) == 1:
            entry = node.entries[0]
        else:
            self.fail(node, f"{_wrong_stage(node)}; a stage is one of {_kinds()}, then a colon")
            return None
        key, value = entry
        kind = _kind(key.text)
        if kind is None:
            near = nearest(key.text, (*STAGE_KINDS, *STAGE_ALIASES))
            self.fail(key, f"unknown stage {found(key)}{near}")
            return None
        if isinstance(value, Scalar) and value.is_null:
            value = document.Mapping((), key.line, key.column)
        if first:
            self.check_source(key, kind, value)
        fields, places = self.fields(value, STAGE_FIELDS[kind], key.text)
        places = {**places, (): (key.line, key.column)}
        return Stage(kind, fields, key.line, places, self.script_images(fields))

    def check_source(self, key: Scalar, kind: StageKind, value: Node) -> None:
        needed = {"txt2img": None, "img2img": "init_images", "extra-single-image": "image"}[kind]
        if needed is None or not isinstance(value, document.Mapping):
            return
        given = [node for name, node in value.entries if name.text == needed]
        if not given or (isinstance(given[0], Scalar) and given[0].is_null):
            self.fail(key, f'the first stage has no images to work on; name them in "{needed}"')

    def fields(
        self, node: Node, model: type[BaseModel], what: str
    ) -> tuple[dict[str, Any], Places]:
        """Read the given fields of one stage and their places; check names and note warnings."""
        node, dumped = without_dumped(node, frozenset(model.model_fields))
        for key in dumped:
            self.warn(key, f"{key.text} is ignored: WebUIs only write it into their own dumps")
        hint = partial(where_it_goes, stage=what, fields=_NAMES_OF_STAGES)
        made, problems, places = read_with_places(node, model, what, hint)
        self.problems += problems
        if isinstance(node, document.Mapping):
            self.warn_of_comments(node)
            named = {key.text: value for key, value in node.entries if key.text in IMAGE_FIELDS}
            for value in named.values():
                self.check_names(value)
            self.check_scripts(node)
            for place, why in beyond(node, self.rules, self.images.contains):
                self.fail(place, why)
        if made is None:
            return {}, places
        given = made.model_dump(exclude_unset=True)
        self.drop_harmful(node, given)
        return {key: self.cleaned(key, value) for key, value in given.items()}, places

    def cleaned(self, key: str, value: Any) -> Any:
        """Return the field with its images under the names of their files."""
        if key in IMAGE_FIELDS:
            return self.clean_names(value)
        if key in SCRIPT_FIELDS:
            return with_images(value, self.images.actual_name)
        return value

    def check_scripts(self, node: document.Mapping) -> None:
        """Check the form of the arguments of scripts, and the images in them."""
        for key, value in node.entries:
            if key.text == "alwayson_scripts":
                for place, why in misshapen(value):
                    self.fail(place, why)
            if key.text in SCRIPT_FIELDS:
                for name, where in image_nodes(value):
                    if (
                        where is Where.IMAGE
                        or self.images.contains(name.text)
                        or self.is_missed(name.text)
                    ):
                        self.check_names(name)

    def is_missed(self, name: str) -> bool:
        """Return whether a text where a script may take an image names one that is missing in the
        job folder: a name with a folder in it may be the WebUI's own, see confinement.py."""
        return self.images.names is not None and not re.search(r"[/\\\s]", name)

    def script_images(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the files of the job in the arguments of scripts."""
        texts = [text for key in SCRIPT_FIELDS if key in fields for text in images_in(fields[key])]
        return tuple(text for text in texts if self.images.contains(text))

    def warn_of_comments(self, node: document.Mapping) -> None:
        for key, value in node.entries:
            if key.text in _PROMPTS and isinstance(value, Scalar) and value.comment:
                lost = f"the last {len(value.comment)} characters are not part of {key.text}"
                self.warn(
                    value,
                    f'{lost}: " #" starts a comment; put the whole text in quotes to keep it',
                )

    def drop_harmful(self, node: Node, given: dict[str, Any]) -> None:
        entries = node.entries if isinstance(node, document.Mapping) else ()
        for key, _ in entries:
            if key.text in _DROPPED and given.pop(key.text, True) is not True:
                self.warn(key, f"{key.text} is ignored: {_DROPPED[key.text]}")

    def check_names(self, node: Node) -> None:
        if isinstance(node, Sequence):
            for item in node.items:
                self.check_names(item)
        elif isinstance(node, Scalar) and not node.is_null:
            why = self.images.refusal(node.text)
            if why:
                self.fail(node, why, unfinished=self.images.is_unfinished(node.text))

    def clean_names(self, value: str | list[str]) -> str | list[str]:
        """Return the images under the names of their files."""
        if isinstance(value, str):
            return self.images.actual_name(value)
        return [self.images.actual_name(name) for name in value]

    def fail(self, node: Node, message: str, *, unfinished: bool = False) -> None:
        self.problems.append(Problem(node.line, node.column, message, unfinished))

    def warn(self, node: Node, message: str) -> None:
        self.warnings.append(Problem(node.line, node.column, message))


def _kind(name: str) -> StageKind | None:
    known = {**{str(kind): kind for kind in STAGE_KINDS}, **STAGE_ALIASES}
    return known.get(name)


def _kinds() -> str:
    aliases = " or ".join(f'"{alias}"' for alias in STAGE_ALIASES)
    return f"{', '.join(STAGE_KINDS)} (also called {aliases})"


def _wrong_stage(node: Node) -> str:
    if isinstance(node, document.Mapping):
        return f"{len(node.entries)} keys in one stage (indent its fields below its kind)"
    return f"{found(node)} is not a stage"
