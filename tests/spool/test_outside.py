"""What a job gets from outside of its own file: what is read, what is not, and what a run keeps."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sdwatch.errors import JobError
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.spool import inbox as inbox_module
from sdwatch.spool.archive import claim
from sdwatch.spool.folders import Spool
from sdwatch.spool.inbox import Inbox
from sdwatch.spool.new_jobs import read_job_at
from sdwatch.spool.overview_reader import InboxListing
from sdwatch.spool.run import Run
from tests.spool.spools import (
    ARRIVAL_TIMEOUT,
    SETTLE,
    UNFINISHED_TIMEOUT,
    folder_job,
    settled,
)
from tests.support.helpers import FakeClock


@pytest.fixture
def rules(spool: Spool, tmp_path: Path) -> JobRules:
    (tmp_path / "lists").mkdir()
    return JobRules(inbox=spool.inbox, wildcards=tmp_path / "lists")


@pytest.fixture
def inbox(spool: Spool, clock: FakeClock, rules: JobRules) -> Inbox:
    return Inbox(spool.inbox, SETTLE, ARRIVAL_TIMEOUT, clock, UNFINISHED_TIMEOUT, rules)


def steps_of(job: object) -> object:
    assert isinstance(job, Job)
    return job.stages[0].fields.get("steps")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_each_job_gets_the_defaults_of_the_folders_above_it(
    spool: Spool, clock: FakeClock, inbox: Inbox
) -> None:
    write(spool.inbox / "_defaults.yaml", "steps: 1\n")
    write(spool.inbox / "a/_defaults.yaml", "steps: 2\n")
    for name in ("x.yaml", "a/x.yaml", "a/b/x.yaml", "b/x.yaml"):
        write(spool.inbox / name, "prompt: x\n")
    folder_job(spool, "a/folder", "prompt: x\n")
    folder_job(spool, "b/folder", "prompt: x\n")
    write(spool.inbox / "b/folder/_defaults.yaml", "steps: 3\n")
    found = {arrival.source: steps_of(arrival.job) for arrival in settled(inbox, clock)}
    assert found == {
        "x.yaml": 1, "a/x.yaml": 2, "a/b/x.yaml": 2, "b/x.yaml": 1, "a/folder": 2, "b/folder": 3
    }  # fmt: skip


def test_it_is_never_a_job_and_a_name_that_is_nearly_right_is_named(
    spool: Spool, clock: FakeClock, inbox: Inbox
) -> None:
    write(spool.inbox / "_defaults.yaml", "prompt: x\n")
    write(spool.inbox / "a/_defaults.yml", "prompt: x\n")
    assert settled(inbox, clock) == []
    (why,) = inbox.ignored.values()
    assert "only a file called _defaults.yaml is read" in why
    assert InboxListing(spool, clock).listed().queue == ()
    with pytest.raises(JobError, match="this is not a job"):
        read_job_at(spool.inbox / "_defaults.yaml", JobRules())


def test_jobs_wait_while_their_defaults_have_a_mistake_and_then_they_run(
    spool: Spool, clock: FakeClock, inbox: Inbox
) -> None:
    write(spool.inbox / "a/_defaults.yaml", "steps: many\n")
    write(spool.inbox / "a/x.yaml", "prompt: x\n")
    write(spool.inbox / "y.yaml", "prompt: x\n")
    assert [arrival.source for arrival in settled(inbox, clock)] == ["y.yaml"]
    assert dict(inbox.reasons())["a/x.yaml"].startswith(
        "waits until this is corrected: a/_defaults.yaml:1:8: steps must be a whole number"
    )
    assert inbox.for_a_person == {"a/x.yaml"}, "which lets `run --once` end"
    write(spool.inbox / "a/_defaults.yaml", "steps: 7\n")
    ready = {arrival.source: arrival for arrival in settled(inbox, clock)}
    assert steps_of(ready["a/x.yaml"].job) == 7


def test_what_was_read_is_read_again_when_the_defaults_change(
    spool: Spool, clock: FakeClock, inbox: Inbox
) -> None:
    write(spool.inbox / "x.yaml", "prompt: x\n")
    (before,) = settled(inbox, clock)
    assert steps_of(before.job) is None
    write(spool.inbox / "_defaults.yaml", "steps: 7\n")
    assert inbox.scan() == []  # it settles first: an editor may still write
    clock.advance(SETTLE)
    (after,) = inbox.scan()
    assert steps_of(after.job) == 7
    (spool.inbox / "_defaults.yaml").unlink()
    (again,) = settled(inbox, clock)
    assert steps_of(again.job) is None


@pytest.mark.posix_only("links need no permission there")
def test_a_link_is_not_followed_and_a_pipe_is_not_read(
    spool: Spool, clock: FakeClock, inbox: Inbox, rules: JobRules, tmp_path: Path
) -> None:
    write(tmp_path / "secret.yaml", "negative_prompt: secret\n")
    assert rules.wildcards is not None
    write(tmp_path / "secret.txt", "secret\n")
    (spool.inbox / "a").mkdir()
    (spool.inbox / "a/_defaults.yaml").symlink_to(tmp_path / "secret.yaml")
    os.mkfifo(rules.wildcards / "pipe.txt")
    (rules.wildcards / "link.txt").symlink_to(tmp_path / "secret.txt")
    (rules.wildcards / "folder").symlink_to(tmp_path)
    write(spool.inbox / "a/x.yaml", "prompt: x\n")
    for name in ("pipe", "link", "folder/secret"):
        write(spool.inbox / f"{name.replace('/', '-')}.yaml", f"prompt: __{name}__\n")
    assert settled(inbox, clock) == []
    waiting = dict(inbox.reasons())
    assert not any("secret" in why.rpartition(": ")[2] for why in waiting.values())
    assert len(waiting) == 4
    assert all("leads outside" in why or "plain file" in why for why in waiting.values())


def test_files_that_are_too_large_are_refused(
    spool: Spool, clock: FakeClock, inbox: Inbox, rules: JobRules
) -> None:
    assert rules.wildcards is not None
    for path in (rules.wildcards / "huge.txt", spool.inbox / "a/_defaults.yaml"):
        path.parent.mkdir(exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(3 << 30)
    write(spool.inbox / "x.yaml", "prompt: __huge__\n")
    write(spool.inbox / "a/x.yaml", "prompt: x\n")
    folder_job(spool, "list", "prompts_from: huge.txt\n")
    with open(spool.inbox / "list/huge.txt", "wb") as file:
        file.truncate(3 << 30)
    (failed,) = settled(inbox, clock)
    assert str(failed.error) == 'list:1:15: "huge.txt" has more than 8 MB'
    assert "huge.txt: has more than 8 MB" in dict(inbox.reasons())["x.yaml"]
    assert "a/_defaults.yaml: has more than 1 MB" in dict(inbox.reasons())["a/x.yaml"]


def test_check_reads_what_the_job_would_get_in_the_inbox(
    spool: Spool, rules: JobRules, tmp_path: Path
) -> None:
    write(spool.inbox / "_defaults.yaml", "steps: 1\n")
    write(spool.inbox / "a/_defaults.yaml", "steps: many\n")
    write(tmp_path / "x.yaml", "prompt: x\n")
    write(spool.inbox / "a/x.yaml", "prompt: x\n")
    assert steps_of(read_job_at(tmp_path / "x.yaml", rules)) == 1
    with pytest.raises(JobError) as caught:
        read_job_at(spool.inbox / "a/x.yaml", rules)
    assert str(caught.value).startswith(f"{spool.inbox / 'a/_defaults.yaml'}:1:8: ")


def claimed(spool: Spool, clock: FakeClock, inbox: Inbox) -> Run:
    (arrival,) = settled(inbox, clock)
    run = claim(arrival, spool, clock)
    assert run is not None
    return run


def prompts_of(run: Run) -> list[object]:
    assert run.job is not None
    points = run.job.points
    return [run.job.stages_of(p, run.random_seed)[0].fields["prompt"] for p in points]


def test_a_planned_run_reads_what_it_used_whatever_changes_outside(
    spool: Spool, clock: FakeClock, inbox: Inbox, rules: JobRules
) -> None:
    assert rules.wildcards is not None
    write(spool.inbox / "a/_defaults.yaml", "steps: 2\n")
    write(spool.inbox / "_defaults.yaml", "steps: 1\nwidth: 64\n")
    write(rules.wildcards / "n.txt", "\n".join(map(str, range(100))))
    write(spool.inbox / "a/x.yaml", "prompt: __n__ __m__\nrepeat: 20\n")
    run = claimed(spool, clock, inbox)
    run.read_job(rules)
    run.plan()
    before = prompts_of(run)
    run.close()
    assert sorted(run.ledger.used) == [
        "inbox/_defaults.yaml", "inbox/a/_defaults.yaml", "wildcards/n.txt"
    ]  # fmt: skip
    write(rules.wildcards / "n.txt", "other\n")
    write(rules.wildcards / "m.txt", "other\n")
    write(spool.inbox / "a/_defaults.yaml", "steps: wrong\n")
    again = Run(run.folder, clock)
    job = again.read_job(rules)
    again.plan()
    assert prompts_of(again) == before
    assert (job.stages[0].fields["steps"], job.stages[0].fields["width"]) == (2, 64)
    again.write_manifest("done")
    manifest = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    assert manifest["job"]["used"] == run.ledger.used


def test_a_copy_that_somebody_changed_fails_the_run_and_is_named(
    spool: Spool, clock: FakeClock, inbox: Inbox, rules: JobRules
) -> None:
    write(spool.inbox / "_defaults.yaml", "steps: 2\n")
    write(spool.inbox / "x.yaml", "prompt: x\n")
    run = claimed(spool, clock, inbox)
    run.read_job(rules)
    run.plan()
    run.close()
    write(run.folder / "used/inbox/_defaults.yaml", "steps: 3\n")
    with pytest.raises(
        JobError, match=r"used/inbox/_defaults.yaml in the run's folder was changed"
    ):
        Run(run.folder, clock).read_job(rules)


def test_a_run_of_an_earlier_version_gets_nothing_from_outside(
    spool: Spool, clock: FakeClock, inbox: Inbox, rules: JobRules
) -> None:
    write(spool.inbox / "x.yaml", "prompt: x\n")
    run = claimed(spool, clock, inbox)
    run.record("planned", job_id="", seeds=[{"seed": 1, "subseed": 2, "drawn": True}])
    write(spool.inbox / "_defaults.yaml", "steps: 2\n")
    assert steps_of(run.read_job(rules)) is None
    run.close()


def test_of_jobs_with_long_lists_only_a_few_are_kept_in_memory(
    spool: Spool, clock: FakeClock, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "_TEXT_KEPT", 5_000)
    for number in range(6):
        folder_job(spool, f"job-{number}", "prompts_from: p.txt\n")
        write(spool.inbox / f"job-{number}/p.txt", "a castle\n" * 200)
    arrivals = settled(inbox, clock)
    assert [arrival.parsed is not None for arrival in arrivals] == [False] * 4 + [True] * 2
    assert isinstance(arrivals[0].job, Job)
