"""Read a job from its YAML file: what to generate, in stages.

The smallest job is `prompt: a castle`. All mistakes of a file are reported at once, with their
places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from sdwatch.errors import FileProblems, JobError, Problem
from sdwatch.policy.job.conduct import Conduct, conduct_of
from sdwatch.policy.job.files.job_files import NOTHING, JobFiles, Outside, read_defaults
from sdwatch.policy.job.files.job_images import JobImages, Size
from sdwatch.policy.job.files.sources import Sources
from sdwatch.policy.job.files.wildcards import Wildcards
from sdwatch.policy.job.graph import OWN, LinkReader, Links, StageIds, ids_of
from sdwatch.policy.job.needs import ANYWHERE, Needs, needs_of
from sdwatch.policy.job.outputs.result import Format, Keep, OutputWish, wrong_in_pattern
from sdwatch.policy.job.points.expansion import REPEAT, OnFailure, is_part, read_expansion
from sdwatch.policy.job.points.points import ONE, Points
from sdwatch.policy.job.points.shown_values import described, without_texts
from sdwatch.policy.job.points.template import Part, Template, with_fixed
from sdwatch.policy.job.stage.aliases import where_it_goes, without_dumped
from sdwatch.policy.job.stage.confinement import JobRules, beyond
from sdwatch.policy.job.stage.infotext import infotext_in
from sdwatch.policy.job.stage.scripts import (
    SCRIPT_FIELDS,
    Where,
    image_nodes,
    images_in,
    misshapen,
    with_images,
)
from sdwatch.policy.job.stage.stage_kinds import IMAGE_FIELDS, PROMPTS
from sdwatch.policy.job.text import document
from sdwatch.policy.job.text.document import (
    Node,
    Scalar,
    open_end,
    parse_document,
    problem_at,
    scalars_in,
    text_of,
    unique,
    written_wrong,
)
from sdwatch.policy.job.text.typed_values import Written, found, read_model, readable
from sdwatch.policy.job.written_stages import Header, StageForms

if TYPE_CHECKING:
    from sdwatch.policy.job.workflow_stage import StageWorkflow, WorkflowReader

_MOST_SAMPLES = 200
_MOST_PROBLEMS = 100


# Fields that would break how sdwatch runs a stage, and why.
_DROPPED = {
    "send_images": "the WebUI would return nothing",
    "force_task_id": "sdwatch names its tasks itself",
}


@dataclass(frozen=True)
class Stage:
    """One step of a job: the fields that its author gave, typed, without defaults. `kind`: its name
    in stage_kinds.py.

    Images are names within the job folder: `init_images` (a list), `image`, `mask`;
    `script_images` are those in the arguments of its scripts. `line`: where the stage starts in its
    file; `node`: it, as it was written, for the places of its values. `links`: whose images it
    takes. `workflow`: of one that runs the job's own.
    """

    kind: str
    fields: Mapping[str, Any]
    line: int
    node: Node | None = dataclass_field(default=None, compare=False, repr=False)
    script_images: tuple[str, ...] = ()
    links: Links = Links()  # noqa: RUF009 - it is frozen
    workflow: StageWorkflow | None = dataclass_field(default=None, compare=False, repr=False)

    @property
    def texts(self) -> dict[str, Any]:
        """Return all fields that are sent, also those that sdwatch does not know."""
        return {**self.fields, **self.links.payload}


@dataclass(frozen=True)
class Job:
    """A job file's content. Higher `priority` comes first; 0 if none was given. `stages`: those of
    its first point, and nearly always of its only one; `sizes`: width and height in pixels of the
    images beside it, by name, when it was read; `named`: the files beside it that it names;
    `random_seed`: for all that is left to chance, None if the run picks one; `keep`: the stages
    whose pictures are part of the result; `outputs`: how they are named for people; `texts`: the
    names of values that are part of prompts."""

    name: str
    priority: int
    stages: tuple[Stage, ...]
    warnings: tuple[Problem, ...] = ()
    sizes: Mapping[str, Size] = dataclass_field(default_factory=dict, compare=False)
    points: Points = ONE
    on_failure: OnFailure = OnFailure.CONTINUE
    random_seed: int | None = None
    conduct: Conduct = Conduct()  # noqa: RUF009 - it is frozen
    needs: Needs = ANYWHERE
    named: frozenset[str] = dataclass_field(default=frozenset(), compare=False)
    keep: Keep = Keep.ALL
    outputs: OutputWish = OutputWish()  # noqa: RUF009 - it is frozen
    sources: Sources = dataclass_field(default_factory=Sources, compare=False, repr=False)
    make: Callable[[int, int], tuple[Stage, ...]] | None = dataclass_field(
        default=None, compare=False, repr=False
    )
    texts: frozenset[str] = frozenset()

    def about_point(self, point: int) -> str:
        """Return the values by which a point differs, for people, without prompts."""
        return described(self.points.own(point), self.texts)

    def values_for_others(self, point: int) -> dict[str, str]:
        """Return the values of a point that are not part of a prompt, as texts."""
        return without_texts(self.points.values(point), self.texts)

    def stages_of(self, point: int, random_seed: int) -> tuple[Stage, ...]:
        """Return the stages of a point; `random_seed`: for all that is left to chance. Raises
        JobError where the values of this point do not go together."""
        return self.stages if self.make is None else self.make(point, random_seed)

    def samples(self) -> Iterator[tuple[Stage, ...]]:
        """Yield the stages of points in which each value is, for checks; of many some."""
        yield self.stages
        if self.points.are_several:
            for number, _ in islice(self.points.covering(), 1, _MOST_SAMPLES):
                try:
                    yield self.stages_of(number, 0)
                except JobError:
                    continue  # it fails by itself


def parse_job(
    data: bytes,
    file: str,
    images: frozenset[str] | None = None,
    default_name: str = "",
    *,
    rules: JobRules = JobRules(),  # noqa: B008 - it is frozen
    look: Callable[[str], Size | None] = lambda _: None,
    read: Callable[[str], bytes] = lambda _: b"",
    folder: str = "",
    outside: Outside = NOTHING,
) -> Job:
    """Return the job in `data`; `file` is only named in errors, and so is `folder`, which comes
    before the names of files beside it.

    `images`: names of the images in the job's folder, relative to it, with `/`; None for a job that
    is a single file. `look` returns the size of an image that is there, or raises SpoolError for
    one that cannot be used, with a text such as `is cut off`; each is looked at once. `read`
    returns the bytes of another file that is there. `outside`: what the job takes from there.
    Raises JobError with every problem."""
    infotext = infotext_in(data)
    try:
        root = infotext.root if infotext else parse_document(data, file)
    except FileProblems as error:
        raise JobError(file, readable(error.problems)) from None
    files = JobFiles(images, read, folder, outside)
    reader = _JobReader(JobImages(images, look), rules, files, file)
    if infotext and infotext.left_out:
        left_out = f"left out of the picture's settings: {', '.join(infotext.left_out)}"
        reader.warnings.append(Problem(infotext.line, 1, left_out))
    job = reader.job(root, default_name)
    if reader.problems:
        if not infotext and (why := written_wrong(text_of(data))):
            reader.problems.append(why)
        at_end = open_end(root, data)
        problems = [
            replace(each, unfinished=each.unfinished or (each.line, each.column) == at_end)
            for each in reader.problems
        ]
        raise JobError(file, readable(reader.sources.all_located(problems)))
    return job


class _JobReader:
    """Turns a document into a job and collects problems and warnings."""

    def __init__(self, images: JobImages, rules: JobRules, files: JobFiles, file: str) -> None:
        self.images = images
        self.rules = rules
        self.files = files
        self.file = file
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.named: set[str] = set()
        self.ids = StageIds()
        self.sources = files.sources

    @cached_property
    def workflows(self) -> WorkflowReader:
        """Reads the workflows of ComfyUI that the job names, each once; most jobs have none."""
        from sdwatch.policy.job.workflow_stage import WorkflowReader

        return WorkflowReader(self.files, self.named.update, self.report)

    def job(self, root: Node, default_name: str) -> Job:
        if not isinstance(root, document.Mapping):
            self.fail(
                root,
                f"a job is a mapping of `field: value`, not {found(root)}; "
                "the smallest is `prompt: a castle`",
            )
            return Job("", 0, ())
        keys = unique(root, self.problems)
        expansion, problems = read_expansion(root, self.files, self.rules.max_points)
        self.problems += problems
        if problems:
            return Job("", 0, ())
        defaults = [expansion.defaults, *read_defaults(self.files, self.problems)]
        rest = replace(root, entries=tuple(e for e in root.entries if not is_part(e[0].text)))
        given = {key.text for entries in defaults for key, _ in entries}
        forms = StageForms({*expansion.names, *given}, self.problems)
        parts, head = forms.parts_of(rest, keys)
        header = self.fields(with_fixed(head, expansion, self.problems), Header, "job")
        wildcards = Wildcards(self.files.wildcard, self.sources, self.problems)
        template = Template(parts, expansion, wildcards, defaults)
        self.ids, wrong = ids_of(template.written)
        self.problems += wrong
        first = template.parts(1, 0)
        self.problems += template.problems
        stages = [self.stage(part, first=part is first[0]) for part in first]
        self.check_points(template, stages)
        return Job(
            header.get("name", default_name),
            header.get("priority", 0),
            tuple(stages),
            tuple(self.sources.all_located(self.warnings)),
            self.images.sizes,
            expansion.points,
            expansion.on_failure,
            expansion.random_seed,
            conduct_of(header),
            needs_of(header, keys),
            frozenset(self.named),
            Keep(header.get("keep", Keep.ALL)),
            self.outputs(header.get("outputs") or {}, keys, expansion.names),
            self.sources,
            partial(self.make, template) if template.varies else None,
            template.texts,
        )

    def outputs(
        self, given: Mapping[str, Any], keys: Mapping[str, Any], names: Collection[str]
    ) -> OutputWish:
        """Return what the job says about its outputs. `names`: of its values."""
        name, wanted = given.get("name"), given.get("format")
        if name and (why := wrong_in_pattern(name, names)):
            self.fail(keys["outputs"][1], why)
        return OutputWish(name, Format(wanted) if wanted else None)

    def make(self, template: Template, number: int, random_seed: int) -> tuple[Stage, ...]:
        """Return the stages of a point. Raises JobError."""
        self.problems = template.problems = []
        parts = template.parts(number, random_seed)
        stages = tuple(self.stage(part, first=part is parts[0]) for part in parts)
        if self.problems:
            problems = self.sources.all_located(self.at_point(template, number))
            raise JobError(self.file, readable(problems))
        return stages

    def check_points(self, template: Template, stages: Iterable[Stage]) -> None:
        """Check each value of each axis, with the fields that depend on it, unless something is
        wrong already. A repetition must not make the same again."""
        if self.problems:
            return
        makes_the_same = all(stage.workflow and not stage.workflow.seeds for stage in stages)
        if makes_the_same and (node := template.alike_in(REPEAT)):
            self.fail(node, "no workflow of the job has a seed, so it would make the same again")
            return
        points, known = template.expansion.points, set(self.warnings)
        found_before: list[Problem] = []
        self.problems = template.problems = []
        for number, axis in points.covering(template.only_in_prompts):
            if axis is None:  # the first one, which was read
                continue
            if len(found_before) > _MOST_PROBLEMS:
                break
            for part in template.parts_with(number, axis):
                self.stage(part, first=False)
            found_before += self.at_point(template, number)
            self.problems.clear()
        self.problems = found_before
        self.warnings = [w for w in self.warnings if w in known]

    def at_point(self, template: Template, number: int) -> list[Problem]:
        """Return the problems so far as those of this point."""
        if not self.problems:
            return []
        about = template.about(number)
        return [replace(each, message=f"{each.message}, at {about}") for each in self.problems]

    def stage(self, part: Part, *, first: bool) -> Stage:
        """Read the fields of a stage."""
        kind = part.kind
        is_given = isinstance(part.node, document.Mapping)
        if first and kind.needs_image and is_given and not part.gives_images:
            where = f'name them in "{kind.image_field}" or "input"'
            self.fail(part.key, f"the first stage has no images to work on; {where}")
        fields = self.fields(part.node, part.model, part.what, may_be_dump=not kind.runs_workflow)
        given = {key: fields.pop(key) for key in OWN if key in fields}
        reader = LinkReader(self.ids, self.images, self.rules, self.report, self.named.update)
        links = reader.read(part, given)
        node = replace(part.node, line=part.key.line, column=part.key.column)
        images = self.script_images(fields)
        workflow = None
        if kind.runs_workflow:
            workflow = self.workflows.read(part, links, fields)
        if workflow is not None:
            fields |= workflow.as_set
            self.problems += workflow.reaching(self.rules)
        return Stage(kind.name, fields, part.key.line, node, images, links, workflow)

    def fields(
        self, node: Node, model: type[Written], what: str, *, may_be_dump: bool = True
    ) -> dict[str, Any]:
        """Read the given fields of one stage; check names and note warnings."""
        dumped: tuple[Scalar, ...] = ()
        if may_be_dump:
            node, dumped = without_dumped(node, frozenset(model.model_fields))
        for key in dumped:
            self.warn(key, f"{key.text} is ignored: WebUIs only write it into their own dumps")
        hint = partial(where_it_goes, stage=what)
        made, problems = read_model(node, model, what, hint)
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
            return {}
        given = made.model_dump(exclude_unset=True)
        self.drop_harmful(node, given)
        return {key: self.cleaned(key, value) for key, value in given.items()}

    def cleaned(self, key: str, value: Any) -> Any:
        """Return the field with its images under the names of their files."""
        if key in IMAGE_FIELDS:
            if isinstance(value, dict):
                return {place: self.cleaned(key, name) for place, name in value.items()}
            listed = value if isinstance(value, list) else [value]
            names = list(map(self.images.actual_name, listed))
            self.named.update(names)
            return names if isinstance(value, list) else names[0]
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
                        # With a folder in its name it may be the WebUI's own, see confinement.py.
                        or (self.images.names is not None and not re.search(r"[/\\\s]", name.text))
                    ):
                        self.check_names(name)

    def script_images(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the files of the job in the arguments of scripts."""
        texts = [text for key in SCRIPT_FIELDS if key in fields for text in images_in(fields[key])]
        images = tuple(text for text in texts if self.images.contains(text))
        self.named.update(images)
        return images

    def warn_of_comments(self, node: document.Mapping) -> None:
        for key, value in node.entries:
            if key.text in PROMPTS and isinstance(value, Scalar) and value.comment:
                lost = f"the last {len(value.comment)} characters are not part of {key.text}"
                self.warn(
                    value,
                    f'{lost}: " #" starts a comment; put the whole text in quotes to keep it',
                )

    def drop_harmful(self, node: Node, given: dict[str, Any]) -> None:
        for key, _ in node.entries if isinstance(node, document.Mapping) else ():
            if key.text in _DROPPED and given.pop(key.text, True) is not True:
                self.warn(key, f"{key.text} is ignored: {_DROPPED[key.text]}")

    def check_names(self, node: Node) -> None:
        for name in scalars_in(node):
            if not name.is_null and (why := self.images.refusal(name.text)):
                if name.text in self.ids.numbers:
                    why += f'; for the pictures of that stage write "input: {name.text}"'
                self.fail(name, why, unfinished=self.images.is_unfinished(name.text))

    def report(self, problem: Problem) -> None:
        self.problems.append(problem)

    def fail(self, node: Node, message: str, *, unfinished: bool = False) -> None:
        self.report(problem_at(node, message, unfinished=unfinished))

    def warn(self, node: Node, message: str) -> None:
        self.warnings.append(problem_at(node, message))
