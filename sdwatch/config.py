"""The config: where the spool is, which WebUIs there are, and all limits and timeouts.

It is YAML and is read like a job file: unknown keys are refused, all mistakes are reported at once.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

import psutil
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    create_model,
    field_validator,
    model_validator,
)

from sdwatch.policy.config import config_paths
from sdwatch.policy.config.measures import age, or_off, pixels, seconds, size
from sdwatch.policy.failure.check_levels import LEVELS, Level
from sdwatch.policy.job.needs import Tags
from sdwatch.policy.job.outputs.picture import MOST_PIXELS
from sdwatch.policy.job.outputs.result import Format, wrong_in_pattern
from sdwatch.policy.job.stage.confinement import MAX_GENERATION, JobRules
from sdwatch.policy.job.text.typed_values import (
    DURATION,
    ONE_OR_MORE,
    WHOLE,
    Written,
    named_by,
    reading,
)
from sdwatch.policy.notify.notify_settings import NOT_AN_ADDRESS, NotifyConfig
from sdwatch.policy.privacy.config_secrets import Secret, in_file, secret_files, secrets_of
from sdwatch.policy.report.command import words_on_windows

_LONGEST_SECRETS = 10_000  # bytes that are read of a file with users and passwords


def _memory(text: str) -> int:
    """Return the bytes of a size, or of a share of this machine's memory."""
    share = re.fullmatch(r"([0-9]{1,2}|100)\s*%", text.strip())
    return int(int(share[1]) / 100 * psutil.virtual_memory().total) if share else size(text)


def _umask(text: str) -> int | None:
    """Return the bits of a umask; None for `keep`. The owner keeps all permissions, because sdwatch
    must read its own files."""
    if text.lower() == "keep":
        return None
    if not re.fullmatch(r"0?0[0-7]{2}", text.strip()):
        raise ValueError(text)
    return int(text, 8)


def _pattern(text: str) -> str:
    """Return the pattern of a name; '' for `off`."""
    if text.lower() in ("off", "no", "false"):
        return ""
    if wrong_in_pattern(text, ()):
        raise ValueError(text)
    return text


def _words(text: str) -> tuple[str, ...]:
    """Split a command line into words by the rules of this system."""
    return tuple(words_on_windows(text) if os.name == "nt" else shlex.split(text))


def _meant(written: object) -> object:
    """Return a path as it was written: `/srv` becomes `\\srv` on Windows only as a path. Raises
    ValueError if it cannot be the one that was meant."""
    if isinstance(written, str) and (why := config_paths.refusal(str(written), os.name == "nt")):
        raise ValueError(why)
    return written


def _findable(path: Path) -> Path:
    """Return the path with `~` replaced by the home folder. Raises ValueError if there is none."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("starts with the home of a user who does not exist here") from None


def _to_make(path: Path) -> Path:
    if why := config_paths.refusal_to_make(str(path), os.name == "nt"):
        raise ValueError(why)
    return path


_SIZE = reading(size, "a size such as 500 MB or 1 GB")
_AREA = reading(pixels, "a number of pixels such as 100 MP")
_AGE = reading(age, "off, or an age such as 12 h or 30 days")
_WAIT = reading(or_off(seconds), "off, or a duration such as 90, 10 min or 1 h")
_MOST = reading(or_off(size), "off, or a size such as 50 GB")
_MEMORY = reading(
    or_off(_memory), "off, a size such as 20 GB, or a share of the memory such as 80 %"
)
_COUNT = reading(or_off(int), "off, or a number such as 500")
_PATTERN = reading(_pattern, "off, or a name such as {date}/{name}-{point}-{seed}")
_UMASK = reading(_umask, "keep, or three octal digits that start with 0, such as 002 or 077")
_COMMAND = reading(
    _words, "a list of words, or one line of text with its quotes closed", lists=True
)

Place: TypeAlias = Annotated[Path, BeforeValidator(_meant), AfterValidator(_findable)]
MadePlace: TypeAlias = Annotated[Place, AfterValidator(_to_make)]
Duration: TypeAlias = Annotated[float, DURATION]
Limit: TypeAlias = Annotated[float, Field(gt=0), DURATION]
Size: TypeAlias = Annotated[int, _SIZE]
Area: TypeAlias = Annotated[int, Field(ge=1, le=MOST_PIXELS), _AREA]
LogCap: TypeAlias = Annotated[int, Field(ge=10_000), _SIZE]


class HealthConfig(Written):
    """The health checks of a WebUI. `interval`, `timeout`: seconds; `failures`: consecutive
    failures before it counts as unhealthy."""

    interval: Limit = 10.0
    timeout: Limit = 5.0
    failures: Annotated[int, Field(ge=1), WHOLE] = 3


class WebUIConfig(Written):
    """One WebUI. Without `command` it is external: sdwatch never starts or kills it."""

    named_by_key = "name"

    name: Annotated[str, Field(max_length=40)]
    url: str
    command: Annotated[tuple[str, ...], _COMMAND] | None = None
    cwd: Place | None = None
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    username: str | None = None
    password: str | None = Field(None, repr=False)
    log_file: Place | None = None
    templates: Place | None = None
    tags: Tags = ()
    start_limit: Limit = 3600.0
    stall: Limit = 300.0
    load_limit: Limit = 1200.0
    call_limit: Limit = 3600.0
    self_test_limit: Limit = 600.0
    stop_grace: Duration = 10.0
    log_cap: LogCap = 64_000_000
    leave_running: bool = False
    max_rss: Annotated[Annotated[int, Field(gt=0)] | None, _MEMORY] = None
    max_calls: Annotated[Annotated[int, Field(ge=1)] | None, _COUNT] = None
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


if TYPE_CHECKING:
    ChecksConfig = Written
else:
    ChecksConfig = create_model(
        "ChecksConfig", __base__=Written, **{kind: (Level, level) for kind, level in LEVELS.items()}
    )
    """What to do about each finding in a reply, see policy/failure/reply_checks.py."""


class RunsKept(Written):
    """How long published runs are kept: age in seconds, size of all together in bytes. None: no
    limit."""

    age: Annotated[float | None, _AGE] = None
    size: Annotated[int | None, _MOST] = None


class RetentionConfig(Written):
    """What sdwatch removes automatically. `logs`: bytes of all WebUI output in the state folder."""

    done: RunsKept = RunsKept()
    failed: RunsKept = RunsKept()
    logs: LogCap = 1_000_000_000


class OutputsConfig(Written):
    """Where the pictures of all jobs are once more, and how where a job says nothing about it.
    `folder`: None for outputs/ in the spool; `name`: a pattern, '' for none."""

    folder: MadePlace | None = None
    name: Annotated[str, _PATTERN] = ""
    format: Literal["as_sent", "png", "jpeg", "webp"] = "as_sent"


class Config(Written):
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
    max_points: Annotated[int, Field(ge=1), WHOLE] = JobRules.max_points
    wildcards: Place | None = None
    allow: Annotated[tuple[str, ...], ONE_OR_MORE] = ()
    min_free: Size = 1_000_000_000
    stop_grace: Duration = 30.0
    recovery: bool = True
    cooldown: Annotated[tuple[Duration, ...], Field(min_length=1), ONE_OR_MORE] = (
        5.0,
        10.0,
        20.0,
        40.0,
        80.0,
        160.0,
        300.0,
    )
    affinity_max_wait: Annotated[Annotated[float, Field(gt=0)] | None, _WAIT] = 600.0
    hold_max: Annotated[float | None, _AGE] = None
    log_cap: LogCap = 10_000_000
    umask: Annotated[int | None, _UMASK] = None
    retention: RetentionConfig = RetentionConfig()
    outputs: OutputsConfig = OutputsConfig()
    signatures: Place | None = None
    checks: ChecksConfig = ChecksConfig()
    notify: Annotated[NotifyConfig, NOT_AN_ADDRESS] = NotifyConfig()
    tags: Tags = ()
    webuis: Annotated[tuple[WebUIConfig, ...], named_by("name")]

    @property
    def output_folder(self) -> Path:
        """Return the folder of all outputs."""
        return self.outputs.folder or self.spool / "outputs"

    @property
    def output_format(self) -> Format | None:
        """Return the format of outputs; None: as the WebUI sent them."""
        return next((each for each in Format if each == self.outputs.format), None)

    @property
    def rules(self) -> JobRules:
        """Return what jobs may do."""
        inbox = self.spool / "inbox"
        return JobRules(self.allow, self.max_image, self.max_points, self.wildcards, inbox)

    @field_validator("webuis")
    @classmethod
    def _each_once(cls, webuis: tuple[WebUIConfig, ...]) -> tuple[WebUIConfig, ...]:
        owners: dict[str, str] = {}
        for webui in webuis:
            address = same_address(webui.url)
            if address in owners:
                raise ValueError(f"{owners[address]} and {webui.name} have the same url")
            owners[address] = webui.name
        return webuis


def same_address(url: str) -> str:
    """Return the url in a form that is equal for all spellings of one address."""
    return re.sub(r"//(localhost|\[::1\])(?=[:/]|$)", "//127.0.0.1", url.lower().rstrip("/"))


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
