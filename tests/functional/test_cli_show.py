"""What a person asks about runs: show, open, logs, list with filters; and what a shell asks."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import drop, make_spool, running, sdwatch, started
from tests.support.helpers import wait_until

OK, NOT_FOUND = ExitCode.OK, ExitCode.NOT_FOUND
SECRET = "an unheard-of lighthouse, made of glass bottles"
HOSTILE = "20261128-173413.931-red-ab12"
SMALL = "steps: 2\nwidth: 64\nheight: 64\n"
CASTLE = """
stages:
- txt2img: {prompt: a castle, steps: 2, width: 64, height: 64}
- upscale: {upscaler_1: Lanczos}
"""


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool after a night: castle is done, lighthouse crashed the WebUI once and failed with an
    error that repeats its prompt; and a run whose journal a person has written."""
    folder = tmp_path_factory.mktemp("night")
    plan = folder / "faults.yaml"
    plan.write_text(
        "- {fault: sigkill-mid-step, when: {prompt: castle}}\n"
        "- {fault: echo-500, way: 0, when: {prompt: lighthouse}, times: always}\n"
    )
    make_spool(
        folder, "--faults", str(plan), "--state", str(folder / "sim.json"), "--step-time", "0"
    )
    drop(folder, "castle.yaml", CASTLE)
    drop(folder, "lighthouse.yaml", f"prompt: {SECRET}\n{SMALL}")
    done = sdwatch(folder, "run", "--once")
    assert done.returncode == OK, done.stdout + done.stderr
    hostile = folder / "failed" / HOSTILE
    (hostile / "images").mkdir(parents=True)
    image = {"sha256": "", "size": 1, "width": 1, "height": 1, "grid": False}
    names = ("../../../evil.png", "evil.bat", "link.png")
    records = [
        {"event": "claimed", "at": "\x1b[2J", "source": "\x1b[31mred\u202e.yaml"},
        {"event": "call_started", "call": "1.1", "attempt": 1, "incarnation": 1},
        {"event": "call_finished", "call": "1.1", "images": [{**image, "name": n} for n in names]},
        {"event": "ended", "outcome": "failed"},
    ]
    (hostile / "journal.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    (hostile / "WHY.txt").write_text("\x1b[2Jcleared\n")
    return folder


def run_of(night: Path, name: str) -> Path:
    (run,) = night.glob(f"*/*-{name}-????")
    return run


def test_show_has_where_a_run_is_its_calls_attempts_and_pictures(night: Path) -> None:
    run = run_of(night, "castle")
    said = sdwatch(night, "show", "castle").stdout
    assert run.name in said
    assert f"folder      {run}" in said
    assert "stage 1, txt2img" in said
    assert "1.1  finished, 1 image, 2 attempts" in said
    assert "incarnation 1: failed after" in said
    assert "(crash)" in said
    assert "stage 2, upscale" in said
    assert "2.1  finished, 1 image, 1 attempt" in said
    for image in (run / "images").iterdir():
        assert f"images/{image.name}" in said
    assert "64x64" in said
    assert SECRET not in sdwatch(night, "show", "lighthouse").stdout


def test_show_of_a_failed_run_says_why_it_failed(night: Path) -> None:
    run = run_of(night, "lighthouse")
    said = sdwatch(night, "show", run.name[:20]).stdout
    assert "state       failed, server error, fault: job" in said
    assert "why (WHY.txt)" in said
    assert "sdwatch retry" in said
    assert "webui_tail.log" in said


def test_what_several_runs_match_is_listed(night: Path) -> None:
    told = sdwatch(night, "show", "2026")
    assert told.returncode == NOT_FOUND
    for name in ("castle", "lighthouse"):
        assert run_of(night, name).name in told.stderr


def test_show_of_a_job_that_waits_says_so(night: Path) -> None:
    job = drop(night, "waits.yaml")
    try:
        told = sdwatch(night, "show", "waits")
    finally:
        job.unlink()
    assert told.returncode == OK, told.stderr
    assert "waits.yaml waits in the inbox" in told.stdout


@pytest.mark.parametrize("command", [["show", HOSTILE], ["list"], ["list", "--json"]])
def test_a_hostile_run_commands_no_terminal(night: Path, command: list[str]) -> None:
    told = sdwatch(night, *command)
    assert told.returncode == OK, told.stderr
    assert "red" in told.stdout
    assert not {"\x1b", "\u202e"} & set(told.stdout)


@pytest.mark.parametrize(
    "record",
    [
        {"event": "call_failed", "call": "1.1", "seconds": "long", "diagnosis": [], "at": 5},
        {"event": "call_failed", "call": "1.1", "seconds": 1e999, "images": 5, "warnings": 7},
        {"event": "call_finished", "call": "1.1", "images": [], "warnings": [1, {"words": None}]},
        {"event": "call_failed", "call": "1.1", "seconds": 10**400},
        {"event": "call_finished", "call": "1.1", "images": 5},
        {"event": "call_proven", "call": [], "excused": False},
        {"event": "evidence", "call": "1.1", "files": 7},
        {"event": "evidence", "call": "1.1", "files": [7]},
        {"event": "ended", "outcome": {"a": 1}},
    ],
)
def test_whatever_a_journal_says_a_run_is_shown(tmp_path: Path, record: dict[str, object]) -> None:
    make_spool(tmp_path)
    run = tmp_path / "done" / HOSTILE
    run.mkdir(parents=True)
    started = {"event": "call_started", "call": "1.1", "attempt": 1}
    lines = (json.dumps(each) for each in (started, record))
    (run / "journal.jsonl").write_text("\n".join(lines))
    (run / "run.json").write_text('{"webui": 5, "job": {"stages": [1, {}, {"txt2img": 0}]}}')
    (run / "error.json").write_text('{"diagnosis": [], "blame": {}}')
    for words in (["show"], ["open", "--picture"], ["logs"]):
        told = sdwatch(tmp_path, *words, HOSTILE, DISPLAY="", WAYLAND_DISPLAY="")
        assert told.returncode in (OK, NOT_FOUND), told.stderr
        assert "internal error" not in told.stderr
    assert json.loads(sdwatch(tmp_path, "list", "--json").stdout)[0]["run"] == HOSTILE


# -- open


@pytest.fixture
def desktop(tmp_path: Path) -> dict[str, str]:
    """An environment with a display, and a desktop that notes what it opens."""
    opener = tmp_path / "bin" / "xdg-open"
    opener.parent.mkdir()
    opener.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" >>"{tmp_path}/opened"\n')
    opener.chmod(0o755)
    return {"DISPLAY": ":9", "PATH": f"{opener.parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.posix_only("Windows opens it for real")
def test_open_gives_the_desktop_the_folder_the_picture_or_the_explanation(
    night: Path, tmp_path: Path, desktop: dict[str, str]
) -> None:
    castle, lighthouse = run_of(night, "castle"), run_of(night, "lighthouse")
    for words in (["castle"], ["castle", "--picture"], ["lighthouse", "--why"]):
        told = sdwatch(night, "open", *words, **desktop)
        assert (told.returncode, told.stdout) == (OK, ""), told.stderr
    opened = (tmp_path / "opened").read_text().splitlines()
    (picture,) = castle.glob("images/*upscale*")
    assert opened == [str(castle), str(picture), str(lighthouse / "WHY.txt")]


@pytest.mark.posix_only("Windows opens it for real")
def test_open_without_a_desktop_prints_the_path(night: Path) -> None:
    told = sdwatch(night, "open", "castle", DISPLAY="", WAYLAND_DISPLAY="")
    assert told.stdout == f"{run_of(night, 'castle')}\n"


@pytest.mark.posix_only("the links, and Windows opens it for real")
def test_open_opens_nothing_outside_the_run_and_no_program(
    night: Path, tmp_path: Path, desktop: dict[str, str]
) -> None:
    run = night / "failed" / HOSTILE
    (night.parent / "evil.png").write_bytes(b"")
    for name in ("evil.bat", "secret.png"):
        (run / "images" / name).write_bytes(b"")
    link = run / "images" / "link.png"
    link.symlink_to(run / "images" / "secret.png")
    journal = (run / "journal.jsonl").read_text().splitlines()
    finished = json.loads(journal[2])
    try:
        for image in finished["images"]:
            alone = json.dumps({**finished, "images": [image]})
            (run / "journal.jsonl").write_text("\n".join([*journal[:2], alone, journal[3], ""]))
            told = sdwatch(night, "open", HOSTILE, "--picture", **desktop)
            assert told.returncode == NOT_FOUND, (image, told.stdout)
    finally:
        (run / "journal.jsonl").write_text("\n".join([*journal, ""]))
    assert not (tmp_path / "opened").exists()


# -- logs


def test_logs_shows_the_monitors_log_and_that_of_one_run(night: Path) -> None:
    castle, lighthouse = run_of(night, "castle").name, run_of(night, "lighthouse").name
    said = sdwatch(night, "logs").stdout
    assert f"{castle}: starts" in said
    assert f"{lighthouse}: failed" in said
    assert "started incarnation 2" in said
    of_one = sdwatch(night, "logs", "lighthouse").stdout
    assert f"{lighthouse}: failed" in of_one
    assert castle not in of_one
    assert "----- webui_tail.log -----" in of_one
    followed = sdwatch(night, "logs", "lighthouse", "--follow")  # it has ended: nothing will come
    assert followed.stdout == of_one


def test_logs_of_a_webui_has_what_it_printed_but_no_prompt(night: Path) -> None:
    printed = "".join(p.read_text("utf-8") for p in night.glob("state/webui-simulator/*.log"))
    assert SECRET in printed
    said = sdwatch(night, "logs", "simulator").stdout
    assert "SIMULATED WebUI" in said
    assert "Traceback" in said
    for word in ("unheard-of", "glass", "bottles"):
        assert word not in said


def test_each_line_of_the_json_log_says_what_it_is_about(night: Path) -> None:
    lines = (night / "state" / "sdwatch.jsonl").read_text("utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    assert all({"at", "level", "event", "message"} <= entry.keys() for entry in entries)
    run = run_of(night, "castle").name
    about = {"run": run, "call": "1.1", "lane": "simulator"}
    for event, attempt, incarnation in (
        ("call_started", 1, 1),
        ("webui_call_failed", 1, 1),
        ("call_failed", 1, 1),
        ("call_started", 2, 2),
        ("call_finished", 2, 2),
    ):
        wanted = {**about, "event": event, "attempt": attempt, "incarnation": incarnation}
        assert any(wanted.items() <= entry.items() for entry in entries), wanted
    for event in ("webui_started", "webui_ready", "webui_crashed", "run_started", "run_done"):
        assert any(entry["event"] == event for entry in entries), event
    of_lane = [entry for entry in entries if entry["event"].startswith("webui_")]
    assert all(entry["lane"] == "simulator" and entry["incarnation"] for entry in of_lane)
    assert not any("glass" in str(entry) for entry in entries)


# -- list


def test_list_filters_by_state_name_diagnosis_lane_and_time(night: Path) -> None:
    def names(*words: str) -> set[str]:
        told = sdwatch(night, "list", "--json", *words)
        assert told.returncode == OK, told.stderr
        return {each["job"] for each in json.loads(told.stdout) if each["run"] != HOSTILE}

    assert names() == {"castle.yaml", "lighthouse.yaml"}
    assert names("--state", "done") == {"castle.yaml"}
    assert names("--state", "failed") == {"lighthouse.yaml"}
    assert names("--state", "waits") == set()
    assert names("--name", "LIGHT*") == {"lighthouse.yaml"}
    assert names("--diagnosis", "server error") == {"lighthouse.yaml"}
    assert names("--lane", "simulator") == {"castle.yaml", "lighthouse.yaml"}
    assert names("--lane", "another") == set()
    assert names("--since", "1 h") == {"castle.yaml", "lighthouse.yaml"}
    assert names("--since", "2999-01-01") == set()
    assert "nothing that fits these filters" in sdwatch(night, "list", "--lane", "another").stdout
    wrong = sdwatch(night, "list", "--since", "yesterday")
    assert wrong.returncode == ExitCode.USAGE
    assert "2026-11-27" in wrong.stderr


# -- again and again


def test_a_pipe_gets_a_line_for_each_change_and_the_monitors_log_as_it_grows(
    tmp_path: Path,
) -> None:
    make_spool(tmp_path, "--step-time", "0.01")
    readers = {}
    for name, words in (("status", ["status", "--watch"]), ("logs", ["logs", "--follow"])):
        with open(tmp_path / f"{name}.out", "w") as output:
            command = [sys.executable, "-m", "sdwatch", *words]
            readers[name] = subprocess.Popen(command, cwd=tmp_path, stdout=output)
    try:
        status = tmp_path / "status.out"
        wait_until(lambda: "no monitor is running" in status.read_text("utf-8"), 60, "it looks")
        with running(tmp_path):
            drop(tmp_path, "castle.yaml")
            for name, text in (("status", "1 in done"), ("logs", "castle.yaml")):
                file = tmp_path / f"{name}.out"
                wait_until(lambda f=file, t=text: t in f.read_text("utf-8"), 60, name)  # type: ignore[misc]
    finally:
        for reader in readers.values():
            reader.terminate()
            reader.wait(60)
    lines = (tmp_path / "status.out").read_text("utf-8").splitlines()
    said = [line[20:] for line in lines]
    assert all(one != other for one, other in itertools.pairwise(said))
    assert "no monitor is running" in said[0]


# -- what a shell asks


def completed(night: Path, line: str) -> list[str]:
    """What the shell would offer, by argcomplete's own protocol."""
    answer = night / "completed"
    answer.unlink(missing_ok=True)
    told = started(
        night,
        _ARGCOMPLETE="1",
        _ARGCOMPLETE_SHELL="bash",
        _ARGCOMPLETE_IFS="\n",
        _ARGCOMPLETE_STDOUT_FILENAME=str(answer),
        ARGCOMPLETE_USE_TEMPFILES="1",
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
        COMP_TYPE="9",
    )
    assert (told.stdout, told.stderr) == ("", "")
    return [word.strip() for word in answer.read_text("utf-8").split("\n")]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sdwatch st", {"status", "stop"}),
        ("sdwatch list --st", {"--state"}),
        ("sdwatch list --state fa", {"failed"}),
        ("sdwatch logs si", {"simulator"}),
    ],
)
def test_a_shell_completes_commands_options_and_lanes(
    night: Path, line: str, offered: set[str]
) -> None:
    assert set(completed(night, line)) == offered


@pytest.mark.parametrize("command", ["show", "retry", "open", "bundle", "logs"])
def test_a_shell_completes_the_names_of_runs(night: Path, command: str) -> None:
    runs = {run_of(night, name).name for name in ("castle", "lighthouse")}
    assert runs <= set(completed(night, f"sdwatch {command} 2026"))


def test_a_shell_completes_the_name_of_a_job_without_the_time_of_its_run(night: Path) -> None:
    (offered,) = completed(night, "sdwatch show lightho")
    assert run_of(night, "lighthouse").name.endswith(f"-{offered}")
    assert sdwatch(night, "show", offered).returncode == OK


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_each_shell_has_a_script(night: Path, shell: str) -> None:
    script = sdwatch(night, "completion", shell)
    assert script.returncode == OK
    assert "_ARGCOMPLETE" in script.stdout
    assert "sdwatch" in script.stdout


@pytest.mark.posix_only("bash")
def test_bash_completes_with_the_script(night: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "sdwatch"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sdwatch "$@"\n')
    command.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(sdwatch(night, "completion", "bash").stdout)
    line = "sdwatch show 2026"
    ask = (
        f'. "{script}"; COMP_LINE="{line}"; COMP_POINT={len(line)}; COMP_TYPE=9; '
        "COMP_WORDS=(sdwatch show 2026); COMP_CWORD=2; "
        '_python_argcomplete sdwatch 2026 show; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(root)}
    told = subprocess.run(
        ["bash", "-c", ask], cwd=night, env=env, capture_output=True, text=True, timeout=100
    )
    assert run_of(night, "castle").name in told.stdout, told.stderr


def test_a_job_with_points_is_shown_by_its_points(tmp_path: Path) -> None:
    make_spool(tmp_path)
    run = tmp_path / "failed" / "20260921-020000.000-grid-ab12"
    run.mkdir(parents=True)
    records: list[dict[str, object]] = [{"event": "claimed", "source": "grid.yaml"}]
    for number in range(1, 61):
        call = {"call": f"p{number}.1.1"}
        records += [
            {"event": "call_started", "attempt": 1, "incarnation": 1, **call},
            {"event": "call_finished", "images": [], **call}
            if number != 7
            else {"event": "call_failed", "seconds": 2, "diagnosis": "crash", **call},
        ]
    records.append({"event": "ended", "outcome": "failed"})
    (run / "journal.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    point = {"number": 7, "values": 'animal = "owl"', "diagnosis": "crash"}
    (run / "error.json").write_text(json.dumps({"diagnosis": "crash", "failed_points": [point]}))
    (run / "run.json").write_text(json.dumps({"job": {"points": 60}}))
    shown = sdwatch(tmp_path, "show", "grid").stdout
    assert "points      60 of 60 started, 1 failed" in shown
    assert '    point 7 (animal = "owl"): crash' in shown
    assert "59 finished at the first attempt, and are not listed" in shown
    assert "p7.1.1  failed, 1 attempt" in shown
    assert "p8.1.1" not in shown
    (listed,) = json.loads(sdwatch(tmp_path, "list", "--json").stdout)
    assert (listed["points"], listed["points_failed"]) == (59, 1)
