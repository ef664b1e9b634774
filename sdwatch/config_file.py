"""Read the config from its file: whom to trust with it, and what its paths and commands mean."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from sdwatch import system
from sdwatch.config import Config, WebUIConfig
from sdwatch.errors import ConfigError, FileProblems, Problem
from sdwatch.known_signatures import own_signatures
from sdwatch.policy.job.text.document import MAX_BYTES, parse_document, too_large
from sdwatch.policy.job.text.typed_values import locate, read_model, readable
from sdwatch.system import disk, resources


def load_config(path: Path) -> Config:
    """Read the config in the file `path`; its relative paths start from the file's folder.

    Raises ConfigError if it, or the signatures file that it names, is missing, unreadable, writable
    by others, or wrong.
    """
    try:
        with disk.open_file(path) as file:
            status = os.fstat(file.fileno())
            above = path.resolve().parent.stat()
            if problem := _untrusted(status, above) or too_large(status.st_size):
                raise ConfigError(str(path), [problem])
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        message = "there is no config here; `sdwatch init` writes one, `--config` names another"
        raise ConfigError(str(path), [Problem(0, 0, message)]) from None
    except OSError as error:
        message = f"the config cannot be read: {error.strerror}"
        raise ConfigError(str(path), [Problem(0, 0, message)]) from error
    config = parse_config(data, str(path), path.resolve().parent)
    if config.signatures is not None:
        own_signatures(config.signatures)  # fail now, not at the first failure of a night
    return config


def parse_config(data: bytes, file: str, base: Path) -> Config:
    """Return the config in `data`; relative paths start from `base`.

    Placeholders of a command are filled in: `{python}` is this Python, `{port}` the url's port.
    Raises ConfigError with every problem, placed in `file`.
    """
    try:
        root = parse_document(data, file)
        config, problems = read_model(root, Config, "the config")
    except FileProblems as error:
        raise ConfigError(file, readable(error.problems)) from None
    if config is None:
        raise ConfigError(file, readable(problems))
    webuis = tuple(_resolved(webui, base, config.tags) for webui in config.webuis)
    paths = {"spool": _absolute(config.spool, base), "state": _absolute(config.state, base)}
    own = {
        name: path and _absolute(path, base)
        for name, path in (("signatures", config.signatures), ("wildcards", config.wildcards))
    }
    folder = config.outputs.folder and _absolute(config.outputs.folder, base)
    if folder and (why := _no_folder_for_outputs(folder, **paths)):
        place = locate(root, ("outputs", "folder"))
        raise ConfigError(file, [Problem(*place, f"outputs.folder {why}")])
    outputs = config.outputs.model_copy(update={"folder": folder})
    update = {**paths, **own, "webuis": webuis, "outputs": outputs}
    return config.model_copy(update=update)


def _no_folder_for_outputs(folder: Path, spool: Path, state: Path) -> str:
    """Return why outputs cannot be in this folder, or ''."""
    for name in ("inbox", "working", "done", "failed"):
        if folder.is_relative_to(spool / name):
            return f"is in {name}/, where sdwatch has other things; name a folder of its own"
    if folder == spool or folder.is_relative_to(state):
        where = "the spool" if folder == spool else "state:, which is private"
        return f"is {where}; name a folder of its own, such as outputs/ in the spool"
    return ""


def default_config_text() -> str:
    """Return the commented default config, as `sdwatch init` writes it."""
    return (resources.config_folder() / "sdwatch.yaml").read_text(encoding="utf-8")


def _untrusted(status: os.stat_result, above: os.stat_result) -> Problem | None:
    """Return why this config must not be used: others could change the command that it runs.

    `above`: its folder; whoever may write there can replace the file. A group with write permission
    is trusted, because many systems give each user a group of their own and a umask that lets it
    write.
    """
    if sys.platform == "win32":
        return None  # st_mode and st_uid mean nothing there; an ACL decides who may write
    if status.st_mode & stat.S_IWOTH:
        message = "anybody may change this config, and it names a command to run; chmod o-w it"
    elif above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        message = (
            "anybody may replace this config, and it names a command to run; chmod o-w its folder, "
            "or move it into a folder of your own"
        )
    elif status.st_uid not in (0, os.geteuid()):
        message = (
            f"this config belongs to user {status.st_uid}, who is neither you nor root, and it "
            "names a command to run; copy it or chown it"
        )
    else:
        return None
    return Problem(0, 0, message)


def _resolved(webui: WebUIConfig, base: Path, tags: tuple[str, ...]) -> WebUIConfig:
    """Return the config with absolute paths, a command without placeholders, and the machine's tags
    among its own."""
    cwd = webui.cwd and _absolute(webui.cwd, base)
    changes: dict[str, object] = {
        "cwd": cwd,
        "log_file": webui.log_file and _absolute(webui.log_file, base),
        "templates": webui.templates and _absolute(webui.templates, base),
        "tags": tuple(dict.fromkeys((*tags, *webui.tags))),
    }
    if webui.command is not None:
        filled = [
            word.replace("{python}", system.python_of_console()).replace("{port}", str(webui.port))
            for word in webui.command
        ]
        changes["command"] = (_program(filled[0], cwd or base), *filled[1:])
    return webui.model_copy(update=changes)


def _absolute(path: Path, base: Path) -> Path:
    # normpath, not resolve: a link in the path keeps the name that people know.
    return Path(os.path.normpath(base / path))


def _program(word: str, folder: Path) -> str:
    """Return the program; one with a folder in its name is relative to `cwd`, on every system."""
    has_folder = "/" in word or (os.name == "nt" and "\\" in word) or word.startswith("~")
    return str(_absolute(Path(word).expanduser(), folder)) if has_folder else word
