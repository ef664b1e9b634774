"""`sdwatch replay`: send the one call that failed once more by hand, outside of all queues.

The run's folder is only read. The call is made from the job file, the recorded seeds and the images
of the stage before, by the same code as the run did.
"""

from __future__ import annotations

import argparse
import re
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sdwatch.cli.shared.call_by_hand import exclusive_use, log_of, said_of, save, save_file, shown
from sdwatch.cli.shared.chosen_config import ChosenConfig, add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.run_by_name import archived_runs, find, run_named, working_runs
from sdwatch.config import Config, WebUIConfig
from sdwatch.errors import (
    NotFoundError,
    SdwatchError,
    WebUIError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.policy.job.calls.payload import Call, completed, may_need_more
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.table import kind_named
from sdwatch.policy.kinds.unknown import UNKNOWN
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.policy.report.why import asked_for
from sdwatch.spool.diagnostics import ENVELOPE, read_json
from sdwatch.spool.manifest import MANIFEST
from sdwatch.spool.recorder import RunRecorder
from sdwatch.spool.run import Run
from sdwatch.stages.runner import StageRunner
from sdwatch.stages.settings import RunSettings
from sdwatch.system.clock import SystemClock
from sdwatch.webui.http.catalogue_queries import CatalogueReader
from sdwatch.webui.http.found import FoundClient, client_for
from sdwatch.webui.http.reply import Reply
from sdwatch.webui.log.call_log import CallLog

_MOST_MANIFEST = 4_000_000
_QUESTION = 5.0  # seconds for each question about what the WebUI has

_UNANSWERED = (WebUIUnreachableError, WebUIStuckError)
"""Errors without a status for which nothing answered. ComfyUI says what became of a prompt without
one, in its history."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument("run", metavar="RUN", help="its id, or a unique part of it")
    parser.add_argument("--call", metavar="STAGE.NUMBER", help="default: the one that failed")
    parser.add_argument("--url", help="default: the WebUI that the run used")
    parser.epilog = (
        "The call is sent once; nothing is retried or restarted. If a monitor of this spool uses\n"
        "that WebUI, all its WebUIs are on hold until this command ends. What it makes is saved\n"
        "in the current folder; the run's folder stays as it is."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Send it and show what comes back. Raises NotFoundError, SdwatchError, OSError."""
    chosen = choose_config(args.config)
    spool = chosen.spool
    runs = archived_runs(spool.done) | archived_runs(spool.failed) | working_runs(spool)
    folder = find(run_named(args.run), runs, "failed/, done/ or working/")
    call, payload = _rebuilt(folder, args.call, chosen)
    with closing(_client(folder, args.url, chosen)) as client:
        with exclusive_use(client.url, spool):
            asked = asked_for(payload)
            if may_need_more(call.kind, payload):
                catalogue = CatalogueReader(client, _QUESTION).read()
                payload |= completed(call.kind, payload, catalogue)
            what = f"{call.kind} ({asked})" if asked else call.kind
            print(f"{folder.name}: call {call.id}, {what} -> {client.url}")
            named = (webui for webui in chosen.config.webuis if webui.url == client.url)
            log = log_of(next(named, None), chosen.config)
            return _sent(client, call, payload, folder.name, chosen.config, log)


def _sent(
    client: FoundClient,
    call: Call,
    payload: dict[str, Any],
    run_id: str,
    config: Config,
    log: CallLog,
) -> ExitCode:
    began = time.monotonic()
    try:
        reply = client.generate_images(call.kind, payload)
    except WebUIError as error:
        end = "no answer" if isinstance(error, _UNANSWERED) else "failed"
        status = error.status or f"{end} ({type(error).__name__})"
        print(f"{status} after {time.monotonic() - began:.1f} s")
        print(f"  {printable_text(str(error))}")
        print("".join(f"{line}\n" for line in shown(said_of(error, log))), end="")
        if isinstance(error, WebUIUnreachableError):
            print(f"  {_how_to_start(client.url, config)}")
        return ExitCode.ERROR
    others = f" and {len(reply.files)} other file(s)" if reply.files else ""
    print(f"200 after {time.monotonic() - began:.1f} s, {len(reply.images)} image(s){others}:")
    for number, data in enumerate(reply.images, 1):
        print(f"  {save(f'replay-{run_id}-{call.id}-{number:02d}', data)}")
    for number, file in enumerate(reply.files, 1):
        stem = f"replay-{run_id}-{call.id}-file{number:02d}"
        print(f"  {save_file(stem, file.ending, file.data)}")
    return ExitCode.OK


def _rebuilt(folder: Path, named: str | None, chosen: ChosenConfig) -> tuple[Call, dict[str, Any]]:
    clock = SystemClock()
    run = Run(folder, clock)
    recorder = RunRecorder(run, Redactor(), clock)
    settings = RunSettings(chosen.config.rules)
    runner = StageRunner(run, _UnusedClient(), recorder, clock=clock, settings=settings)
    return runner.rebuild(named or str(read_json(folder, ENVELOPE).get("call") or ""))


class _UnusedClient:
    """A client for a runner that only rebuilds a call and never sends it."""

    def generate_images(self, stage: str, payload: Any) -> Reply:
        raise AssertionError(f"{stage} is not sent from here: {len(payload)}")


def _client(folder: Path, url: str | None, chosen: ChosenConfig) -> FoundClient:
    """Return a client for the WebUI that the run used, with its password; another url gets none."""
    webui = _webui(folder, chosen)
    if url is not None and url.rstrip("/") != webui.url:
        if re.fullmatch(r"https?://[^/\s@]+/?", url) is None:
            raise SdwatchError(
                f"{url!r}: --url must be http://HOST:PORT, without a path or a password"
            )
        unknown = {"url": url.rstrip("/"), "username": None, "password": None}
        webui = webui.model_copy(update=unknown)
    return client_for(webui, dialect=_kind(folder).dialect)


def _kind(folder: Path) -> Kind:
    about = read_json(folder, MANIFEST, _MOST_MANIFEST).get("webui")
    try:
        return kind_named(str(about.get("kind"))) if isinstance(about, dict) else UNKNOWN
    except ValueError:  # of a later version
        return UNKNOWN


def _webui(folder: Path, chosen: ChosenConfig) -> WebUIConfig:
    about = read_json(folder, MANIFEST, _MOST_MANIFEST).get("webui")
    name = str(about.get("name", "")) if isinstance(about, dict) else ""
    webuis = {webui.name: webui for webui in chosen.config.webuis}
    if name in webuis:
        return webuis[name]
    if len(webuis) == 1:
        return next(iter(webuis.values()))
    which = (
        f"the config no longer has {name}, the WebUI that the run used"
        if name
        else "the run has not used a WebUI yet, and the config has several"
    )
    urls = ", ".join(webui.url for webui in webuis.values())
    raise NotFoundError(f"{which}; choose one with --url: {urls}")


def _how_to_start(url: str, config: Config) -> str:
    """Return who starts the WebUI, in case it is only not running."""
    ours = any(webui.url == url and webui.command is not None for webui in config.webuis)
    by = "with `sdwatch run` or by hand" if ours else "by hand"
    return f"If the WebUI is not running, start it {by}, then replay again."
