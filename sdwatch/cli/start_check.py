"""Check whether the WebUIs of a config would start, without starting them: the folder,
the program, the file that Python runs, the flags, the port.

Each look is one function from a WebUI's settings to findings; CHECKS lists them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from sdwatch import system
from sdwatch.config import Config, WebUIConfig
from sdwatch.errors import Problem
from sdwatch.policy.job.document import parse_document
from sdwatch.policy.job.listening import exposure
from sdwatch.policy.job.schema import Place, Places, nearest_name, read_with_places
from sdwatch.system import disk

_WINDOWS = os.name == "nt"
_PYTHON = re.compile(r"(python|pypy)[\d.]*w?(\.exe)?|pyw?(\.exe)?", re.IGNORECASE)
_SHELLS = ("sh", "bash", "dash", "zsh")
_BATCH = (".bat", ".cmd")
_PYTHONS = (
    *("venv/bin/python", ".venv/bin/python", "venv/Scripts/python.exe", ".venv/Scripts/python.exe"),
    "../system/python/python.exe",  # of Forge's one-click package
)
_MAKE_VENV = "start webui.sh (Windows: webui.bat) once by hand: it makes the venv"
_DEFAULT_PORT = 7860
_NAME_FOLDERS = ("--ckpt-dir", "--data-dir", "--models-dir", "--vae-dir", "--lora-dir")
_FLAG = re.compile(r"""["'](--[A-Za-z][\w-]*)["']""")
_FEWEST_FLAGS = 20
"""With fewer of them found in its source, the flags of a WebUI are not known."""

_MOST_FILES, _MOST_BYTES = 2000, 1_000_000


@dataclass(frozen=True)
class StartFinding:
    """`key`: the setting of the WebUI, and the word of it; `sure`: the start fails. A finding
    that is not sure is a warning."""

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
        """The folder in which it is started."""
        return self.webui.cwd or Path.cwd()

    @cached_property
    def script_at(self) -> int | None:
        """The index of the word that names the file that an interpreter runs; None if there is
        none."""
        name = Path(self.command[0]).name
        if _PYTHON.fullmatch(name):
            return _script_of_python(self.command)
        if name in _SHELLS and "-c" not in self.command:
            words = enumerate(self.command)
            return next((at for at, word in words if at and not word.startswith("-")), None)
        return None

    @property
    def script(self) -> Path | None:
        """That file."""
        return None if not self.script_at else self.folder / self.command[self.script_at]

    @cached_property
    def flags(self) -> tuple[str, ...]:
        """The words behind the script, and what AUTOMATIC1111 and its kin take from the environment
        (modules/paths_internal.py)."""
        more = self.webui.env.get("COMMANDLINE_ARGS", os.environ.get("COMMANDLINE_ARGS", ""))
        try:
            words = shlex.split(more, posix=not _WINDOWS)
        except ValueError:
            words = []
        return (*self.command[(self.script_at or 0) + 1 :], *words)

    @cached_property
    def is_launch_py(self) -> bool:
        """Whether it runs the launch.py of an AUTOMATIC1111, one of its forks, or an SD.Next."""
        script = self.script
        if script is None or script.name not in ("launch.py", "webui.py") or not script.is_file():
            return False
        return (script.parent / "modules").is_dir()

    @property
    def is_sdnext(self) -> bool:
        """Whether it is SD.Next, which has an installer of its own."""
        return self.script is not None and (self.script.parent / "installer.py").is_file()


def findings_of(webui: WebUIConfig) -> list[StartFinding]:
    """Return what is wrong with the way this WebUI is started; nothing for an external one."""
    if webui.command is None:
        return []
    if webui.cwd and (why := system.too_long_for_programs(webui.cwd)):
        message = f"the path of the folder {webui.cwd} {why}: move the WebUI to a shorter one"
        return [StartFinding(("cwd",), message)]
    if webui.cwd and not webui.cwd.is_dir():  # nothing else can be checked
        why = "is a file" if webui.cwd.exists() else "is not there"
        message = f"the folder {webui.cwd} {why}: name the one in which the WebUI is installed"
        return [StartFinding(("cwd",), message)]
    start = _Start(webui, webui.command)
    return [finding for check in CHECKS for finding in check(start)]


def problems_of(config: Config, file: Path | None) -> tuple[list[Problem], list[Problem]]:
    """Return mistakes and warnings of all WebUIs, each at its place in `file`."""
    places = _places_in(file)
    mistakes: list[Problem] = []
    warnings: list[Problem] = []
    for number, webui in enumerate(config.webuis):
        for finding in findings_of(webui):
            line, column = _place(places, ("webuis", number, *finding.key))
            message = f"webuis.{webui.name}: {finding.message}"
            told = mistakes if finding.sure else warnings
            told.append(Problem(line, column, message))
    return mistakes, warnings


# --- the checks


def _program(start: _Start) -> Iterator[StartFinding]:
    word = start.command[0]
    path = Path(word)
    if not path.is_absolute():
        if shutil.which(word, path=start.webui.env.get("PATH")) is None:
            yield _of_word(0, f"there is no program {word} in the PATH: name it with its folder")
    elif path.is_dir():
        yield _of_word(0, f"{word} is a folder: name the program in it")
    elif not path.exists():
        yield _of_word(0, f"{word} {_why_missing(path, start.folder)}")
    else:
        yield from _of_another_system(path)
        if not _WINDOWS and path.suffix not in _BATCH and not os.access(path, os.X_OK):
            yield _of_word(0, f"{word} may not be run by this user: chmod +x it")
        yield from _venv_without_python(path)


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
            near = nearest_name(flag, sorted(known))
            told = f'; did you mean "{near}"?' if near else "; take it out"
            yield _of_word(at, f"this WebUI does not know the flag {flag}, and would exit{told}")


def _no_api(start: _Start) -> Iterator[StartFinding]:
    if not start.is_launch_py or start.is_sdnext:  # SD.Next always has it
        return
    if not {"--api", "--nowebui"} & {flag.partition("=")[0] for flag in start.flags}:
        message = "the command has no --api, so the WebUI would start without its API: add --api"
        yield StartFinding(("command",), message)


def _port(start: _Start) -> Iterator[StartFinding]:
    flags = start.flags
    wanted = start.webui.port
    given = next((value for flag, value in pairwise(flags) if flag == "--port"), None)
    given = given or next((f[7:] for f in flags if f.startswith("--port=")), None)
    at = next((n for n, w in enumerate(start.command) if n and w.startswith("--port")), None)
    key: Place = ("command",) if at is None else ("command", at)
    if given is None:
        if start.is_launch_py and wanted != _DEFAULT_PORT:
            message = f"without --port it listens on {_DEFAULT_PORT}, and url has {wanted}"
            yield StartFinding(key, f'{message}: add --port "{{port}}"')
    elif given != str(wanted):
        message = f'the command has --port {given}, and url has {wanted}: write --port "{{port}}"'
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


def _why_missing(path: Path, folder: Path) -> str:
    """Return why a program is missing, and what to do."""
    if path.is_symlink():
        return (
            f"leads to {path.readlink()}, which is not there: that Python was updated or removed. "
            f"Remove {path.parent.parent} and {_MAKE_VENV}"
        )
    other = next((p for p in _PYTHONS if (folder / p).is_file()), None)
    if _PYTHON.fullmatch(path.name) and other:
        return f'is not there; did you mean "{other}"?'
    if path.parent.name in ("bin", "Scripts") and _PYTHON.fullmatch(path.name):
        return f"is not there: {_MAKE_VENV}"
    return "is not there: correct `command`, or `cwd` from which it is looked for"


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


def _venv_without_python(path: Path) -> Iterator[StartFinding]:
    """Check that the Python behind a venv's is there: it is a link, or on Windows a launcher."""
    try:
        text = (path.parent.parent / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    home = re.search(r"^home *= *(.+?)\s*$", text, re.MULTILINE)
    if home and not Path(home[1]).is_dir():
        message = (
            f"the venv of {path} was made from {home[1]}, which is not there: remove "
            f"{path.parent.parent} and {_MAKE_VENV}"
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


def _places_in(file: Path | None) -> Places:
    if file is None:
        return {}
    _, _, places = read_with_places(
        parse_document(file.read_bytes(), str(file)), Config, "the config"
    )
    return places


def _place(places: Places, key: Place) -> tuple[int, int]:
    """Return its place in the file, or that of the nearest key above it."""
    known = (key[:length] for length in range(len(key), 0, -1) if key[:length] in places)
    return places.get(next(known, ()), (0, 0))
