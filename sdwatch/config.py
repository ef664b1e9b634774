"""The config: where the spool is, which WebUIs there are, and all limits and timeouts.

It is YAML and is read like a job file: unknown keys are refused, all mistakes are reported at once.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

import psutil
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from sdwatch import system
from sdwatch.errors import ConfigError, FileProblems, Problem
from sdwatch.policy.failure.reply_checks import LEVELS, Level
from sdwatch.policy.failure.signature_file import parse_signatures
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.job import config_paths, measures
from sdwatch.policy.job.confinement import JobRules
from sdwatch.policy.job.document import MAX_BYTES, parse_document, too_large
from sdwatch.policy.job.picture import MOST_PIXELS
from sdwatch.policy.job.preflight import MAX_GENERATION
from sdwatch.policy.job.schema import NamedBy, Reading, read_model, readable
from sdwatch.policy.privacy.config_secrets import Secret, in_file, secret_files, secrets_of
from sdwatch.policy.report.command import words_on_windows
from sdwatch.system import disk, resources

_LONGEST_SECRETS = 10_000  # bytes that are read of a file with users and passwords


def _memory(text: str) -> int | None:
    """Return the bytes of a size, or of a share of this machine's memory; None for `off`."""
    share = re.fullmatch(r"([0-9]{1,2}|100)\s*%", text.strip())
    return (
        int(int(share[1]) / 100 * psutil.virtual_memory().total)
        if share
        else measures.size_or_off(text)
    )


def _umask(text: str) -> int | None:
    """Return the bits of a umask; None for `keep`. The owner keeps all permissions, because sdwatch
    must read its own files."""
    if text.lower() == "keep":
        return None
    if not re.fullmatch(r"0?0[0-7]{2}", text.strip()):
        raise ValueError(text)
    return int(text, 8)


def _words(text: str) -> tuple[str, ...]:
    """Split a command line into words by the rules of this system."""
    return tuple(words_on_windows(text) if os.name == "nt" else shlex.split(text))


def _findable(path: Path) -> Path:
    """Return the path with `~` replaced by the home folder. Raises ValueError if it cannot be the
    path that was meant."""
    if why := config_paths.refusal(str(path), os.name == "nt"):
        raise ValueError(why)
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("starts with the home of a user who does not exist here") from None


def _to_make(path: Path) -> Path:
    if why := config_paths.refusal_to_make(str(path), os.name == "nt"):
        raise ValueError(why)
    return path


_DURATION = Reading(measures.seconds, "a duration such as 90, 1.5, 2 min or 1 h")
_SIZE = Reading(measures.size, "a size such as 500 MB or 1 GB")
_AREA = Reading(measures.pixels, "a number of pixels such as 100 MP")
_AGE = Reading(measures.age, "off, or an age such as 12 h or 30 days")
_MOST = Reading(measures.size_or_off, "off, or a size such as 50 GB")
_MEMORY = Reading(_memory, "off, a size such as 20 GB, or a share of the memory such as 80 %")
_COUNT = Reading(measures.count, "off, or a number such as 500")
_UMASK = Reading(_umask, "keep, or three octal digits that start with 0, such as 002 or 077")
_COMMAND = Reading(_words, "a list of words, or one line of text with its quotes closed")

Place: TypeAlias = Annotated[Path, AfterValidator(_findable)]
MadePlace: TypeAlias = Annotated[Path, AfterValidator(_findable), AfterValidator(_to_make)]
Duration: TypeAlias = Annotated[float, _DURATION]
Limit: TypeAlias = Annotated[float, _DURATION, Field(gt=0)]
Size: TypeAlias = Annotated[int, _SIZE]
Area: TypeAlias = Annotated[int, _AREA, Field(ge=1, le=MOST_PIXELS)]
LogCap: TypeAlias = Annotated[int, _SIZE, Field(ge=10_000)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class HealthConfig(_Settings):
    """The health checks of a WebUI. `interval`, `timeout`: seconds; `failures`: consecutive
    failures before it counts as unhealthy."""

    interval: Limit = 10.0
    timeout: Limit = 5.0
    failures: Annotated[int, Field(ge=1)] = 3


class WebUIConfig(_Settings):
    """One WebUI. Without `command` it is external: sdwatch never starts or kills it."""

    name: Annotated[str, Field(max_length=40)]
    url: str
    command: Annotated[tuple[str, ...], _COMMAND] | None = None
    cwd: Place | None = None
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    username: str | None = None
    password: str | None = Field(None, repr=False)
    log_file: Place | None = None
    start_limit: Limit = 3600.0
    stall: Limit = 300.0
    load_limit: Limit = 1200.0
    call_limit: Limit = 3600.0
    self_test_limit: Limit = 600.0
    stop_grace: Duration = 10.0
    log_cap: LogCap = 64_000_000
    leave_running: bool = False
    max_rss: Annotated[int | None, _MEMORY, Field(gt=0)] = None
    max_calls: Annotated[int | None, _COUNT, Field(ge=1)] = None
    undo_overrides: bool = True
    health: HealthConfig = HealthConfig()

    @property
    def host(self) -> str:
        """Return the host of `url`."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Return the port of `url`."""
        return urlsplit(self.url).port or 0

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise ValueError(
                "a WebUI's name has only a-z, 0-9, - and _, and starts with a-z or 0-9"
            )
        return name

    @field_validator("url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        match = re.fullmatch(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})/?", url)
        if match is None or not 0 < int(match.group(2)) < 65536:
            raise ValueError("must be http://HOST:PORT, without a path or a password")
        try:
            urlsplit(url)
        except ValueError:
            raise ValueError("has no IPv6 address between [ and ]") from None
        return url.rstrip("/")

    @field_validator("command")
    @classmethod
    def _a_command(cls, command: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if command is not None and not (command and command[0]):
            raise ValueError("is empty; remove the line if sdwatch should not start the WebUI")
        if command is not None:
            _findable(Path(command[0]))
        return command

    @model_validator(mode="after")
    def _consistent(self) -> WebUIConfig:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.command is None and (self.cwd or self.env):
            raise ValueError("cwd and env have no effect without a command")
        if self.command is None and (self.max_rss or self.max_calls):
            why = "sdwatch cannot restart a WebUI that it did not start"
            raise ValueError(f"max_rss and max_calls have no effect without a command: {why}")
        if self.command is not None and self.log_file:
            raise ValueError(
                "log_file is only for a WebUI without a command; sdwatch keeps the log"
            )
        return self


class ChecksConfig(_Settings):
    """What to do about each finding in a reply, see policy/failure/reply_checks.py."""

    interrupted: Level = LEVELS["interrupted"]
    count: Level = LEVELS["count"]
    size: Level = LEVELS["size"]
    upscale_unchanged: Level = LEVELS["upscale_unchanged"]
    one_colour: Level = LEVELS["one_colour"]
    one_colour_upscale: Level = LEVELS["one_colour_upscale"]
    model: Level = LEVELS["model"]
    sampler: Level = LEVELS["sampler"]
    scheduler: Level = LEVELS["scheduler"]
    seed: Level = LEVELS["seed"]
    extension: Level = LEVELS["extension"]
    fallback: Level = LEVELS["fallback"]

    @property
    def levels(self) -> dict[str, Level]:
        """Return the level of each kind of finding."""
        return self.model_dump()


class RunsKept(_Settings):
    """How long published runs are kept: age in seconds, size of all together in bytes. None: no
    limit."""

    age: Annotated[float | None, _AGE] = None
    size: Annotated[int | None, _MOST] = None


class RetentionConfig(_Settings):
    """What sdwatch removes automatically. `logs`: bytes of all WebUI output in the state folder."""

    done: RunsKept = RunsKept()
    failed: RunsKept = RunsKept()
    logs: LogCap = 1_000_000_000


class Config(_Settings):
    """All settings. Durations are in seconds, sizes in bytes or pixels, paths absolute."""

    spool: MadePlace
    state: MadePlace
    watch: Literal["events", "poll"] = "events"
    settle: Duration = 2.0
    scan_interval: Limit = 5.0
    arrival_timeout: Limit = 300.0
    unfinished_timeout: Limit = 30.0
    max_image: Area = JobRules.max_image
    max_generation: Area = MAX_GENERATION
    allow: tuple[str, ...] = ()
    min_free: Size = 1_000_000_000
    stop_grace: Duration = 30.0
    recovery: bool = True
    cooldown: Annotated[tuple[Duration, ...], Field(min_length=1)] = (
        5.0,
        10.0,
        20.0,
        40.0,
        80.0,
        160.0,
        300.0,
    )
    hold_max: Annotated[float | None, _AGE] = None
    log_cap: LogCap = 10_000_000
    umask: Annotated[int | None, _UMASK] = None
    retention: RetentionConfig = RetentionConfig()
    signatures: Place | None = None
    checks: ChecksConfig = ChecksConfig()
    webuis: Annotated[tuple[WebUIConfig, ...], NamedBy("name")]

    @property
    def rules(self) -> JobRules:
        """Return what jobs may do."""
        return JobRules(self.allow, self.max_image)

    @field_validator("webuis")
    @classmethod
    def _each_once(cls, webuis: tuple[WebUIConfig, ...]) -> tuple[WebUIConfig, ...]:
        if not webuis:
            raise ValueError("name at least one WebUI, as `name: settings`")
        owners: dict[str, str] = {}
        for webui in webuis:
            address = webui.url.lower().replace("//localhost:", "//127.0.0.1:")
            if address in owners:
                raise ValueError(f"{owners[address]} and {webui.name} have the same url")
            owners[address] = webui.name
        return webuis


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
    load_signatures(config.signatures)  # fail now, not at the first failure of a night
    return config


class ConfigEdits:
    """Detects that a config file has changed since this was created. Without a file (None) it never
    has."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._stamp = self._stamped()
        self._read = self._bytes()
        self._differs = False

    def found(self) -> bool:
        """Return whether the file has changed. Cheap while nobody touches it; a file that cannot be
        read now counts as unchanged."""
        stamp = self._stamped()
        if stamp is not None and stamp != self._stamp:
            content = self._bytes()
            if content is not None:
                self._stamp, self._differs = stamp, content != self._read
        return self._differs

    def _stamped(self) -> tuple[int, int, int] | None:
        try:
            status = self._file.stat() if self._file else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size, status.st_ino) if status else None

    def _bytes(self) -> bytes | None:
        """Return as much of it as a config may have; None if it cannot be read."""
        try:
            if self._file is None:
                return None
            with disk.open_file(self._file) as file:
                return file.read(MAX_BYTES + 1)
        except OSError:
            return None


def parse_config(data: bytes, file: str, base: Path) -> Config:
    """Return the config in `data`; relative paths start from `base`.

    Placeholders of a command are filled in: `{python}` is this Python, `{port}` the url's port.
    Raises ConfigError with every problem, placed in `file`.
    """
    try:
        config, problems = read_model(parse_document(data, file), Config, "the config")
    except FileProblems as error:
        raise ConfigError(file, readable(error.problems)) from None
    if config is None:
        raise ConfigError(file, readable(problems))
    webuis = tuple(_resolved(webui, base) for webui in config.webuis)
    paths = {"spool": _absolute(config.spool, base), "state": _absolute(config.state, base)}
    own = config.signatures and _absolute(config.signatures, base)
    return config.model_copy(update={**paths, "signatures": own, "webuis": webuis})


@cache
def builtin_signatures() -> tuple[Signature, ...]:
    """Return the signatures that come with sdwatch."""
    file = resources.signatures_file()
    return parse_signatures(file.read_bytes(), str(file), builtin=True)


def load_signatures(own: Path | None) -> tuple[Signature, ...]:
    """Return all signatures, those of the user's file `own` first. Raises ConfigError."""
    if own is None:
        return builtin_signatures()
    try:
        with disk.open_file(own) as file:
            data = file.read(MAX_BYTES + 1)
        return parse_signatures(data, str(own)) + builtin_signatures()
    except OSError as error:
        message = f"`signatures` in the config names this file; it cannot be read: {error.strerror}"
        raise ConfigError(str(own), [Problem(0, 0, message)]) from error
    except FileProblems as error:
        raise ConfigError(error.file, error.problems) from None


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


def _resolved(webui: WebUIConfig, base: Path) -> WebUIConfig:
    """Return the config with absolute paths and a command without placeholders."""
    cwd = webui.cwd and _absolute(webui.cwd, base)
    changes: dict[str, object] = {
        "cwd": cwd,
        "log_file": webui.log_file and _absolute(webui.log_file, base),
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


def secrets_in(webui: WebUIConfig) -> Iterator[Secret]:
    """Return the secrets in a WebUI's command line, its environment, and the files of users and
    passwords that these name. An unreadable file has none."""
    command = webui.command or ()
    yield from secrets_of(command, webui.env, webui.username, webui.password)
    for name in secret_files(command, webui.env):
        path = Path(webui.cwd or ".", name).expanduser()
        try:
            if not path.is_file():
                continue
            with path.open("rb") as file:
                text = file.read(_LONGEST_SECRETS).decode("utf-8", "replace")
        except (OSError, ValueError):
            continue
        yield from in_file(text, path.name)
