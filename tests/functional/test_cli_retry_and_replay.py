"""retry, with many runs and with an editor; replay; bundle: what WHY.txt says to type."""

from __future__ import annotations

import base64
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from sdwatch.cli import main
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.spool.bundle import name_for_others
from sdwatch.stages.run_end import RunEnd
from sdwatch.webui.http.client import Reply
from tests.api.scripted_server import images, serving, status
from tests.support.fakes import PlainClient, Workplace, picture, reply, server_error
from tests.support.helpers import wait_until
from tests.support.monitored import job as small_job
from tests.support.monitored import journal, monitored

TWO = """\
stages:
  - txt2img: {prompt: a castle, width: 64, height: 64, n_iter: 2}
  - img2img: {prompt: at night, denoising_strength: 0.5}
"""
PNG = picture(7)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A spool in the current folder, whose config is found there."""
    webui = {"url": "http://127.0.0.1:9", "username": "anna", "password": "s3cret"}
    config = {"spool": "spool", "state": "state", "webuis": {"forge": webui}}
    path = tmp_path / "sdwatch.yaml"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    return Workplace(tmp_path)


def failed(place: Workplace, job: str = TWO, *answers: object) -> Path:
    """A run that failed in its last stage."""
    known = {path.name for path in place.spool.failed.iterdir()}
    given = answers or (reply(picture(1)), reply(picture(2)), server_error())
    run = place.claimed(job)
    runner = place.runner(run, PlainClient(*given))  # type: ignore[arg-type]
    assert runner.run_to_end(place.spool) is RunEnd.FAILED
    (new,) = (path for path in place.spool.failed.iterdir() if path.name not in known)
    return new


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    script = tmp_path / "an editor.py"
    script.write_text(f"import sys, pathlib\npath = pathlib.Path(sys.argv[1])\n{body}\n")
    words = [sys.executable, str(script)]
    join = subprocess.list2cmdline if sys.platform == "win32" else shlex.join
    monkeypatch.setenv("VISUAL", join(words))


# -- retry


def test_several_runs_are_retried_at_once_or_none(place: Workplace) -> None:
    one, two = failed(place), failed(place, "promt: a\n")
    assert main(["retry", one.name, "no-such-run"]) == ExitCode.NOT_FOUND
    assert list(place.spool.inbox.iterdir()) == []
    assert main(["retry", one.name, two.name, one.name]) == ExitCode.OK
    assert sorted(p.name for p in place.spool.inbox.iterdir()) == ["job-2.yaml", "job.yaml"]


def test_an_edited_job_goes_where_it_came_from_and_the_run_stays_as_it_was(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = failed(place, "promt: a castle\n")
    before = everything(run)
    editor(tmp_path, monkeypatch, "path.write_text('prompt: a castle\\n')")
    assert main(["retry", run.name, "--edit"]) == ExitCode.OK
    assert (place.spool.inbox / "job.yaml").read_text() == "prompt: a castle\n"
    assert everything(run) == before


def test_an_edit_with_mistakes_is_not_submitted_and_not_lost(
    place: Workplace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = failed(place, "promt: a castle\n")
    editor(tmp_path, monkeypatch, "path.write_text('prompt: a\\nstepz: 3\\n')")
    assert main(["retry", run.name, "--edit"]) == ExitCode.BAD_JOB
    told = capsys.readouterr().out
    assert 'unknown field "stepz"' in told
    _, _, kept = told.partition("sdwatch submit ")
    assert Path(kept.strip()).read_text() == "prompt: a\nstepz: 3\n"
    assert list(place.spool.inbox.iterdir()) == []


def test_an_editor_that_fails_submits_nothing(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = failed(place)
    editor(tmp_path, monkeypatch, "sys.exit(3)")
    assert main(["retry", run.name, "--edit"]) == ExitCode.ERROR
    monkeypatch.setenv("VISUAL", str(tmp_path / "no-such-editor"))
    assert main(["retry", run.name, "--edit"]) == ExitCode.ERROR
    assert list(place.spool.inbox.iterdir()) == []


# -- from where the commands are typed


def commands_in(run: Path) -> list[list[str]]:
    """What its WHY.txt says to type, as a shell would read it."""
    lines = (run / "WHY.txt").read_text(encoding="utf-8").splitlines()
    typed = [line.strip() for line in lines if line.startswith("    sdwatch ")]
    # Of the examples on Windows none has a blank in it.
    return [shlex.split(line, posix=os.name != "nt")[1:] for line in typed]


def test_what_why_txt_prints_works_from_any_folder(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.spool = replace(place.spool, config=tmp_path / "sdwatch.yaml")
    run = failed(place)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    edit, again, replay, bundle = commands_in(run)
    assert "--edit" in edit
    assert main(again) == ExitCode.OK
    assert [path.name for path in place.spool.inbox.iterdir()] == ["job.yaml"]
    assert main(bundle) == ExitCode.OK
    assert main([*edit[:-3], *edit[-2:]]) == ExitCode.OK, "without the editor"
    assert main(replay) == ExitCode.ERROR, "nobody listens there"


@pytest.mark.parametrize("name", ["RUN", "."])
@pytest.mark.parametrize("config", ["sdwatch.yaml", "config/sdwatch.yaml"])
def test_the_spool_is_found_from_a_runs_own_folder(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, config: str, name: str
) -> None:
    run = failed(place)
    file = place.spool.root / config
    file.parent.mkdir(exist_ok=True)
    spool, state = str(place.spool.root), str(place.root / "state")
    webuis = {"forge": {"url": "http://127.0.0.1:9"}}
    file.write_text(json.dumps({"spool": spool, "state": state, "webuis": webuis}))
    file.chmod(0o600)
    monkeypatch.chdir(run)
    assert main(["retry", run.name if name == "RUN" else name]) == ExitCode.OK
    assert [path.name for path in place.spool.inbox.iterdir()] == ["job.yaml"]


def test_with_the_built_in_config_they_work_in_the_runs_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Workplace(tmp_path)
    place.spool = replace(place.spool, root=tmp_path / "sdwatch-spool")
    place.spool.prepare()
    run = failed(place)
    assert "Type these commands in this folder" in (run / "WHY.txt").read_text(encoding="utf-8")
    monkeypatch.chdir(run)
    for command in commands_in(run)[1:2]:
        assert main(command) == ExitCode.OK
    assert [path.name for path in place.spool.inbox.iterdir()] == ["job.yaml"]
    assert str(place.spool.root) in capsys.readouterr().err


WRONG_EDITORS = [(" ", "$EDITOR is empty"), ("no-such-editor", "cannot be started"),
                 ('""', "cannot be started"), ('vi "x', "$EDITOR is not a command")]  # fmt: skip
if os.name == "posix":  # on Windows ' is no quote, and \ leads into a folder
    WRONG_EDITORS += [("vi 'x", "$EDITOR is not a command"), ("a\\", "is not a command")]


@pytest.mark.parametrize(("command", "told"), WRONG_EDITORS)
def test_a_wrong_editor_is_reported_and_leaves_nothing_behind(
    place: Workplace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    told: str,
) -> None:
    run = failed(place)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", command)
    edits = scratch(tmp_path, monkeypatch)
    assert main(["retry", run.name, "--edit"]) == ExitCode.ERROR
    said = capsys.readouterr().err
    assert told in said
    assert "broke" not in said
    assert list(edits.iterdir()) == []


def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where edits lie."""
    folder = tmp_path / "edits"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize(
    ("body", "stays"),
    [
        ("path.write_text(path.read_text()); sys.exit(3)", 0),
        ("path.write_text(path.read_text())", 0),  # as wrong as it was
        ("path.write_text('prompt: right')", 0),  # and submitted
        ("path.write_text('stepz: 3')", 1),
        ("path.write_text('prompt: right'); sys.exit(3)", 1),
        ("(path.parent / 'note').write_text('x'); sys.exit(3)", 1),
    ],
)
def test_only_what_somebody_wrote_stays_of_an_edit(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, stays: int
) -> None:
    run = failed(place, "promt: a castle\n")
    edits = scratch(tmp_path, monkeypatch)
    editor(tmp_path, monkeypatch, body)
    main(["retry", run.name, "--edit"])
    assert len(list(edits.iterdir())) == stays


# -- replay


def test_a_replay_that_kills_the_webui_costs_no_other_run_an_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The monitor is on hold meanwhile, and resumes by itself."""
    faults = "- {fault: segv, when: {prompt: cursed}, times: always}\n"
    slow = ["--step-time", "0.05"]
    monkeypatch.chdir(tmp_path)
    with monitored(tmp_path, faults=faults, flags=slow) as spool:
        spool.drop("bad.yaml", small_job("a cursed castle"))
        spool.start()
        spool.wait_for(failed=1)
        spool.drop("good.yaml", small_job(steps=60))
        (bad,) = spool.failed()
        spool.wait_posts(3)
        assert main(["replay", bad.name]) == ExitCode.ERROR
        told = capsys.readouterr().out
        assert "it is on hold until this command ends" in told
        assert "the WebUI is still busy" in told
        assert not (spool.spool / "hold").exists()
        spool.wait_for(done=1, failed=1)
        (good,) = spool.done()
        assert not journal(good, "call_failed")


def test_the_failing_call_is_sent_as_it_was_and_the_run_is_only_read(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = failed(place)
    before = everything(run)
    with serving(images(PNG)) as server:
        assert main(["replay", run.name, "--url", server.url]) == ExitCode.OK
        ((path, payload),) = server.posts
    assert everything(run) == before
    assert path == "/sdapi/v1/img2img"
    assert base64.b64decode(payload["init_images"][0]) == picture(1)
    sent = json.loads((run / "run.json").read_text())["job"]["stages"][1]["img2img"]
    assert payload["seed"] == sent["seed"]
    (saved,) = tmp_path.glob("replay-*.png")
    assert saved.read_bytes() == PNG
    assert str(saved) in capsys.readouterr().out


def test_another_call_can_be_named(place: Workplace) -> None:
    run = failed(place)
    with serving(images(PNG)) as server:
        assert main(["replay", run.name, "--call", "1.2", "--url", server.url]) == ExitCode.OK
        assert main(["replay", run.name, "--call", "7.1", "--url", server.url]) == ExitCode.ERROR
        ((path, payload),) = server.posts
    assert path == "/sdapi/v1/txt2img"
    stages = json.loads((run / "run.json").read_text())["job"]["stages"]
    assert payload["seed"] == stages[0]["txt2img"]["seed"] + 1


def test_what_the_webui_says_is_shown(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    run = failed(place)
    body = json.dumps({"error": "OutOfMemoryError", "message": "no room"}).encode()
    with serving(status(500, body)) as server:
        assert main(["replay", run.name, "--url", server.url]) == ExitCode.ERROR
        assert len(server.posts) == 1
    told = capsys.readouterr().out
    assert "500 after" in told
    assert "OutOfMemoryError: no room" in told
    assert main(["replay", run.name]) == ExitCode.ERROR
    told = capsys.readouterr().out
    assert "no answer (WebUINotSentError)" in told
    assert "refused" in told
    assert "start it by hand, then replay again" in told


def test_what_the_webui_prints_after_its_reply_is_shown(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = failed(place)
    log_file = tmp_path / "webui.log"
    log_file.touch()
    printed = 'Traceback (most recent call last):\n  File "x.py", line 3, in f\n    g()\n'
    body = json.dumps({"error": "RuntimeError", "message": "it broke"}).encode()
    with serving(status(500, body)) as server:
        config = json.loads((tmp_path / "sdwatch.yaml").read_text())
        config["webuis"]["forge"] |= {"url": server.url, "log_file": str(log_file)}
        (tmp_path / "sdwatch.yaml").write_text(json.dumps(config))

        def print_late() -> None:
            wait_until(lambda: server.posts)
            with open(log_file, "a", encoding="utf-8") as file:
                file.write(f"{printed}RuntimeError: it broke\n")

        webui = threading.Thread(target=print_late)
        webui.start()
        assert main(["replay", run.name]) == ExitCode.ERROR
        webui.join()
    told = capsys.readouterr().out
    assert '  |   File "x.py", line 3, in f\n' in told
    assert "  | RuntimeError: it broke\n" in told


def test_with_a_webui_of_our_own_it_says_that_run_starts_it(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = failed(place)
    config = json.loads((tmp_path / "sdwatch.yaml").read_text())
    config["webuis"]["forge"]["command"] = ["webui"]
    (tmp_path / "sdwatch.yaml").write_text(json.dumps(config))
    assert main(["replay", run.name]) == ExitCode.ERROR
    assert "start it with `sdwatch run`" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["ftp://x", "http://u:p@host:1", "http://host:1/path", "x"])
def test_a_wrong_url_is_refused(place: Workplace, url: str) -> None:
    assert main(["replay", failed(place).name, "--url", url]) == ExitCode.ERROR


def test_a_run_that_made_no_call_has_none_to_replay(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    run = failed(place, "promt: a\n")
    assert main(["replay", run.name]) == ExitCode.BAD_JOB
    assert 'unknown field "promt"' in capsys.readouterr().err


# -- bundle


def test_a_bundle_is_one_zip_that_overwrites_none(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = failed(place)
    before = everything(run)
    assert main(["bundle", run.name]) == ExitCode.OK
    assert main(["bundle", run.name]) == ExitCode.OK
    assert main(["bundle", run.name, "-o", "mine.zip"]) == ExitCode.OK
    made = [f"{name_for_others(run.name)}{n}.zip" for n in ("", "-2")] + ["mine.zip"]
    for name in made:
        with zipfile.ZipFile(tmp_path / name) as archive:
            assert {"journal.jsonl", "error.json"} <= set(archive.namelist())
    assert f"{made[0]}: " in capsys.readouterr().out
    assert everything(run) == before
    assert main(["bundle", "no-such-run"]) == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    ("answer", "adds_it"),
    [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("", False), (None, False)],
)
def test_the_log_is_added_to_a_bundle_only_after_it_was_shown_and_somebody_agreed(
    place: Workplace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: str | None,
    adds_it: bool,
) -> None:
    run = failed(place)
    # Its ends of lines as an editor on Windows leaves them.
    (run / "webui_tail.log").write_bytes(
        b"Token merging: \x1b[2J\r\nprompt: a castle\r\n/home/bob/x.py\r\n"
    )
    monkeypatch.setattr("sys.stdin", None if answer is None else io.StringIO(answer))
    assert main(["bundle", run.name, "--with-log", "-o", "mine.zip"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "Token merging: \\x1b[2J\nprompt: <hidden>" in shown
    assert "\n~/x.py" in shown
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        assert ("webui_tail.log" in archive.namelist()) == adds_it
        assert "journal.jsonl" in archive.namelist()
        if adds_it:
            assert b"prompt: <hidden>\n~/x.py" in archive.read("webui_tail.log")


def test_a_bundle_of_a_run_without_a_log_asks_nothing(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    run = failed(place)
    for path in run.glob("webui_tail*"):
        path.unlink()
    assert main(["bundle", run.name, "--with-log", "-o", "mine.zip"]) == ExitCode.OK
    assert "no log of the WebUI" in capsys.readouterr().out


@pytest.mark.parametrize(
    "manifest",
    [
        '{"calls": 5}', '{"webui": "x"}', '{"webui": [1]}', "[]", "{", '"x"', "null",
        '{"webui": {"name": NaN}, "calls": [NaN, {"attempts": [1e999, "model", {"model": NaN}]}]}',
        '{"job": {"stages": 5, "name": [], "priority": NaN}, "source": {}}', '{"job": 5}',
        '{"job": {"stages": [5, {"txt2img": [NaN, Infinity]}]}}', '{"calls": {"a": 1}}',
        '{"a": ' + "[" * 500 + "]" * 500 + "}", '{"a": ' + "[" * 50_000,
    ],
)  # fmt: skip
def test_a_damaged_manifest_costs_a_bundle_and_a_replay_only_what_was_in_it(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str], manifest: str
) -> None:
    run = failed(place)
    (run / "run.json").write_text(manifest)
    assert main(["bundle", run.name, "-o", "mine.zip"]) == ExitCode.OK
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                json.loads(archive.read(name), parse_constant=pytest.fail)
    main(["replay", run.name])  # there is nobody at its url
    said = capsys.readouterr().err
    assert "broke" not in said


@pytest.mark.parametrize(("point", "says"), [("3", "there is no point 3"), ("0", "at least 1")])
def test_a_point_that_a_job_does_not_have_is_not_queued(
    place: Workplace, capsys: pytest.CaptureFixture[str], point: str, says: str
) -> None:
    job = "prompt: a ${x}\nwidth: 64\nheight: 64\nmatrix: {x: [1, 2]}\n"
    run = failed(place, job, reply(picture(1)), server_error())
    assert main(["retry", run.name, "--point", point]) != ExitCode.OK
    error = capsys.readouterr().err
    assert says in error
    assert f"{run.name}:" in error or f"{run.name}/" in error
    assert "sdwatch-retry-" not in error  # its temporary folder
    assert not list(place.spool.inbox.iterdir())


def test_a_retry_of_points_is_not_edited_silently_unedited(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["retry", "x", "--edit", "--failed"])
    assert "not allowed with" in capsys.readouterr().err


FOUR = "prompt: a ${x}\nwidth: 64\nheight: 64\nmatrix: {x: [1, 2, 3, 4]}\n"


def test_after_a_stop_at_a_failure_the_points_that_were_not_reached_are_retried_too(
    place: Workplace,
) -> None:
    job = f"{FOUR}on_failure: stop\n"
    run = failed(place, job, reply(picture(1)), server_error())
    assert main(["retry", run.name, "--failed"]) == ExitCode.OK
    assert "points: [2, 3, 4]" in queued_text(place)


def test_a_run_that_is_cut_short_lists_what_failed_and_all_that_is_missing_is_retried(
    place: Workplace,
) -> None:
    def cancelling(stage: str, payload: Mapping[str, object]) -> Reply:
        del stage, payload
        place.control.cancel()
        return reply(picture(3))

    run = place.claimed(FOUR)
    webui = PlainClient(reply(picture(1)), server_error(), cancelling)
    assert place.runner(run, webui).run_to_end(place.spool) is RunEnd.CANCELLED
    (folder,) = place.spool.failed.iterdir()
    why = (folder / "WHY.txt").read_text()
    assert "point 2 (x = " in why
    assert "about the first of them" not in why
    assert f"retry {folder.name} --failed" in why
    assert main(["retry", folder.name, "--failed"]) == ExitCode.OK
    assert "points: [2, 3, 4]" in queued_text(place)


def queued_text(place: Workplace) -> str:
    (job,) = place.spool.inbox.iterdir()
    return job.read_text()
