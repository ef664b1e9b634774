"""What differs between kinds of WebUI, or between stages, is in their rows: no other code asks
which one it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import sdwatch
from sdwatch.policy.failure import reply_checks
from sdwatch.policy.job.calls import size_checks
from sdwatch.policy.job.stage.stage_kinds import STAGE_NAMES, STAGES, Makes, StageKind
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.table import KINDS, PLAYED, kind_by_files, kind_by_routes
from sdwatch.policy.privacy.sanitise import IMAGE_KEYS
from sdwatch.simulator.__main__ import arguments
from tests.facts import catalogues

PACKAGE = Path(sdwatch.__file__).parent
ROOT = PACKAGE.parent

ROWS = "sdwatch.policy.kinds."
NO_KIND = {"kind", "table", "unknown"}
"""Modules of policy/kinds that name no kind, so all may import them."""

ROWS_THAT_ALL_MAY_NAME = {"UNKNOWN", "TXT2IMG"}
"""As a default, or to send one; never to compare with."""

NAMES = {
    *(kind.name for kind in KINDS.values() if kind.is_known),
    *(kind.title for kind in KINDS.values() if kind.is_known),
    *STAGE_NAMES,
}

EXEMPT = ("simulator/", "policy/kinds/", "policy/job/stage/stage_kinds.py")
"""The rows themselves; and the simulator, which plays the kinds and imports nothing of the rest."""


def named(source: str) -> list[tuple[int, str]]:
    """Line and name of each place where `source` asks for one kind of WebUI, or for one stage."""
    return sorted({found for node in ast.walk(ast.parse(source)) for found in _named_in(node)})


def _named_in(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in NAMES:
        yield node.lineno, node.value
    elif isinstance(node, ast.ImportFrom) and node.module is not None:
        for alias in node.names:
            _, of_rows, name = f"{node.module}.{alias.name}".partition(ROWS)
            if of_rows and name.partition(".")[0] not in NO_KIND:
                yield node.lineno, name
    elif isinstance(node, ast.Compare):
        yield from _rows_in(node.left, *node.comparators)
    elif isinstance(node, ast.Subscript):
        yield from _rows_in(node.slice)
    elif isinstance(node, ast.MatchValue):
        yield from _rows_in(node.value)


def _rows_in(*expressions: ast.expr) -> Iterator[tuple[int, str]]:
    """The rows that a comparison, or a table, is asked for; also within a tuple, and by `.name`."""
    for expression in expressions:
        for node in ast.walk(expression):
            if isinstance(node, ast.Name | ast.Attribute):
                name = node.id if isinstance(node, ast.Name) else node.attr
                if name in ROWS_THAT_ALL_MAY_NAME:
                    yield node.lineno, name


def test_only_the_rows_say_which_kind_and_which_stage() -> None:
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = [
        f"sdwatch/{file}:{line}: {name}"
        for file, path in sorted(files.items())
        if not file.startswith(EXEMPT)
        for line, name in named(path.read_text(encoding="utf-8"))
    ]
    assert found == [], "ask its row, or add a fact to it"


@pytest.mark.parametrize(
    "line",
    [
        'if kind.name == "forge": pass',
        'if str(kind) in ("a1111", "sdcpp"): pass',
        'webui.title.startswith("SD.Next")',
        'KINDS["sdnext"]',
        "match kind.name:\n    case 'forge-neo': pass",
        "from sdwatch.policy.kinds.sdnext import SDNEXT",
        "from sdwatch.policy.kinds import forge",
        "if catalogue.kind is UNKNOWN: pass",
        "if kind not in (UNKNOWN, self.kind): pass",
        "if kind is not unknown.UNKNOWN: pass",
        'if stage == "txt2img": pass',
        'if call.kind != "img2img": pass',
        'path.endswith("extra-single-image")',
        'short = {"extra-single-image": "upscale"}.get(stage)',
        "if stage == TXT2IMG.name: pass",
        "match stage:\n    case stage_kinds.TXT2IMG.name: pass",
        "steps = {'x': 1}[TXT2IMG.name]",
    ],
)
def test_each_way_to_ask_which_one_is_found(line: str) -> None:
    assert named(line)


@pytest.mark.parametrize(
    "line",
    [
        "from sdwatch.policy.kinds.table import KINDS",
        "from sdwatch.policy.kinds.unknown import UNKNOWN",
        "kind = catalogue.kind if catalogue else UNKNOWN",
        "if catalogue.kind.has_scripts: pass",
        "if STAGES[stage].has_steps: pass",
        "asked = Asked(TXT2IMG.name, payload)",
        'words = "Forge answers 500 to a stage img2img"',
    ],
)
def test_asking_a_row_is_accepted(line: str) -> None:
    assert named(line) == []


def test_each_file_of_a_kind_is_in_the_table() -> None:
    files = {path.stem for path in (PACKAGE / "policy" / "kinds").glob("*.py")}
    assert {name.replace("-", "_") for name in KINDS} == files - {"__init__", "kind", "table"}


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_a_kind_names_stages_that_there_are(kind: Kind) -> None:
    given = {each.stage for each in (*kind.completions, *kind.trials)}
    assert given | set(kind.stages_without_schema) <= STAGES.keys()


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.signs.has], ids=str)
def test_a_kind_is_recognised_by_its_own_signs(kind: Kind) -> None:
    signs = kind.signs
    for others in ((), signs.has_some_of):
        routes = {*signs.has, *signs.has_some_of[:1], *others}
        assert kind_by_routes(routes) is kind
        assert not any(kind_by_routes(routes - {route}) is kind for route in signs.has)
    assert not any(kind_by_routes({*signs.has, route}) is kind for route in signs.lacks)


def test_what_is_no_route_is_a_sign_of_one_kind() -> None:
    of_kinds = [kind.signs for kind in KINDS.values()]
    assert sum(signs.bare_404 for signs in of_kinds) == 1
    files = [signs.files for signs in of_kinds if signs.files]
    assert len(files) == len(set(files))


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.signs.files])
def test_a_kind_is_known_by_its_files_also_beside_those_that_it_grew_out_of(kind: Kind) -> None:
    assert kind_by_files(lambda name: name in kind.signs.files) is kind
    assert kind_by_files(lambda name: name == "launch.py") is KINDS["unknown"]


def test_whatever_a_stage_makes_its_size_and_its_reply_are_checked() -> None:
    assert size_checks.CHECKS.keys() == reply_checks.CHECKS.keys() == set(Makes)


@pytest.mark.parametrize("kind", STAGES.values(), ids=lambda kind: kind.name)
def test_the_row_of_a_stage_names_fields_that_a_job_may_give(kind: StageKind) -> None:
    fields = kind.fields.model_fields
    assert kind.needed_field in fields
    assert ("seed" in fields) is kind.has_steps
    assert not kind.needs_image or {kind.image_field} <= fields.keys() & IMAGE_KEYS


def test_a_webui_without_routes_is_of_no_known_kind() -> None:
    assert not kind_by_routes(()).is_known


def test_the_simulator_plays_the_kind_whose_examples_it_gets() -> None:
    assert arguments(["--port", "1"]).kind == PLAYED.name


@pytest.mark.parametrize("name", catalogues.KINDS)
def test_each_recorded_webui_is_recognised(name: str) -> None:
    assert catalogues.catalogue(name).kind.name == name


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.is_known], ids=str)
def test_the_form_for_a_bug_and_the_readme_name_each_kind(kind: Kind) -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/1-bug.yml").read_text(encoding="utf-8"))
    (webuis,) = (each for each in form["body"] if each.get("id") == "webui")
    assert kind.title in webuis["attributes"]["options"]
    assert kind.title in (ROOT / "README.md").read_text(encoding="utf-8").partition("## Two")[0]
