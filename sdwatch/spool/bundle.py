"""Make a bundle: one zip about one run, for other people. No prompt, image, secret, user name or
home path is in it, so that it can be attached to a public bug report.

What was kept in the run's folder is free of prompts already; here it passes once more, with all
that the job file says, and with the texts of the runs around it, whose prompts the WebUI may have
printed just before.
"""

from __future__ import annotations

import base64
import getpass
import io
import json
import re
import socket
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from sdwatch.config import Config, WebUIConfig, secrets_in
from sdwatch.policy.job.run_names import RUN_ID
from sdwatch.policy.privacy.anonymise import Anonymiser
from sdwatch.policy.privacy.command_line import command_for_others, secrets_in_command
from sdwatch.policy.privacy.common_words import COMMON, tells_nothing
from sdwatch.policy.privacy.credentials import SECRET, SPEAKS_OF_ONE
from sdwatch.policy.privacy.leftover_words import LeftoverWords
from sdwatch.policy.privacy.pseudonyms import Pseudonyms, without_slugs
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.policy.privacy.sanitise import NAME_KEYS, sanitise, strings
from sdwatch.spool.archive import Spool
from sdwatch.spool.diagnostics import (
    ENVELOPE,
    WHY,
    evidence_files,
    parsed,
    read_evidence,
    read_json,
)
from sdwatch.spool.fingerprint import DEEPEST
from sdwatch.spool.run import JOB_FOLDER, JOURNAL, MANIFEST, read_source
from sdwatch.system import disk
from sdwatch.system.disk import encoded
from sdwatch.system.versions import versions

MOST_BYTES = 2_000_000
"""Of one member, before it is packed."""

MOST_LINES = 2000
NEIGHBOURS = 100
_MOST_FILES = 100
_LONGEST_NAME = 250
_SHORTEST_VALUE = 3
_MOST_RUN_JSON = 4_000_000
_ABOUT = """\
One run of sdwatch, for a bug report. Made by `sdwatch bundle`.

WHY.txt                      what happened, whose fault, what was tried
error.json                   the same for programs; what the recovery gate decided, in order
journal.jsonl                what happened to the run, in order
run.json                     what was asked for, with lengths and digests in place of prompts
stage_failure_payload*.json  the request that failed, likewise
webui_tail*.log              what the WebUI printed last, at each failure
machine*.json                memory, processes, disk, GPU: at the failure and a minute before
monitor.log                  sdwatch's own log while the run was under way
config.json                  the config, without passwords and environment
versions.json                of sdwatch, Python and packages

Not in it: the job file and images. Taken out wherever they appeared: the texts of this job and of
the runs around it, and their less usual words alone (<word>), passwords and tokens, user and host
names, addresses, home folders (~). Names of the inbox are replaced by pseudonyms, the same
everywhere: job-1, folder-1. Text that a WebUI made up itself, such as a caption or a filled-in
wildcard, cannot be known: look through webui_tail*.log before you give it away.
"""


def name_for_others(run_id: str) -> str:
    """Return what the zip about a run is called: its file's name is left out."""
    return f"sdwatch-{without_slugs(run_id)}"


def bundle(run_folder: Path, spool: Spool, config: Config, log_files: Iterable[Path]) -> bytes:
    """Return the zip about the run in `run_folder`. `log_files`: the monitor's own, oldest
    first."""
    members = dict(_members(run_folder, config, log_files))
    clean = _anonymiser(run_folder, spool, config)
    for text in members.values():
        clean.learn(text if isinstance(text, str) else json.dumps(text))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", _ABOUT)
        for name, content in members.items():
            archive.writestr(name, encoded(_cleaned(name, content, clean)))
    return packed.getvalue()


def _cleaned(name: str, content: Any, clean: Anonymiser) -> str:
    if isinstance(content, str):
        return clean.text(content)
    if name == JOURNAL:
        lines = (json.dumps(clean.value(record), ensure_ascii=False) for record in content)
        return "".join(f"{line}\n" for line in lines)
    return json.dumps(clean.value(content), indent=2, ensure_ascii=False) + "\n"


# -- what is in it


def _members(run_folder: Path, config: Config, logs: Iterable[Path]) -> Iterator[tuple[str, Any]]:
    """Yield each as text, or as the value that a JSON file has."""
    if why := _text(run_folder, WHY):
        yield WHY, why
    yield from _json_member(run_folder, ENVELOPE)
    records = _records(run_folder)
    yield JOURNAL, records
    if manifest := _json(run_folder, MANIFEST):
        yield MANIFEST, _without_texts(manifest)
    for name in evidence_files(run_folder):
        if name.endswith(".json"):
            yield from _json_member(run_folder, name)
        else:
            yield name, _text(run_folder, name)
    yield "monitor.log", "".join(_lines_about(run_folder.name, records, logs))
    yield "config.json", config_for_others(config)
    yield "versions.json", versions() | {"webui": _webui(manifest)}


def _text(folder: Path, name: str) -> str:
    return read_evidence(folder, name, MOST_BYTES).decode("utf-8", "replace")


def _json(folder: Path, name: str) -> dict[str, Any]:
    return read_json(folder, name, _MOST_RUN_JSON)


def _json_member(folder: Path, name: str) -> Iterator[tuple[str, Any]]:
    if value := _json(folder, name):
        yield name, value


def _records(folder: Path) -> list[Any]:
    """Return the records of the journal; of a very long one the last."""
    records = []
    for line in read_evidence(folder, JOURNAL, _MOST_RUN_JSON).splitlines()[-MOST_LINES:]:
        try:
            records.append(parsed(line))
        except ValueError:
            continue
    return records


def _without_texts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return run.json with lengths and digests instead of prompts."""
    shared = dict(manifest)
    job = shared.get("job")
    if isinstance(job, Mapping):
        name = {"name": job.get("name")}
        stages = job.get("stages")
        shared["job"] = {
            **sanitise(name),
            "priority": job.get("priority"),
            "stages": [sanitise(s) if isinstance(s, Mapping) else {} for s in _list(stages)],
        }
    return shared


def _webui(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the WebUI, with the version and model from its replies."""
    told = dict(_mapping(manifest.get("webui")))
    for call in _list(manifest.get("calls")):
        for attempt in map(_mapping, _list(_mapping(call).get("attempts"))):
            told |= {
                k: attempt[k] for k in ("webui_version", "model", "model_hash") if k in attempt
            }
    return told


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return the mapping; an empty one if somebody damaged it."""
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _lines_about(run_id: str, records: Iterable[Any], logs: Iterable[Path]) -> list[str]:
    """Return the monitor's lines while the run was under way, without those that name another
    run."""
    times = [str(r["at"]) for r in records if isinstance(r, dict) and r.get("at")]
    begins, ends = (times[0], times[-1]) if times else ("", "")
    kept: list[str] = []
    taken = False  # a traceback's lines have no time of their own
    for path in logs:
        for line in _log_lines(path):
            stamp = line[: len(begins)]
            if re.match(r"\d{4}-\d\d-\d\dT", line):
                during = bool(begins) and begins[:19] <= stamp[:19] <= ends[:19]
                others = {found.group() for found in RUN_ID.finditer(line)} - {run_id}
                taken = run_id in line or (during and not others)
            if taken:
                kept.append(line)
    return kept[-MOST_LINES:]


def _log_lines(path: Path) -> list[str]:
    try:
        with io.TextIOWrapper(disk.open_to_read(path), "utf-8", "replace") as file:
            return file.readlines()
    except OSError:
        return []


def config_for_others(config: Config) -> dict[str, Any]:
    """Return the config without passwords, user names and the environment's values."""
    told: dict[str, Any] = config.model_dump(mode="json", exclude={"webuis"})
    told["webuis"] = {webui.name: _webui_for_others(webui) for webui in config.webuis}
    return told


def _webui_for_others(webui: WebUIConfig) -> dict[str, Any]:
    told: dict[str, Any] = webui.model_dump(mode="json", exclude={"name", "env", "password"})
    told["command"] = command_for_others(webui.command) if webui.command else None
    told["username"] = SECRET if webui.username else None
    told["env"] = dict.fromkeys(webui.env, "<hidden>")
    return told


# -- what must not be in it


class _Known:
    """What is learned from jobs, for each part that hides it."""

    def __init__(self) -> None:
        self.redactor = Redactor()
        self.leftover_words = LeftoverWords(lambda text: self.redactor.redact(text) != text)
        self.pseudonyms = Pseudonyms()

    def learn(self, payload: Mapping[str, Any]) -> None:
        self.redactor.learn(payload)
        for kind, text in strings(payload):
            if kind == "text":
                self.leftover_words.learn(text)
            elif kind == "image" and len(text) <= _LONGEST_NAME:  # the name of a file
                self.pseudonyms.add_file(text)

    def learn_source(self, source: str) -> None:
        """Learn a path of the inbox: its pseudonym, and its words when they occur alone."""
        self.pseudonyms.add_source(source)
        self.leftover_words.learn(source)


def _anonymiser(run_folder: Path, spool: Spool, config: Config) -> Anonymiser:
    known = _Known()
    for folder in (run_folder, *_neighbours(run_folder, spool)):
        _learn_run(known, folder)
    for source in _waiting(spool):
        known.learn_source(source)
    for webui in config.webuis:
        for secret in secrets_in(webui):
            known.redactor.learn_secret(secret.value, secret.label)
        for value in _secrets_of(webui):
            known.redactor.learn_secret(value)
    host = socket.gethostname()
    hosts = [host, host.partition(".")[0], re.sub(r"[^a-z0-9]", "-", host.lower())]
    hosts += [w.host for w in config.webuis if not re.fullmatch(r"127[\d.]+|::1|localhost", w.host)]
    places = {str(config.spool): "<spool>", str(config.state): "<state>"}
    places |= {str(w.cwd): "<webui>" for w in config.webuis if w.cwd}
    return Anonymiser(
        known.redactor.redact,
        leftover_words=known.leftover_words,
        users=_users(),
        hosts=hosts,
        places=places,
        names=known.pseudonyms.names,
    )


def _secrets_of(webui: WebUIConfig) -> Iterator[str]:
    """Yield the private values of the config. Values such as `true` and 512 are left out:
    without them a log cannot be read."""
    yield from filter(None, (webui.password, webui.username))
    if webui.username and webui.password:
        yield base64.b64encode(f"{webui.username}:{webui.password}".encode()).decode()
    yield from secrets_in_command(webui.command or ())
    for name, value in webui.env.items():
        is_usual = len(value) < _SHORTEST_VALUE or value.lower() in COMMON
        if SPEAKS_OF_ONE.search(name) or (any(map(str.isalpha, value)) and not is_usual):
            yield value


def _users() -> list[str]:
    try:
        return [getpass.getuser(), Path.home().name]
    except (OSError, KeyError, RuntimeError):
        return []


def _neighbours(run_folder: Path, spool: Spool) -> list[Path]:
    """Return the runs that ended or started around it, whose prompts the WebUI may have printed."""
    folders = sorted(spool.all_runs(), key=lambda f: f.name)
    before = [f for f in folders if f.name < run_folder.name]
    after = [f for f in folders if f.name > run_folder.name]
    return [*before[-NEIGHBOURS // 2 :], *after[: NEIGHBOURS // 2]]


def _waiting(spool: Spool) -> list[str]:
    """Return the paths in the inbox now: sdwatch's log may name what waits there."""
    below = disk.entries_below(spool.inbox, DEEPEST)
    found = (path for path, _ in below if not path.name.startswith("."))
    return [path.relative_to(spool.inbox).as_posix() for path in islice(found, NEIGHBOURS)]


def _learn_run(known: _Known, run_folder: Path) -> None:
    manifest = _json(run_folder, MANIFEST)
    source = str(manifest.get("source") or read_source(run_folder))
    if source:
        known.learn_source(source)
    with suppress(OSError):  # nearly always there is none
        for entry in disk.entries(run_folder / JOB_FOLDER)[:_MOST_FILES]:
            known.pseudonyms.add_file(entry.name)
    job = manifest.get("job")
    if not isinstance(job, Mapping):
        _learn_job_file(known, run_folder)
        return
    if job.get("name") != PurePosixPath(source).stem:  # else it is a file's name
        known.learn({"job_name": job.get("name")})
    for stage in _list(job.get("stages")):
        if isinstance(stage, Mapping):
            known.learn(stage)
            known.learn({"keys": list(_odd_keys(stage))})


def _odd_keys(value: Any) -> Iterator[str]:
    """Return keys that no WebUI has: a colon may have turned a prompt into one."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if " " in str(key):
                yield str(key)
            yield from _odd_keys(item)
    elif isinstance(value, list):
        for item in value:
            yield from _odd_keys(item)


def _learn_job_file(known: _Known, run_folder: Path) -> None:
    """Learn a run without a job in its manifest, because it has not ended or its job could not
    be read: whatever may be a text in the job file is one."""
    names = ("job.yaml", "job/job.yaml", "job/job.yml")
    path = next((p for n in names if disk.is_file(p := run_folder / n)), None)
    if path is None:
        return
    data = read_evidence(run_folder, path.relative_to(run_folder).as_posix(), MOST_BYTES)
    for line in data.decode("utf-8", "replace").splitlines():
        known.learn({"line": list(_texts_in(line))})


def _texts_in(line: str) -> Iterator[str]:
    """Yield what may be a text in a line of YAML: its value, and its key if it is not of usual
    words."""
    key, colon, value = line.partition(":")
    key = key.strip(" \t-{[\"'")
    if key not in NAME_KEYS:
        text = (value if colon else line).strip()
        yield text.strip(" ,\"'[]{}")
    if colon and not all(map(tells_nothing, re.findall(r"[^\W_]+", key))):
        yield key
