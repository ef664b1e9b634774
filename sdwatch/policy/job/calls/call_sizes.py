"""How large the calls of a job are: what their duration depends on. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sdwatch.errors import JobError
from sdwatch.policy.job.calls.payload import first_size, hires_size, own_images
from sdwatch.policy.job.calls.plan import plan_of
from sdwatch.policy.job.calls.size_checks import upscaled
from sdwatch.policy.job.files.job_images import Size
from sdwatch.policy.job.job import Job, Stage
from sdwatch.policy.job.stage.stage_kinds import STAGES, Makes

_MOST_SAMPLES = 64
"""So many points stand for all points of a job: one takes up to a millisecond."""

MOST_SIZES = 6
"""Of a job, in a heartbeat, which is written each second."""

_MOST_KNOWN = 300

_GOLDEN = 0.6180339887
"""Multiples of it are spread evenly, and in step with no axis of a job."""


@dataclass(frozen=True)
class CallSize:
    """What a call asks for. `stage`: the kind of stage; `pixels`: of each picture as it comes out,
    after hires or upscaling, None if unknown; `steps`: of its first pass, None if the job leaves
    them to the WebUI, or if it has none; `pictures`: how many it makes at once."""

    stage: str
    pixels: int | None = None
    steps: int | None = None
    pictures: int = 1


def sizes_in(job: Job) -> dict[CallSize, float]:
    """Return how many calls of each size a job needs, if each returns the pictures that it asks
    for. Of a job with many points some stand for all, so the numbers need not be whole."""
    numbers = list(job.points)
    found: Counter[CallSize] = Counter()
    read = 0
    for number in _some(numbers):
        try:
            stages = job.stages_of(number, 0)
        except JobError:
            continue  # that point fails by itself
        read += 1
        found.update(_of_stages(stages, job.sizes))
    share = len(numbers) / read if read else 0.0
    return {size: count * share for size, count in found.items()}


def _some(numbers: Sequence[int]) -> Sequence[int]:
    if len(numbers) <= _MOST_SAMPLES:
        return numbers
    shares = (i * _GOLDEN % 1 for i in range(_MOST_SAMPLES))
    return [numbers[int(share * len(numbers))] for share in shares]


def _of_stages(stages: Sequence[Stage], sizes: Mapping[str, Size]) -> Counter[CallSize]:
    found: Counter[CallSize] = Counter()
    made: dict[int, Size | None] = {}  # by each stage
    for planned in plan_of(stages):
        stage, own = planned.stage, own_images(planned.stage)
        source = sizes.get(own[0]) if own else made.get(planned.taken_from)
        size = made[planned.number] = _made_of(stage, source)
        steps = stage.fields.get("steps") if STAGES[stage.kind].has_steps else None
        if stage.workflow is not None:
            steps = _whole(stage.workflow.value("steps"))
        pictures = planned.pictures // planned.calls if planned.calls else 1
        each = CallSize(stage.kind, size[0] * size[1] if size else None, steps, pictures)
        found[each] += planned.calls
    return found


def _made_of(stage: Stage, source: Size | None) -> Size | None:
    """Return the size of the pictures of a stage. `source`: of the picture that it works on."""
    kind, fields = STAGES[stage.kind], stage.fields
    if kind.makes is Makes.ENLARGED:
        return upscaled(source, fields)[1]
    if stage.workflow is not None:
        sides = [_whole(stage.workflow.value(side)) for side in ("width", "height")]
        return (sides[0], sides[1]) if sides[0] and sides[1] else None
    first = first_size(stage, source)
    return first and hires_size(first, fields)


def summed(sizes: Mapping[CallSize, float], most: int = MOST_SIZES) -> dict[CallSize, float]:
    """Return at most about `most` sizes that stand for these: of those that are alike in stage and
    near in size the middle one stands for all."""
    if len(sizes) <= most:
        return dict(sizes)
    ordered = sorted(sizes, key=lambda size: (size.stage, _work(size)))
    each = -(-len(ordered) // most)
    parts = [
        alike[start : start + each]
        for alike in _by_stage(ordered)
        for start in range(0, len(alike), each)
    ]
    return {part[len(part) // 2]: sum(sizes[size] for size in part) for part in parts}


def _by_stage(sizes: Sequence[CallSize]) -> Iterator[list[CallSize]]:
    for stage in dict.fromkeys(size.stage for size in sizes):
        yield [size for size in sizes if size.stage == stage]


def _work(size: CallSize) -> int:
    return (size.pixels or 0) * (size.steps or 1) * size.pictures


def listed_sizes(sizes: Mapping[CallSize, float]) -> list[dict[str, Any]]:
    """Return sizes for a heartbeat, each with the number of its calls."""
    return [{**asdict(size), "calls": round(count, 2)} for size, count in summed(sizes).items()]


def sizes_listed(listed: Iterable[Mapping[str, Any]]) -> dict[CallSize, float]:
    """Return the sizes of such a list."""
    found: dict[CallSize, float] = {}
    for each in listed:
        size = CallSize(each["stage"], each["pixels"], each["steps"], each["pictures"])
        found[size] = found.get(size, 0.0) + each["calls"]
    return found


class KnownSizes:
    """Remembers of a few hundred jobs what `sizes_in` returns: a job in memory never changes."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Job, dict[CallSize, float]]] = {}

    def of(self, job: Job) -> dict[CallSize, float]:
        """Return how many calls of each size this job needs."""
        known, sizes = self._known.get(id(job), (None, {}))
        if known is not job:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            sizes = sizes_in(job)
            self._known[id(job)] = job, sizes
        return sizes


def size_of_record(record: Mapping[str, Any]) -> CallSize | None:
    """Return how large a finished call was, by its `call_finished` record; None for one of an
    earlier version, which does not name the stage. Whatever is in the record, nothing is raised."""
    stage, images = record.get("stage"), record.get("images")
    if not isinstance(stage, str) or stage not in STAGES or not isinstance(images, list):
        return None
    made = [i for i in images if isinstance(i, Mapping) and not i.get("grid")]
    if not made:
        return None
    width, height = _whole(made[0].get("width")), _whole(made[0].get("height"))
    used = record.get("used")
    steps = _whole(used.get("steps")) if isinstance(used, Mapping) else None
    pixels = width * height if width and height else None
    return CallSize(stage, pixels, steps if STAGES[stage].has_steps else None, len(made))


def _whole(value: object) -> int | None:
    return value if type(value) is int and 0 < value < 10**9 else None
