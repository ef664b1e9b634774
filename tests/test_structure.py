"""The shape of the package: who may import whom, and that the documents say what the code is."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import sdwatch
from sdwatch.policy.failure import lifecycle

PACKAGE = Path(sdwatch.__file__).parent
ROOT = PACKAGE.parent

# From the top to the bottom. A room imports from those below it, and within itself.
FLOORS = (
    ("cli",),
    ("cluster", "service"),
    ("monitor",),
    ("lane", "stages", "web"),
    ("spool", "webui.http", "notify"),
    ("webui.process",),
    ("webui.log",),
    ("config_file",),
    ("config", "known_signatures"),
    ("policy.cluster",),
    ("policy.lane",),
    ("policy.notify",),
    ("policy.page",),
    ("policy.report",),
    ("policy.failure",),
    ("policy.privacy",),
    ("policy.translation",),
    ("policy.queue",),
    ("policy.job.calls",),
    ("policy.job",),
    ("policy.job.outputs",),
    ("policy.job.points",),
    ("policy.job.files",),
    ("policy.job.stage",),
    ("policy.job.text",),
    ("policy.workflow",),
    ("policy.kinds",),
    ("policy.config",),
    ("policy.naming",),
    ("system",),
    ("errors",),
)

HOUSES = ("policy", "webui")
"""Folders whose own folders, and single files, are rooms."""

ROOMS_IN_HOUSES = {room for rooms in FLOORS for room in rooms if "." in room}
"""Where a room has rooms of its own, what lies beside those is a room, too."""

PURE = {
    "PIL", "__future__", "array", "ast", "base64", "binascii", "bisect", "codecs", "collections",
    "contextlib", "csv", "dataclasses", "datetime", "difflib", "enum", "fnmatch", "functools",
    "hashlib", "heapq", "html", "io", "ipaddress", "itertools", "json", "math", "pathlib",
    "pydantic", "random", "re", "shlex", "statistics", "struct", "threading", "types", "typing",
    "unicodedata", "urllib.parse", "warnings", "zlib",
    "pydantic_core", "regex", "yaml",
}  # fmt: skip
"""What policy may use: values in, values out (threading is for the redactor's lock,
random for choices from a number that was recorded)."""

IO_OF_A_PATH = {
    "absolute", "exists", "glob", "is_dir", "is_file", "iterdir", "lstat", "mkdir", "read_bytes",
    "read_text", "resolve", "stat", "unlink", "write_bytes", "write_text",
}  # fmt: skip

READS_A_CLOCK = {"now", "today", "utcnow"}
"""Of datetime, which policy may use to put times into words."""


def modules() -> dict[str, Path]:
    """All modules of the package but the simulator, by their dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path
    return found


MODULES = modules()


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports_of(name: str) -> Iterator[str]:
    """What a module imports, anywhere in it: dotted names, ours down to the module."""
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports hide the arrows"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def ours(name: str) -> set[str]:
    return {found for found in imports_of(name) if found.split(".")[0] == "sdwatch"}


def room(name: str) -> str:
    """`spool` for sdwatch.spool.run, `policy.job` for sdwatch.policy.job.graph, `policy.job.text`
    for what lies in that folder, '' for sdwatch."""
    parts = name.split(".")[1:]
    for number in range(len(parts), 1, -1):
        if ".".join(parts[:number]) in ROOMS_IN_HOUSES:
            return ".".join(parts[:number])
    return ".".join(parts[: 2 if parts[:1] and parts[0] in HOUSES else 1])


def house(name: str) -> str:
    """`policy` for sdwatch.policy.job.text.typed_values."""
    return room(name).split(".")[0]


def floor_of(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(name) in rooms)


def on_floors() -> list[str]:
    return [name for name in MODULES if room(name) not in ("", "simulator", "__main__", *HOUSES)]


def test_arrows_point_one_way() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name in on_floors()
        for imported in ours(name)
        if room(imported) not in ("", room(name))
        if room(imported) == "simulator" or floor_of(imported) <= floor_of(name)
    ]
    assert not wrong


def test_every_module_has_its_floor() -> None:
    rooms = {room(name) for name in on_floors()}
    assert rooms == {room for floor in FLOORS for room in floor}


def test_webui_and_spool_do_not_import_each_other() -> None:
    for name in MODULES:
        other = {"webui": "spool", "spool": "webui"}.get(house(name))
        assert other not in {house(imported) for imported in ours(name)}, name


def test_no_import_goes_in_a_circle() -> None:
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for imported in ours(name) & MODULES.keys() - {"sdwatch"}:
                walk(imported, (*path, name))
            done.add(name)

    for name in MODULES:
        walk(name, ())


def impure_in(name: str) -> Iterator[str]:
    for imported in imports_of(name):
        if imported.startswith("sdwatch"):
            if house(imported) not in ("policy", "errors"):
                yield f"{name} imports {imported}"
        elif not {imported, imported.split(".")[0]} & PURE:
            yield f"{name} imports {imported}"
    calls = [node.func for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call)]
    functions = {call.id for call in calls if isinstance(call, ast.Name)}
    methods = {call.attr for call in calls if isinstance(call, ast.Attribute)}
    used = functions & {"open", "print", "input"} | methods & (IO_OF_A_PATH | READS_A_CLOCK)
    yield from (f"{name} calls {function}" for function in sorted(used))


def test_the_package_imports_nothing_that_only_its_developers_install() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    of_developers = _names(extras.pop("dev")) - _names(project["dependencies"])
    of_developers -= _names(need for needs in extras.values() for need in needs)
    assert "hypothesis" in of_developers
    packages = importlib.metadata.packages_distributions()
    for name in MODULES:
        for package in {found.split(".")[0] for found in imports_of(name)}:
            assert not of_developers & {each.lower() for each in packages.get(package, [])}, name


def _names(requirements: Iterable[str]) -> set[str]:
    return {re.split("[^A-Za-z0-9._-]", each)[0].lower() for each in requirements}


def test_policy_is_pure() -> None:
    of_policy = [name for name in MODULES if house(name) == "policy"]
    assert of_policy
    assert not [impure for name in of_policy for impure in impure_in(name)]


def test_the_simulator_needs_nothing_of_the_rest() -> None:
    simulator = [name for name in MODULES if room(name) == "simulator"]
    assert simulator
    for name in simulator:
        for imported in ours(name):
            assert imported == "sdwatch" or room(imported) == "simulator", f"{name}: {imported}"
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.ImportFrom) and node.module == "sdwatch":
                names = {alias.name for alias in node.names}
                others = names - {"__version__"} - {each.split(".")[1] for each in simulator}
                assert not others, f"{name} imports {others}"


def test_a_class_name_has_one_meaning() -> None:
    found = [
        node.name
        for name in on_floors()
        for node in tree_of(name).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    twice = {name for name, times in Counter(found).items() if times > 1}
    assert not twice


def test_every_module_says_what_it_is() -> None:
    trees = {name: tree_of(name) for name in MODULES}
    silent = [name for name, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
    assert not silent, "these have no docstring"


MOST_LINES_OF_A_FILE = 450
MOST_LINES_OF_A_FUNCTION = 45


def lines_of(name: str) -> int:
    return len(MODULES[name].read_text(encoding="utf-8").splitlines())


def test_no_file_is_too_long() -> None:
    long = {name: lines for name in MODULES if (lines := lines_of(name)) > MOST_LINES_OF_A_FILE}
    assert not long, "split these: one noun per file"


def test_no_function_is_too_long() -> None:
    long = {
        f"{name}.{node.name}: {lines}"
        for name in MODULES
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES_OF_A_FUNCTION
    }
    assert not long


def test_a_constructor_has_at_most_six_parameters() -> None:
    for name in on_floors():
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                assert len(given) - 1 <= 6, f"{name}:{node.lineno}"


def test_every_module_can_be_found() -> None:
    assert all(importlib.util.find_spec(name) for name in MODULES)


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "README.md"])
def test_the_state_diagram_is_the_table(name: str) -> None:
    assert f"```mermaid\n{lifecycle.diagram()}\n```" in text_of(name)


def test_the_table_of_promises_names_files_that_there_are() -> None:
    _, _, table = text_of("docs/contributing.md").partition("| promise | kept by |")
    named = re.findall(r"`([^`]+)`", table.partition("\n\n")[0])
    files = (PACKAGE / name for name in named)
    assert [str(f) for f in files if not (f.is_dir() or f.with_suffix(".py").is_file())] == []


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_ci_runs_the_test_command_of_the_readme() -> None:
    _, _, section = text_of("README.md").partition("**Run the tests:**")
    block = re.search(r"^Linux, macOS:\n```sh\n(.+)\n```$", section, re.MULTILINE)
    assert block is not None, "the README has no test command for Linux"
    assert block[1] in text_of(".ci/run").splitlines()


def test_the_newest_entry_of_the_changelog_is_this_version() -> None:
    newest = re.search(r"^## (\S+)", text_of("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == sdwatch.__version__


def files_of_the_repository() -> list[Path]:
    """What git knows; in a copy without git, the folders that hold code."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return [p for name in ("sdwatch", "tests") for p in (ROOT / name).rglob("*.py")]
    return [ROOT / name for name in os.fsdecode(listed.stdout).split("\0") if name]


def test_no_file_names_a_path_or_a_package_index_of_some_machine() -> None:
    private = re.compile(rb"(?<![\w.])/(?:work|root|opt/pypi|tmp/notes)/|index[-]url|pypi[.]")
    found = {
        path.relative_to(ROOT).as_posix(): match[0]
        for path in files_of_the_repository()
        if path.is_file() and (match := private.search(path.read_bytes()))
    }
    assert not found
