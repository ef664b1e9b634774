"""Check whether the WebUIs of a config would start, without starting them: the folder,
the program, the file that Python runs, the flags, the port.

Each look is one function from a WebUI's settings to findings; CHECKS lists them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sdwatch import system
from sdwatch.cli.checks.find_webuis import PYTHONS
from sdwatch.config import Config, WebUIConfig
from sdwatch.errors import Problem
from sdwatch.policy.config.exposure import ADDED, exposure, flags_of
from sdwatch.policy.job.text.document import parse_document
from sdwatch.policy.job.text.typed_values import Place, locate
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.table import kind_by_files
from sdwatch.policy.kinds.unknown import UNKNOWN
from sdwatch.policy.naming import did_you_mean
from sdwatch.system import disk
from sdwatch.webui.http.template_folder import read_templates
from sdwatch.webui.process.incarnation import no_folder

_WINDOWS = os.name == "nt"
_PYTHON = re.compile(r"(python|pypy)[\d.]*w?(\.exe)?|pyw?(\.exe)?", re.IGNORECASE)
_SHELLS = ("sh", "bash", "dash", "zsh")
_BATCH = (".bat", ".cmd")
_DEFAULT_PORT = 7860
_NAME_FOLDERS = ("--ckpt-dir", "--data-dir", "--models-dir", "--vae-dir", "--lora-dir")
_FLAG = re.compile(r"""["'](--[A-Za-z][\w-]*)["']""")
_FEWEST_FLAGS = 20
"""With fewer of them found in its source, the flags of a WebUI are not known."""

_MOST_FILES, _MOST_BYTES = 2000, 1_000_000


@dataclass(frozen=True)
class StartFinding:
    """Something about the way a WebUI is started. `key`: the setting of the WebUI, and the word of
    it; `sure`: the start fails. A finding that is not sure is a warning."""

    key: Place
    message: str
    sure: bool = True


@dataclass(frozen=True)
class _Start:
    """A WebUI's command, with what it is made of."""

    webui: WebUIConfig
    command: Sequence[str]

    @property
    def folder(self) -> Path:
        """Return the folder in which it is started."""
        return self.webui.cwd or Path.cwd()

    @cached_property
    def script_at(self) -> int | None:
        """Return the index of the word that names the file that an interpreter runs; None if there
        is none."""
        name = Path(self.command[0]).name
        if _PYTHON.fullmatch(name):
            return _script_of_python(self.command)
        if name in _SHELLS and "-c" not in self.command:
            words = enumerate(self.command)
            return next((at for at, word in words if at and not word.startswith("-")), None)
        return None

    @property
    def script(self) -> Path | None:
        """Return the file that `script_at` points to."""
        return None if not self.script_at else self.folder / self.command[self.script_at]

    @cached_property
    def flags(self) -> dict[str, str]:
        """Return the flags behind the script, and those that AUTOMATIC1111 and its kin take from
        the environment (modules/paths_internal.py), with their values."""
        added = self.webui.env.get(ADDED, os.environ.get(ADDED, ""))
        return flags_of(self.command[(self.script_at or 0) + 1 :], added)

    @cached_property
    def is_launch_py(self) -> bool:
        """Return whether it runs the launch.py of an AUTOMATIC1111, one of its forks, or an
        SD.Next."""
        script = self.script
        if script is None or script.name not in ("launch.py", "webui.py") or not script.is_file():
            return False
        return (script.parent / "modules").is_dir()

    @property
    def kind(self) -> Kind:
        """Return its kind, as far as the files beside its script show it."""
        if self.script is None:
            return UNKNOWN
        folder = self.script.parent
        return kind_by_files(lambda name: (folder / name).is_file())


def findings_of(webui: WebUIConfig) -> list[StartFinding]:
    """Return what is wrong with the way this WebUI is started; nothing for an external one."""
    if webui.command is None:
        return []
    if webui.cwd and (why := system.too_long_for_programs(webui.cwd)):
        message = f"the path of the folder {webui.cwd} {why}: move the WebUI to a shorter one"
        return [StartFinding(("cwd",), message)]
    if webui.cwd and (wrong := no_folder(webui.cwd)):  # nothing else can be checked
        return [StartFinding(("cwd",), wrong)]
    start = _Start(webui, webui.command)
    return [finding for check in CHECKS for finding in check(start)]


def kind_of(webui: WebUIConfig) -> Kind:
    """Return the kind of the WebUI that this starts, as far as its files show it."""
    return UNKNOWN if webui.command is None else _Start(webui, webui.command).kind


def problems_of(config: Config, file: Path | None) -> tuple[list[Problem], list[Problem]]:
    """Return mistakes and warnings of all WebUIs, of their templates, and of the folder of
    wildcards, each at its place in `file` or in one of theirs."""
    root = parse_document(file.read_bytes(), str(file)) if file else None
    mistakes: list[Problem] = []
    warnings: list[Problem] = []
    for number, webui in enumerate(config.webuis):
        for finding in findings_of(webui):
            at = locate(root, ("webuis", number, *finding.key)) if root else (0, 0)
            message = f"webuis.{webui.name}: {finding.message}"
            problems = mistakes if finding.sure else warnings
            problems.append(Problem(*at, message))
        mistakes += read_templates(webui.templates).wrong.values()
    folder = config.outputs.folder
    if folder and not folder.is_dir() and not folder.is_relative_to(config.spool):
        at = locate(root, ("outputs", "folder")) if root else (0, 0)
        message = f"outputs.folder: there is no folder {folder}; make it, or mount its disk"
        warnings.append(Problem(*at, message))
    if config.wildcards is not None and not config.wildcards.is_dir():
        at = locate(root, ("wildcards",)) if root else (0, 0)
        why = f"there is no folder {config.wildcards}: __name__ in a prompt is sent as it is"
        warnings.append(Problem(*at, f"wildcards: {why}"))
    return mistakes, warnings


# --- the checks


def _program(start: _Start) -> Iterator[StartFinding]:
    word = start.command[0]
    path = Path(word)
    if not path.is_absolute():
        if shutil.which(word, path=start.webui.env.get("PATH")) is None:
            yield _of_word(0, f"there is no program {word} in the PATH: write its full path")
    elif path.is_dir():
        yield _of_word(0, f"{word} is a folder: name the program in it")
    elif not path.exists():
        yield _of_word(0, f"{word} {_why_missing(path, start.folder, start.kind.makes_venv)}")
    else:
        yield from _of_another_system(path)
        if not _WINDOWS and path.suffix not in _BATCH and not os.access(path, os.X_OK):
            yield _of_word(0, f"this user may not run {word}: make it executable (chmod +x)")
        yield from _venv_without_python(path, start.kind.makes_venv)


def _script(start: _Start) -> Iterator[StartFinding]:
    script, at = start.script, start.script_at
    if script is None or not at or script.is_file():
        return
    inside = next((f for f in _folders_in(start.folder) if (f / script.name).is_file()), None)
    hint = f"; it is in {inside}: set `cwd` to that" if inside else ""
    hint = hint or ": set `cwd` to the folder in which the WebUI is installed"
    yield _of_word(at, f"there is no {start.command[at]} in {start.folder}{hint}")


def _unknown_flags(start: _Start) -> Iterator[StartFinding]:
    """Check the flags against what the source of this WebUI and its extensions have in quotes.
    argparse accepts the start of a flag for the flag, and exits with 2 for an unknown one
    (measured)."""
    if not start.is_launch_py or start.script is None or not start.script_at:
        return
    known = _flags_in(start.script.parent)
    if len(known) < _FEWEST_FLAGS:
        return
    for at, word in enumerate(start.command):
        flag = word.partition("=")[0]
        if at <= start.script_at or not re.fullmatch(r"--[A-Za-z][\w-]*", flag):
            continue
        if not any(name.startswith(flag) for name in known):
            hint = did_you_mean(flag, sorted(known)) or "; remove it"
            yield _of_word(at, f"this WebUI does not know the flag {flag} and would exit{hint}")


def _no_api(start: _Start) -> Iterator[StartFinding]:
    if not start.is_launch_py or start.kind.always_has_api:
        return
    if not {"--api", "--nowebui"} & start.flags.keys():
        message = "without --api the WebUI starts without its API: add --api to the command"
        yield StartFinding(("command",), message)


def _port(start: _Start) -> Iterator[StartFinding]:
    given, wanted = start.flags.get("--port"), start.webui.port
    at = next((n for n, w in enumerate(start.command) if n and w.startswith("--port")), None)
    key: Place = ("command",) if at is None else ("command", at)
    if not given:
        if start.is_launch_py and wanted != _DEFAULT_PORT:
            message = f"without --port the WebUI listens on {_DEFAULT_PORT}, but `url` has {wanted}"
            yield StartFinding(key, f'{message}: add --port "{{port}}"')
    elif given != str(wanted):
        message = f'the command has --port {given}, but `url` has {wanted}: write --port "{{port}}"'
        yield StartFinding(key, message)


def _folders_named(start: _Start) -> Iterator[StartFinding]:
    """Warn about missing folders: without them it starts, and has no checkpoint (a disk or share
    that is not mounted)."""
    for at, word in enumerate(start.command):
        flag, _, value = word.partition("=")
        if flag in _NAME_FOLDERS and start.is_launch_py:
            named = value or "".join(start.command[at + 1 : at + 2])
            if named and not (start.folder / named).is_dir():
                yield _of_word(at, f"{flag}: there is no folder {named}", sure=False)


def _listens(start: _Start) -> Iterator[StartFinding]:
    """Warn if others on the network can use it."""
    webui = start.webui
    has_password = webui.password is not None
    found = exposure(start.command, webui.env or {}, webui.host, has_password=has_password)
    if found is not None:
        yield StartFinding(("command",), f"{found.why}: {found.advice}", sure=False)


CHECKS: tuple[Callable[[_Start], Iterator[StartFinding]], ...] = (
    _program,
    _script,
    _unknown_flags,
    _no_api,
    _port,
    _folders_named,
    _listens,
)
"""The checks, in the order in which a start would fail."""


# --- the parts


def _of_word(at: int, message: str, *, sure: bool = True) -> StartFinding:
    return StartFinding(("command", at), message, sure)


def _script_of_python(command: Sequence[str]) -> int | None:
    at = 1
    while at < len(command):
        word = command[at]
        if not word.startswith("-"):
            return at
        if not word.startswith("--") and word[-1] in "mc":  # a module, or a program in a word
            return None
        at += 2 if word in ("-X", "-W") else 1
    return None


def _why_missing(path: Path, folder: Path, make_venv: str) -> str:
    """Return why a program is missing, and what to do."""
    if path.is_symlink():
        return (
            f"links to {path.readlink()}, which is not there: that Python was updated or removed. "
            f"Remove {path.parent.parent} and {make_venv}"
        )
    other = next((p for p in PYTHONS if (folder / p).is_file()), None)
    if _PYTHON.fullmatch(path.name) and other:
        return f'is not there; did you mean "{other}"?'
    if path.parent.name in ("bin", "Scripts") and _PYTHON.fullmatch(path.name):
        return f"is not there: {make_venv}"
    return "is not there: correct `command`, or `cwd`, from which relative paths start"


def _of_another_system(path: Path) -> Iterator[StartFinding]:
    """Warn about a script of the other system; under wine some of them run all the same."""
    suffix = path.suffix.lower()
    if _WINDOWS and suffix == ".sh":
        yield _of_word(0, f"{path} does not run on Windows: start launch.py with the venv's python")
    elif _WINDOWS and suffix in _BATCH:
        message = f"{path} waits for a key when it fails: start launch.py with the venv's python"
        yield _of_word(0, message, sure=False)
    elif not _WINDOWS and suffix in _BATCH:
        yield _of_word(0, f"{path} is for Windows: start launch.py with the venv's python")


def _venv_without_python(path: Path, make_venv: str) -> Iterator[StartFinding]:
    """Check that the Python behind a venv's is there: it is a link, or on Windows a launcher."""
    try:
        text = (path.parent.parent / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    home = re.search(r"^home *= *(.+?)\s*$", text, re.MULTILINE)
    if home and not Path(home[1]).is_dir():
        message = (
            f"the venv of {path} was made from {home[1]}, which is not there: remove "
            f"{path.parent.parent} and {make_venv}"
        )
        yield _of_word(0, message, sure=_WINDOWS)


def _folders_in(folder: Path) -> list[Path]:
    try:
        found = [entry for entry, _ in zip(folder.iterdir(), range(_MOST_FILES), strict=False)]
        return sorted(entry for entry in found if entry.is_dir())
    except OSError:
        return []


def _flags_in(folder: Path) -> set[str]:
    """Return all that looks like a flag in a WebUI's source, and in what its extensions add."""
    patterns = ("*.py", "modules/*.py", "modules_forge/*.py", "backend/*.py", "ext*/*/preload.py")
    found: set[str] = set()
    for pattern in patterns:
        for path, _ in zip(sorted(folder.glob(pattern)), range(_MOST_FILES), strict=False):
            try:
                with disk.open_file(path) as file:
                    found |= set(_FLAG.findall(file.read(_MOST_BYTES).decode("utf-8", "replace")))
            except OSError:
                continue
    return found
