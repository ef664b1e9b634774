"""Every command while the monitor is stopped, idle, on hold, or in the middle of a call: one table,
with a real monitor and the simulator."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import pytest

from sdwatch.cli import COMMANDS
from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import drop, heartbeat, make_spool, running, sdwatch, started
from tests.support.helpers import wait_until

OK, ERROR, NOT_FOUND = ExitCode.OK, ExitCode.ERROR, ExitCode.NOT_FOUND
SECOND = (ExitCode.ALREADY_RUNNING, "")
SECRET = "a lighthouse nobody may know of"


class State(StrEnum):
    STOPPED = "stopped"
    IDLE = "idle"
    HELD = "held by a person"
    LANE_HELD = "lane on hold"
    CALLING = "in a call"


class Row(NamedTuple):
    """A command, and for each state its exit code with a part of what it prints; None where the
    command has nothing to work on."""

    command: str
    stopped: tuple[ExitCode, str] | None
    idle: tuple[ExitCode, str] | None
    held: tuple[ExitCode, str] | None
    lane_held: tuple[ExitCode, str] | None
    calling: tuple[ExitCode, str] | None


def always(command: str, code: ExitCode, text: str) -> Row:
    return Row(command, *[(code, text)] * 5)


# {failed}, {done}, {working}: runs; {url}: the WebUI's.
TABLE = (
    always("cluster status", ERROR, "which broker?"),
    always("drain BOX", ERROR, "which broker?"),
    Row(
        "status",
        (OK, "no monitor is running"),
        (OK, "ready"),
        (OK, "hold"),
        (OK, "no checkpoint"),
        (OK, "long.yaml"),
    ),
    always("status --json", OK, '"monitors"'),
    always("list", OK, "lighthouse.yaml"),
    always("list failed", OK, "lighthouse.yaml"),
    Row("list working", *[(OK, "nothing in working/")] * 4, (OK, "long.yaml")),
    always("list --json --state failed --name light*", OK, '"lighthouse.yaml"'),
    always("show {failed}", OK, "server error, fault: job"),
    always("show {done}", OK, "512x512"),
    Row("show {working}", None, None, None, None, (OK, "stage 1 of 1 (txt2img)")),
    always("open {failed} --picture", NOT_FOUND, "has no picture yet"),
    Row(
        "logs",
        (OK, "nothing is logged"),
        (OK, "ready, incarnation 1"),
        (OK, "on hold"),
        (OK, "no checkpoint"),
        (OK, ": 1.1: sent"),
    ),
    always("logs {done}", OK, "this machine's log has nothing about"),
    Row(
        "logs simulator",
        (OK, "was not started on this machine yet"),
        (OK, "SIMULATED WebUI"),
        (OK, "SIMULATED WebUI"),
        (OK, ".stdout.log"),
        (OK, "SIMULATED WebUI"),
    ),
    always("completion bash", OK, "_python_argcomplete"),
    always("check", OK, "no mistakes"),
    always("check good.yaml", OK, "1 checked, 0 with mistakes"),
    always("check bad.yaml", ExitCode.BAD_JOB, "promt"),
    Row(
        "check --against {url} good.yaml",
        (ERROR, "is not ready"),
        (OK, "0 with mistakes"),
        (OK, "0 with mistakes"),
        (ERROR, "is not ready"),
        (OK, "0 with mistakes"),
    ),
    Row(
        "canary",
        (ERROR, "is not ready"),
        (OK, "simulator: "),
        (OK, "simulator: "),
        (ERROR, "is not ready"),
        None,  # it waits for the job, see test_cli_canary.py
    ),
    always("bundle {failed}", OK, "KB about"),
    always("bundle {done}", OK, "KB about"),
    Row("bundle {working}", None, None, None, None, (OK, "KB about")),
    Row(
        "replay {failed}",
        (ERROR, "start it with `sdwatch run`"),
        (OK, "200 after"),
        (OK, "200 after"),
        (ERROR, "after"),
        (OK, "200 after"),
    ),
    Row("run", None, SECOND, SECOND, SECOND, SECOND),
    Row("run --once", None, SECOND, SECOND, SECOND, SECOND),
    Row("run --take-over nobody", (ERROR, "no worker"), SECOND, SECOND, SECOND, SECOND),
    always("schema", OK, '"properties"'),
    always("init another", OK, "Wrote "),
    always("retry --edit {failed}", OK, "queued again"),
    always("retry {done}", OK, "queued again"),
    always("submit good.yaml", OK, "good.yaml -> "),
    always("submit bad.yaml", ExitCode.BAD_JOB, "nothing was submitted"),
    Row(
        "cancel later.yaml",
        (OK, "will be cancelled"),
        None,  # an idle monitor has it at once
        (OK, "will be cancelled"),
        (OK, "will be cancelled"),
        (OK, "will be cancelled"),
    ),
    always("cancel nothing-like-it", NOT_FOUND, "nothing-like-it"),
    Row("cancel {working}", None, None, None, None, (OK, "will be cancelled")),
    Row(
        "hold",
        (OK, "On hold"),
        (OK, "On hold"),
        (OK, "Already on hold"),
        (OK, "On hold"),
        (OK, "On hold"),
    ),
    always("resume", OK, "Removed "),
    always("notify test", ERROR, "add `notify:`"),
    Row(
        "doctor",
        (OK, "no picture was tested"),
        (OK, "healthy"),
        (OK, "healthy"),
        (ERROR, "on hold"),
        (OK, "busy with somebody's picture"),
    ),
    always("service status --name no.such", ERROR, "cannot be the name of a service"),
    # The last one, since it ends the monitor.
    Row("stop", (OK, "No monitor is running"), *[(OK, "Made ")] * 4),
)


FIRST = tuple({row.command.split()[0]: row for row in reversed(TABLE) if row.stopped}.values())
"""One row of each command, which starts Python; the others are forked from one that has started."""


class Place(NamedTuple):
    """A spool in one state, and what is in it by the names of the table."""

    folder: Path
    state: State
    names: dict[str, str]


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool with a run in done/ and one in failed/, made by a monitor."""
    folder = tmp_path_factory.mktemp("archived")
    plan = folder / "faults.yaml"
    plan.write_text("- fault: opaque-500\n  when: {prompt: lighthouse}\n  times: always\n")
    make_spool(folder, "--faults", str(plan), "--step-time", "0.01")
    drop(folder, "castle.yaml")
    drop(folder, "lighthouse.yaml", f"prompt: {SECRET}\nsteps: 2\nwidth: 64\nheight: 64\n")
    done = sdwatch(folder, "run", "--once")
    assert done.returncode == OK, done.stdout + done.stderr
    assert list(folder.glob("failed/*/WHY.txt")), done.stdout
    return folder


@pytest.fixture(scope="module", params=list(State))
def place(
    request: pytest.FixtureRequest, archived: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    state: State = request.param
    folder = tmp_path_factory.mktemp("spool")
    flags = ["--step-time", "0.1" if state is State.CALLING else "0.01"]
    make_spool(folder, *flags, *(["--no-model"] if state is State.LANE_HELD else []))
    for name in ("done", "failed"):
        shutil.copytree(archived / name, folder / name)
        (folder / name / "Thumbs.db").write_bytes(b"what file managers leave behind")
    (folder / "good.yaml").write_text("prompt: a castle\nsteps: 2\nwidth: 64\nheight: 64\n")
    (folder / "bad.yaml").write_text("promt: a castle\n")
    with ExitStack() as stack:
        if state is State.STOPPED:
            sdwatch(folder, "run", "--once")  # it was here before
        else:
            stack.enter_context(running(folder, held=state is State.LANE_HELD))
            if state is State.HELD:  # a WebUI is not started while it is there
                (folder / "hold").touch()
                wait_until(lambda: heartbeat(folder).get("hold"), 30, "it is on hold")
        if state is State.CALLING:
            for name in ("long.yaml", "long-2.yaml"):  # as many as a lane takes up at once
                drop(folder, name, "prompt: a long night\nsteps: 20\nn_iter: 100\n")
            wait_until(lambda: len(heartbeat(folder).get("runs", [])) == 2, 30, "the calls")
        if state is not State.IDLE:
            drop(folder, "later.yaml")
        names = {
            name: next((p.name for p in folder.glob(pattern) if p.is_dir()), "")
            for name, pattern in (
                ("failed", "failed/*"), ("done", "done/*"), ("working", "working/*/*"),
            )
        }  # fmt: skip
        config = json.loads((folder / "sdwatch.yaml").read_text())
        yield Place(folder, state, names | {"url": config["webuis"]["simulator"]["url"]})


def expected(row: Row, state: State) -> tuple[ExitCode, str] | None:
    return row[1 + list(State).index(state)]  # type: ignore[return-value]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.command)
def test_every_command_says_what_fits_the_state(place: Place, row: Row) -> None:
    if (cell := expected(row, place.state)) is None:
        pytest.skip("no image to work on")
    code, text = cell
    if row.command == "resume":
        (place.folder / "hold").touch()
    editor = f"{sys.executable} -c pass"
    shutil.rmtree(place.folder / "another", ignore_errors=True)
    run = started if place.state is State.STOPPED and row in FIRST else sdwatch
    told = run(place.folder, *row.command.format(**place.names).split(), VISUAL=editor)
    said = told.stdout + told.stderr
    if row.command == "hold" and place.state is not State.HELD:
        (place.folder / "hold").unlink()
    assert "/sdwatch/cli/" not in said  # a traceback of ours; the WebUI's own may be shown
    assert "internal error" not in said
    assert told.returncode == code, said
    assert text in said
    if row.command.startswith("bundle"):
        zipped = place.folder / told.stdout.partition(": ")[0]
        with zipfile.ZipFile(zipped) as bundle:
            texts = {name: bundle.read(name).decode() for name in bundle.namelist()}
        assert "journal.jsonl" in texts
        assert not any("lighthouse" in body for body in texts.values())


def test_every_command_is_in_the_table() -> None:
    walked = {row.command.split()[0] for row in TABLE}
    # The demo makes a spool of its own, and a page is served until it is stopped.
    assert walked | {"demo", "web"} == set(COMMANDS)
