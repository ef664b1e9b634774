"""Make a bundle: one zip about one run, for other people. No prompt, image, secret, user name or
home path is in it, so that it can be attached to a public bug report.

It is made by allow-list (policy/report/for_others.py). Only the tail of the WebUI's log is text of
others; a person sees it before it is added.
"""

from __future__ import annotations

import getpass
import io
import json
import re
import socket
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from sdwatch.config import Config, secrets_in
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.check_levels import Level
from sdwatch.policy.failure.earlier_records import renamed
from sdwatch.policy.failure.error_lines import without_headings
from sdwatch.policy.notify.notify_settings import secrets_of
from sdwatch.policy.privacy.log_for_others import log_for_others
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.policy.queue.run_names import RUN_ID
from sdwatch.policy.report.for_others import fields_of, keys_of, tracebacks_of, webui_of
from sdwatch.spool.diagnostics import (
    ENVELOPE,
    TAIL,
    evidence_files,
    parsed,
    read_evidence,
    read_json,
)
from sdwatch.spool.manifest import read_about
from sdwatch.spool.run import JOURNAL
from sdwatch.system import disk
from sdwatch.system.disk import encoded
from sdwatch.system.versions import versions

MOST_LINES = 2000
_MOST_BYTES = 4_000_000
_WORDS = frozenset([*get_args(Level), "events", "poll"])
_STAMPED = re.compile(r"\d{4}-\d\d-\d\dT")
_THIS_MACHINE = re.compile(r"127[\d.]+|::1|localhost")
_TAIL_STEM = TAIL.removesuffix(".log")
_ABOUT = """\
One run of sdwatch, for a bug report. Made by `sdwatch bundle`.

journal.jsonl     what happened to the run, in order: times, codes and numbers
error.json        how it ended: diagnosis, blame, stage, exit code
tracebacks.json   exceptions by their class, with the code's files, lines and functions
config.json       which keys are set; values only of numbers and switches
versions.json     of sdwatch, Python, packages and the WebUI
webui_tail*.log   with --with-log: what the WebUI printed last, as it was shown to who made this

Only what is listed here is in it. Not in it: the job, prompts, images, messages, names, paths,
addresses, passwords.
"""


def name_for_others(run_id: str) -> str:
    """Return what the zip about a run is called: its job's name is left out."""
    return "sdwatch-" + RUN_ID.sub(r"\1job\2", run_id)


def bundle(
    run_folder: Path,
    config: Config,
    log_files: Iterable[Path],
    tails: Mapping[str, str] | None = None,
) -> bytes:
    """Return the zip about the run in `run_folder`. `log_files`: the monitor's own, oldest first;
    `tails`: those of `tails_for_others` that a person allowed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", _ABOUT)
        archive.writestr(JOURNAL, "".join(f"{json.dumps(r)}\n" for r in _journal(run_folder)))
        for name, value in _members(run_folder, config, log_files):
            archive.writestr(name, json.dumps(value, indent=2) + "\n")
        for name, text in (tails or {}).items():
            archive.writestr(name, encoded(text))
    return packed.getvalue()


def tails_for_others(run_folder: Path, config: Config) -> dict[str, str]:
    """Return what the WebUI printed last at each failure, by the name of the file: as the evidence
    has it, also without who ran it and where."""
    redactor = Redactor()
    of_webuis = (secret for webui in config.webuis for secret in secrets_in(webui))
    for secret in (*of_webuis, *secrets_of(config.notify)):
        redactor.learn_secret(secret.value, secret.label)
    names = dict.fromkeys(_users(), "<user>")
    host = socket.gethostname()
    hosts = [host, host.partition(".")[0], *(webui.host for webui in config.webuis)]
    names |= {name: "<host>" for name in hosts if not _THIS_MACHINE.fullmatch(name)}
    places = {str(config.spool): "<spool>", str(config.state): "<state>"}
    places |= {str(webui.cwd): "<webui>" for webui in config.webuis if webui.cwd}
    texts = {name: _text(run_folder, name) for name in _tail_files(run_folder)}
    return {
        name: log_for_others(redactor.without_secrets(text), places, names)
        for name, text in texts.items()
    }


def _journal(run_folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what may be seen of each record; of a very long journal the last."""
    for line in read_evidence(run_folder, JOURNAL, _MOST_BYTES).splitlines()[-MOST_LINES:]:
        try:
            yield fields_of(renamed(parsed(line)), _signatures())
        except ValueError:
            continue


def _members(
    run_folder: Path, config: Config, logs: Iterable[Path]
) -> Iterator[tuple[str, dict[str, Any]]]:
    if error := read_json(run_folder, ENVELOPE, _MOST_BYTES):
        yield ENVELOPE, fields_of(error, _signatures())
    printed = {name: without_headings(_text(run_folder, name)) for name in _tail_files(run_folder)}
    sources = printed | {"sdwatch.log": _lines_about(run_folder.name, logs)}
    found = {name: [*tracebacks_of(lines)] for name, lines in sources.items()}
    yield "tracebacks.json", {name: raised for name, raised in found.items() if raised}
    yield "config.json", keys_of(config, _WORDS)
    manifest = read_about(run_folder)
    # Of a kernel only its number, which may be followed by a name.
    known = {name: re.sub(r"(?<=\d)-\S*", "", version) for name, version in versions().items()}
    yield "versions.json", known | {"webui": webui_of(manifest.get("webui"))}


def _signatures() -> frozenset[str]:
    return frozenset(signature.name for signature in builtin_signatures())


def _tail_files(run_folder: Path) -> list[str]:
    return [name for name in evidence_files(run_folder) if name.startswith(_TAIL_STEM)]


def _text(run_folder: Path, name: str) -> str:
    """Return a file's text. An editor on Windows may have saved it with its own ends of lines."""
    return read_evidence(run_folder, name).decode("utf-8", "replace").replace("\r\n", "\n")


def _lines_about(run_id: str, logs: Iterable[Path]) -> list[str]:
    """Return the monitor's lines that name the run, with the tracebacks below them."""
    kept: list[str] = []
    taken = False  # a traceback's lines have no time of their own
    for path in logs:
        for line in _log_lines(path):
            taken = run_id in line if _STAMPED.match(line) else taken
            if taken:
                kept.append(line)
    return kept[-MOST_LINES:]


def _log_lines(path: Path) -> list[str]:
    try:
        with io.TextIOWrapper(disk.open_to_read(path), "utf-8", "replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _users() -> list[str]:
    try:
        return [getpass.getuser(), Path.home().name]
    except (OSError, KeyError, RuntimeError):
        return []
