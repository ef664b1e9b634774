"""Job files that people never meant to write: a corpus, and what a deterministic hand makes of it.

The same seed and number give the same file, on every machine; what must be true of the parser's
answer to any of them is in `parses_safely`.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable
from functools import cache
from random import Random
from typing import Any, TypeAlias

from sdwatch.errors import FileProblems, JobError, Problem
from sdwatch.policy.job.calls.payload import taken_from
from sdwatch.policy.job.calls.plan import pictures_of, plan_of
from sdwatch.policy.job.files.job_files import NOTHING, Outside
from sdwatch.policy.job.files.wildcards import LineFile
from sdwatch.policy.job.job import Job, Stage, parse_job
from sdwatch.policy.job.outputs.output_names import is_inside, output_name
from sdwatch.policy.job.points.expansion import EXPANDING
from sdwatch.policy.job.stage.scripts import SCRIPT_FIELDS, Where, is_name, where
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.job.text.document import MAX_BYTES
from sdwatch.system import resources

IMAGES = frozenset({"sketch.png", "mask.png", "parts/eye.png"})

_CHANGES = (1, 1, 1, 2, 2, 3, 6)
_MOST_PROBLEMS = 101  # a hundred, and how many more
_LONGEST_MESSAGE = 1_000

Mutation: TypeAlias = Callable[[Random, bytes], bytes]

# Each is a job, or was nearly one. Those of config/examples/ come on top.
SEEDS: tuple[bytes, ...] = (
    b"prompt: a castle\n",
    b'{"stages": [{"txt2img": {"prompt": "a castle", "steps": 5}}, "upscale"]}\n',
    b"name: all kinds\npriority: -3\nprompt: |\n  a castle\n  by night\nnegative_prompt: >-\n"
    b"  blurry,\n  dark\ntiling: no\nstyles: [oil, 2]\ncfg_scale: .5\nseed: -1\neta: 1e-3\n",
    b"stages:\n- img2img: {init_images: [./sketch.png, parts/eye.png], mask: mask.png}\n"
    b"- upscale:\n    upscaling_resize: 1.5\n    extras_upscaler_2_visibility: 1\n"
    b"- extra-single-image: {image: sketch.png}\n",
    b"prompt: a\noverride_settings:\n  sd_model_checkpoint: 12e4567890\n  ? samples_save\n  : yes\n"
    b'  "directories_filename_pattern": x\n  CLIP_stop_at_last_layers: 2\n',
    b"prompt: a\nscript_name: X/Y/Z plot\nscript_args: [1, [x, {y: off}], '/etc/passwd', null]\n"
    b"alwayson_scripts:\n  ControlNet:\n    args: [{image: http://box/a.png, save_dir: ../a}]\n",
    b"prompt: a\nscript_name: X\nscript_args: [etc/x.png, {a: [out/y.txt]}, 'b\\c.json', a/b.pt]\n"
    b"alwayson_scripts:\n  X: {args: [{image: parts/eye.png, source: parts/eye.png}]}\n",
    b'prompt: a\noverride_settings:\n  ? "save_dir_file_\\n"\n  : 1\n',
    b"\"prompt\": \"a \\u00e9 \\x41 \\e \\0 \\N \\\n  b\"\n'name': 'it''s'\n",
    "prompt: ein Schloß, 城, 🏰\nname: ночь\n".encode(),
    "\ufeffprompt: a\r\nsteps: 3\r\nsend_images: false\r\nforce_task_id: x\r\n".encode(),
    b"prompt: &a castle\nnegative_prompt: *a\nsteps: !!int 3\n<<: {seed: 1}\n",
    b"prompt: a\nstyles: [&a oil, *a, !t ink, {b: c}, [d], e: f]\n",
    b"keep: last\noutputs: '{date}/{name}-{seed}'\nstages:\n- txt2img: {id: base, prompt: a}\n"
    b"- img2img: {id: b, input: base, fan_out: no, prompt: b, payload: {neu: {x: [1, /a]}}}\n"
    b"- upscale: {input: 'parts/*.png'}\n- img2img: {input: sketch.png, prompt: b}\n",
    b"prompt: a ${x}\nmatrix: {x: [1, 2]}\noutputs: {name: '{x}/{seed}', format: webp}\n",
    b"%YAML 1.1\n%TAG ! tag:example.org:\n---\nprompt: a # b\n...\n---\nprompt: b\n",
    b"stages: [txt2img: {n_iter: 2}, img2img, upscale: ~]\nnam: x\n",
    b"prompt: a ${animal} in ${place}, __color__ __a__\nvars: {place: a house}\nmatrix:\n"
    b"  animal: [cat, owl]\n  zip: {steps: [2, 3], width: [64, 128]}\n  cfg_scale: [5, 7.5]\n"
    b"  exclude: [{animal: cat, steps: 2}]\n"
    b"  include: [{animal: fox, steps: 4, width: 64, cfg_scale: 1}]\nrepeat: 2\n",
    b"version: 1\nprompts_from: p.csv\nprompt: ${animal} $${animal} ${place}\non_failure: stop\n"
    b"points: [2, 3, 2]\nrandom_seed: 7\ndefaults: {steps: 9, styles: ['${animal}']}\n",
    b"prompts_from: p.txt\nline_seeds: count\nbatch_size: 2\nseed: 5\nnegative_prompt: __a/b__\n",
    b"for_each: '*.png'\nstages:\n- img2img: {prompt: 'a ${image.stem} ${image}', mask: mask.png}\n"
    b"- upscale: {upscaling_resize: '${scale}'}\nmatrix: {scale: [1, 2]}\n",
    "prompt: a castle\nsteps: 3\n".encode("utf-16"),
    "prompt: a castle\nname: café\n".encode("latin-1"),
)

_FRAGMENTS: tuple[bytes, ...] = (
    # signs of YAML
    b"[", b"]", b"{", b"}", b"- ", b"? ", b": ", b"? - ", b", ", b" #", b"&a ", b"*a ", b"!!str ",
    b"!<x> ", b"!a!b ", b"|\n", b">\n", b"|9\n", b">-1\n", b"|+-\n", b"%", b"@", b"`", b"'", b"''",
    b'"', b'"\n', b"\\", b"~", b"=", b"<<: *a\n", b"<<: [*a, *b]\n", b"&a [*a]", b"---\n", b"...\n",
    b"--- |\n", b"%YAML 9.9\n", b"%TAG ! x\n", b"%\n", b"---\n---\n",
    # white space and line ends
    b"\t", b"\n\t", b" \t ", b"\r", b"\r\n", b"\n\r", b"\n\n", b"\n ", b"\x0b", b"\x0c", b"\xa0",
    *(sign.encode() for sign in "\x85\u2028\u2029\u00a0\u3000"),
    # no text, or a text of another kind
    b"\x00", b"\x01", b"\x1b[31m", b"\x7f", b"\xc2\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff",
    b"\x00\x00\xfe\xff", b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80",
    b"\xf0\x9f\x8f", b"\xe9", b"\xef\xbf\xbe", b"\xef\xbf\xbf", b"\xf0\x9f\xbf\xbf", b"\x89PNG",
    *(sign.encode() for sign in "\u202e\u200b\u0301\U000e0001İ"),
    # escapes
    b'"\\n"', b'"\\e[2J"', b'"\\x00"', b'"\\ud83d\\ude00"', b'"\\ud800"', b'"\\UFFFFFFFF"',
    b'"\\u2028"', b'"\\q"', b'"\\x4"', b'"\\"', b'? "a\\nb"\n: 1\n', b'"a\\nb": 1\n',
    # keys
    b"prompt: b\n", b"steps: 3\n", b"stages:\n", b"stages: []\n", b"- txt2img:\n", b"- upscale\n",
    b"matrix:\n  a: [1, 2]\n", b"repeat: 3\n", b"prompts_from: p.txt\n", b"for_each: '*.png'\n",
    b"vars: {a: b}\n", b"defaults: {steps: 3}\n", b"zip: {b: [1, 2]}\n", b"exclude: {a: 1}\n",
    b"include: [{a: 1}]\n", b"points: [1]\n", b"${a}", b"$${a}", b"${", b"}", b"${a.b}", b"$$",
    b"__a__", b"__", b"__a/b__", b"__../a__", b"__color__",
    b"? [a]\n: b\n", b"? {a: b}\n: c\n", b": \n", b"? \n", b"null: 1\n", b"'': 1\n", b"a: a: a\n",
)  # fmt: skip

_VALUES: tuple[bytes, ...] = (
    b"", b"null", b"~", b'""', b"text", b"yes", b"[]", b"{}", b"[a, b]", b"{a: b}", b"- a",
    b"[[[]]]", b"*a", b"&a b", b"|", b"!!int 3", b"!!python/name:os.system x", b"!!binary aGk=",
    # numbers
    b"0", b"-1", b"1e999", b"-1e999", b".inf", b"-.inf", b".nan", b"nan", b"inf", b"0x1F", b"0o17",
    b"1_000", b"1,5", b"3:2", b"1e-400", b"-0", b"-0.0", b"+1", b"007", b"9" * 18, b"9" * 19,
    b"-" + b"9" * 400, b"9" * 5_000, b"0." + b"9" * 5_000, b"1e" + b"9" * 50, b"2026-11-23",
    b"9" * 99_999 + b"x",
    *(number.encode() for number in ("١٢", "²", "½", "Ⅷ")),
    # names and places
    b"../a.png", b"/etc/passwd", b"~root/a", b"C:\\a", b"http://box/a", b"file=/etc/passwd",
    b"data:image/png;base64,AAAA", b"nul.png", b"a.png:b", b"sketch.png", b"'sketch.png '",
    b"etc/x.png", b"outputs/old/y.png", b"'out\\old\\y.jpg'", b"'a, etc/x.txt'", b"./etc/./x.log",
    b"'my out/y.png'", b"'{\"a\": \"etc/x.png\"}'", b"a/" * 9_000 + b"b.png",
    b"./" * 9_000,
    b"999999999999999999", b"1e18", b"[1, 2, 3]", b"{a: [1, 2]}", b"[a, b, c, d]", b"p.csv",
    b"p.txt", b"'*.png'", b"'**/*'", b"'${a}'", b"'${a} ${b}'", b"__a__", b"each", b"stop",
    b"count", b"[" + b"1, " * 200,
    b'"a\\0.png"', b'"a\\nb"', b"/9j/" + b"A" * 60, b"custom code", b"prompts from file",
)  # fmt: skip

_KEY_AND_VALUE = re.compile(rb"(?m)^([ \t]*+(?:- )*[\w-]++:)[ \t]*([^\r\n]*)")
_KEY = re.compile(rb"(?<![\w-])[\w-]++(?=[\"']?:)")
_WORD = re.compile(rb"[\w.-]+")


@cache
def corpus() -> tuple[bytes, ...]:
    """The files that mutations begin with."""
    examples = resources.config_folder() / "examples"
    return (*(path.read_bytes() for path in sorted(examples.rglob("*.yaml"))), *SEEDS)


@cache
def configs() -> tuple[bytes, ...]:
    """The config files of the repository, for mutations of those."""
    return tuple(path.read_bytes() for path in sorted(resources.config_folder().glob("*.yaml")))


def mutated(seed: int, number: int, files: tuple[bytes, ...] = ()) -> bytes:
    """File `number` of those that `seed` makes: one of `files`, or of the corpus where there are
    none, changed a few times."""
    rng = random.Random(f"{seed}.{number}")
    data = rng.choice(files or corpus())
    for _ in range(rng.choice(_CHANGES)):
        if len(data) <= MAX_BYTES:
            data = rng.choice(MUTATIONS)(rng, data)
    return data


def images_of(number: int) -> frozenset[str] | None:
    """What lies beside file `number`: every other one is a job folder's."""
    return IMAGES if number % 2 else None


# What may lie beside a job, or outside of it, and is read with it; each a form that is read.
BESIDE: dict[str, tuple[bytes, ...]] = {
    "p.txt": (
        b"a cat\n\n--prompt an owl --steps 7 --cfg_scale 2.5 --styles oil\na -- b\n",
        b'--prompt "a big dog" by night --negative_prompt "" --seed 5\r\n--tiling no\r\n',
        "ein Schloß ${a} __a__\n城\n".encode("utf-16"),
        b"\xef\xbb\xbfa cat\\, a dog\n--prompt 'x' --restore_faces false --batch_size 2\n",
    ),
    "p.csv": (
        b'animal,place\ncat,"a house, old"\nowl,tree\n"a ""fox""",\n',
        b"sep=;\r\nanimal;place;steps;;\r\ncat;house;20;;\r\nowl;;30;;\r\n",
        "animal\tplace\tprompt\n城\tb\t__a__ ${x}\n".encode("utf-16"),
        "animal;place\nGrün;x\n".encode("cp1252"),
    ),
    "wildcards/a.txt": (b"x\n# y\n\n__color__ z\n", b"__a__\n", b"a __a/b__ __color__\n"),
    "wildcards/a/b.txt": (b"one\ntwo", b"__a__ __color__"),
    "_defaults.yaml": (
        b"steps: 20\nsampler_name: Euler\nstyles: [oil]\n",
        b"# none\n",
        b"prompt: ${animal}\nnegative_prompt: __a__\noverride_settings: {sd_vae: a}\n",
    ),
}
OUTSIDE: dict[str, tuple[bytes, ...]] = {
    "color.txt": (b"red\ngreen\nblue\n", "grün".encode("cp1252"), b"__color2__ "),
    "_defaults.yaml": BESIDE["_defaults.yaml"],
    "sub/_defaults.yaml": BESIDE["_defaults.yaml"],
}


def beside(seed: int, number: int) -> dict[str, bytes]:
    """The texts that lie beside file `number` of those that `seed` makes; some of them changed, and
    every other time none."""
    return _texts(BESIDE, f"{seed}.{number}.beside") if number % 2 else {}


def outside(seed: int, number: int) -> dict[str, bytes]:
    """The texts outside of it, of every third file."""
    return {} if number % 3 else _texts(OUTSIDE, f"{seed}.{number}.outside")


def _texts(forms: dict[str, tuple[bytes, ...]], seed: str) -> dict[str, bytes]:
    rng = random.Random(seed)
    found = {}
    for name, datas in forms.items():
        data = rng.choice(datas)
        for _ in range(rng.choice((0, 0, 0, 0, 0, 0, 1, 1, 3))):
            if len(data) <= MAX_BYTES:
                data = rng.choice(MUTATIONS)(rng, data)
        found[name] = data
    return found


def parses_safely(
    data: bytes,
    images: frozenset[str] | None,
    texts: dict[str, bytes] | None = None,
    others: dict[str, bytes] | None = None,
) -> bool:
    """Read a job as the inbox does; whether it was accepted. `texts`: what lies beside it;
    `others`: what it takes from outside. Raises AssertionError where the answer is not one that
    people and the WebUI can have, and whatever the parser lets out."""
    texts, others = texts or {}, others or {}
    names = None if images is None else images | texts.keys()
    images_too = dict.fromkeys(images or (), b"\x89PNG")
    files = {
        "": data,
        **images_too,
        **texts,
        **{f"outside/{name}": text for name, text in others.items()},
    }
    try:
        job = parse_job(
            data,
            "job.yaml",
            names,
            "job",
            read=lambda name: texts.get(name, b"\x89PNG"),
            outside=_outside_of(others),
        )
    except JobError as error:
        check_refusal(error, files)
        return False
    assert job.stages, "accepted without a stage"
    check_places(job.warnings, files)
    check_stages(job, job.stages)
    check_graph(job)
    check_points(job, files)
    return True


def _outside_of(others: dict[str, bytes]) -> Outside:
    if not others:
        return NOTHING

    def file(name: str) -> LineFile:
        return LineFile(f"outside/{name}", lambda: others[name], is_outside=True)

    defaults = [file(name) for name in ("sub/_defaults.yaml", "_defaults.yaml")]
    return Outside(defaults, lambda n: file(f"{n}.txt") if f"{n}.txt" in others else None)


def check_stages(job: Job, stages: tuple[Stage, ...]) -> None:
    """Raises AssertionError where they cannot be sent as JSON: NaN, halves of characters."""
    fields = [stage.texts for stage in stages]
    for stage in stages:
        given = {name: stage.fields.get(name) for name in SCRIPT_FIELDS}
        check_script_arguments(given, frozenset(stage.script_images))
    json.dumps([job.name, job.priority, fields], allow_nan=False, ensure_ascii=False).encode()


def check_points(job: Job, files: dict[str, bytes]) -> None:
    """Raises AssertionError where some points cannot be made, and are not refused with places."""
    points = job.points
    assert 1 <= len(points) <= 10_000
    pictures_of(job)
    for number in dict.fromkeys((1, len(points) // 2 or 1, points.total)):
        try:
            stages = job.stages_of(number, 5)
        except JobError as error:
            check_refusal(error, files)
        else:
            check_stages(job, stages)
            assert stages == job.stages_of(number, 5), "the same choices make another job"
        points.own(number)
        points.seed_steps(number)


def check_graph(job: Job) -> None:
    """Raises AssertionError where a stage takes from none before it, or a payload sets what sdwatch
    decides about; plans the calls of the job."""
    for number, stage in enumerate(job.stages, 1):
        assert 0 <= taken_from(number, stage) < number, "it takes from a later stage"
        assert not stage.links.payload.keys() & {*STAGES[stage.kind].fields.model_fields}
        check_script_arguments(dict(stage.links.payload), frozenset())
    plan_of(job.stages)
    if job.outputs.name:
        assert is_inside(output_name(job.outputs.name, {})), "outputs lead outside"


def check_script_arguments(value: Any, own: frozenset[str], stands: Where = Where.PERHAPS) -> None:
    """Raises AssertionError where a script is given a file on the WebUI's disk. What stands where
    an image does may be a file of the job (`own`), which is sent as data."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not key.lower().endswith("prompt"):
                check_script_arguments(item, own, where(key))
    elif isinstance(value, list):
        for item in value:
            check_script_arguments(item, own, stands)
    elif isinstance(value, str):
        if is_name(value, stands) and (stands is Where.IMAGE or value in own):
            return
        place = re.search(r"^[^\s,]{1,500}[/\\][^\s,/\\]{1,100}\.(png|txt|json|log)$", value)
        assert place is None or value.startswith("data:"), "a script is given a place"


def check_refusal(error: FileProblems, files: bytes | dict[str, bytes]) -> None:
    """Raises AssertionError unless it says why, each reason with its place, and not too many."""
    assert error.problems, "refused without a reason"
    assert len(error.problems) <= _MOST_PROBLEMS, f"{len(error.problems)} problems told"
    check_places(error.problems, files)


def check_places(problems: Iterable[Problem], files: bytes | dict[str, bytes]) -> None:
    """Raises AssertionError unless each has its place in its file, and one line to be read."""
    files = {"": files} if isinstance(files, bytes) else files
    for problem in problems:
        assert problem.file in files, f"no such file: {problem}"
        lines = _lines_in(files[problem.file])
        whole = problem.file and problem.line == 0
        assert whole or 1 <= problem.line <= lines, f"no such line: {problem}"
        assert problem.column >= 1, f"no such column: {problem}"
        assert problem.message.strip(), f"says nothing: {problem}"
        assert problem.message.isprintable(), f"not one printable line: {problem}"
        assert len(problem.message) <= _LONGEST_MESSAGE, f"{len(problem.message)} characters"


def _lines_in(data: bytes) -> int:
    coding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    return len(re.split("\r\n|[\r\n\x85\u2028\u2029]", data.decode(coding, "replace")))


# -- the mutations: each takes a source of chance and a file, and gives another file


def _flip(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _random_bytes(rng: Random, data: bytes) -> bytes:
    return _insert(rng, data, rng.randbytes(rng.randint(1, 16)))


def _cut_out(rng: Random, data: bytes) -> bytes:
    begin, end = _span(rng, data)
    return data[:begin] + data[end:]


def _cut_off(rng: Random, data: bytes) -> bytes:
    return data[: rng.randint(0, len(data))]


def _fragment(rng: Random, data: bytes) -> bytes:
    return _insert(rng, data, rng.choice(_FRAGMENTS) * rng.choice((1, 1, 1, 2, 3)))


def _fragment_at_a_line(rng: Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(rng.randint(0, len(lines)), rng.choice(_FRAGMENTS))
    return b"".join(lines)


def _nest(rng: Random, data: bytes) -> bytes:
    opening = rng.choice((b"[", b"{", b"{a: ", b"- ", b"? ", b"[&a ", b"{? "))
    closing = {b"[": b"]", b"{": b"}"}.get(opening[:1], b"")
    depth = rng.choice((3, 20, 31, 32, 33, 1_000, 20_000))
    return _insert(rng, data, opening * depth + closing * rng.choice((0, depth)))


def _lengthen(rng: Random, data: bytes) -> bytes:
    """A piece of the file many times over: long lines, long names, many values. What takes time
    by the square of a length is found so."""
    begin, end = _span(rng, data, 12)
    piece = rng.choice((data[begin:end], rng.choice(_FRAGMENTS), b"x", b" ", b"a, "))
    return data[:begin] + piece * rng.choice((10, 100, 1_000, 10_000)) + data[begin:]


def _lengthen_a_word(rng: Random, data: bytes) -> bytes:
    words = list(_WORD.finditer(data))
    if not words:
        return data
    word = rng.choice(words)
    longer = (word[0][:20] + rng.choice((b"", b"_", b" "))) * rng.choice((10, 1_000, 40_000))
    return data[: word.start()] + longer + data[word.end() :]


def _over_the_bound(rng: Random, data: bytes) -> bytes:
    if rng.random() < 0.9:  # a megabyte each: a few will do
        return data
    return data + rng.choice((b"#", b"\n", b"a", b"\xff", b" ", b"[")) * (MAX_BYTES + 1)


def _double_a_line(rng: Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines:
        lines.insert(rng.randint(0, len(lines)), rng.choice(lines))
    return b"".join(lines)


def _remove_a_line(rng: Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines:
        del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def _swap_lines(rng: Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines:
        a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


def _indent_a_line(rng: Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines:
        n = rng.randrange(len(lines))
        lines[n] = rng.choice((b" ", b"  ", b"\t", b"      ", b"- ")) + lines[n]
    return b"".join(lines)


def _splice(rng: Random, data: bytes) -> bytes:
    other = rng.choice(corpus())
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


def _another_value(rng: Random, data: bytes) -> bytes:
    places = list(_KEY_AND_VALUE.finditer(data))
    if not places:
        return data
    place = rng.choice(places)
    value = b" " + rng.choice(_VALUES)
    return data[: place.end(1)] + value + data[place.end() :]


def _misspell(rng: Random, data: bytes) -> bytes:
    keys = list(_KEY.finditer(data))
    if not keys:
        return data
    key = rng.choice(keys)
    n = rng.randrange(len(key[0]))
    new = rng.choice(
        (
            key[0][:n] + key[0][n + 1 :],
            key[0][:n] + key[0][n : n + 1] + key[0][n:],
            key[0][:n] + rng.choice(_FRAGMENTS) + key[0][n:],
            key[0].upper(),
            key[0].replace(b"_", b"-"),
        )
    )
    return data[: key.start()] + new + data[key.end() :]


def _another_key(rng: Random, data: bytes) -> bytes:
    keys = list(_KEY.finditer(data))
    if not keys:
        return data
    key = rng.choice(keys)
    kind = rng.choice(tuple(STAGES))
    names = (
        "name",
        "priority",
        "stages",
        *EXPANDING,
        "zip",
        "include",
        "exclude",
        *STAGES,
        *STAGES[kind].fields.model_fields,
    )
    return data[: key.start()] + rng.choice(names).encode() + data[key.end() :]


def _encode(rng: Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    coding = rng.choice(
        ("utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7", "utf-8-sig")
    )
    return text.encode(coding, "replace")


def _line_ends(rng: Random, data: bytes) -> bytes:
    ends = (b"\r\n", b"\r", b"\n\r", b"\r\r\n", "\x85".encode(), "\u2028".encode(), b"\n\n", b" ")
    return data.replace(b"\n", rng.choice(ends))


def _quote(rng: Random, data: bytes) -> bytes:
    """A quote or a bracket opened, and closed somewhere or never."""
    opening, closing = rng.choice(((b"'", b"'"), (b'"', b'"'), (b"[", b"]"), (b"{", b"}")))
    begin, end = _span(rng, data)
    return data[:begin] + opening + data[begin:end] + rng.choice((closing, b"")) + data[end:]


MUTATIONS: tuple[Mutation, ...] = (
    _flip, _random_bytes, _cut_out, _cut_off, _fragment, _fragment, _fragment_at_a_line, _nest,
    _lengthen, _lengthen_a_word, _over_the_bound, _double_a_line, _remove_a_line, _swap_lines,
    _indent_a_line, _splice, _another_value, _another_value, _another_value, _misspell,
    _another_key,
    _another_key, _encode, _line_ends, _quote,
)  # fmt: skip


def _insert(rng: Random, data: bytes, piece: bytes) -> bytes:
    place = rng.randint(0, len(data))
    return data[:place] + piece + data[place:]


def _span(rng: Random, data: bytes, most: int = 40) -> tuple[int, int]:
    begin = rng.randint(0, len(data))
    return begin, min(len(data), begin + rng.randint(1, most))
