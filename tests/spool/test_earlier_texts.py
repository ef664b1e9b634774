"""The texts of the newest runs are learned, the newest last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdwatch.policy.job.job import parse_job
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.spool.earlier_texts import RunTexts, earlier_texts
from sdwatch.spool.folders import Spool
from sdwatch.spool.manifest import write_manifest


def ended(parent: Path, number: int, manifest: object) -> None:
    folder = parent / f"20261125-0000{number:02}.000-castle-abcd"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(manifest))


def test_the_newest_are_learned_last_and_the_oldest_of_very_many_not_at_all(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "me")
    for number in range(60):
        where = spool.done if number % 2 else spool.failed
        ended(where, number, {"job": {"stages": [{"txt2img": {"prompt": f"castle {number}"}}]}})
    learned: list[Any] = []
    learned += earlier_texts(spool, ())
    assert [stage["txt2img"]["prompt"] for stage in learned] == [
        f"castle {number}" for number in range(10, 60)
    ]


def test_the_values_of_the_last_points_are_learned_too(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "me")
    ended(spool.done, 1, {"job": {"stages": [{"txt2img": {"prompt": "a cat"}}]}})
    (run,) = spool.done.iterdir()
    records = [
        {"event": "call_finished", "call": f"p{n}.1.1", "values": {"animal": f"a purple owl {n}"}}
        for n in range(3_000)
    ]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (run / "journal.jsonl").write_text(f"{text}[torn", encoding="utf-8")
    redactor = Redactor()
    for texts in earlier_texts(spool, ()):
        redactor.learn(texts)
    assert "owl" not in redactor.redact("it said: a purple owl 2999")


def test_the_values_of_the_last_points_are_learned_from_the_manifest(tmp_path: Path) -> None:
    """Those that are part of a prompt are not in the journal."""
    spool = Spool(tmp_path, "me")
    calls = [{"call": f"p{n}.1.1", "values": {"animal": f"a purple owl {n}"}} for n in range(3_000)]
    (spool.done / "20261125-000001.000-x-abcd").mkdir(parents=True)
    write_manifest(spool.done / "20261125-000001.000-x-abcd", {"job": {"stages": []}}, calls)
    redactor = Redactor()
    for texts in earlier_texts(spool, ()):
        redactor.learn(texts)
    assert "owl" not in redactor.redact("it said: a purple owl 2999")


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "me")
    for number, manifest in enumerate(
        (5, {"job": 5}, {"job": {"stages": 5}}, {"job": {"stages": [5]}})
    ):
        ended(spool.done, number, manifest)
    (spool.done / "20261125-000099.000-x-abcd").mkdir()
    learned: list[Any] = []
    learned += earlier_texts(spool, ())
    assert learned == []


def test_a_suspended_job_is_learned_and_one_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    job = parse_job(b"prompt: a purple castle\n", "castle.yaml", {}, "castle")
    learned: list[Any] = []
    learned += earlier_texts(Spool(tmp_path, "me"), (None, job))
    assert [fields["prompt"] for fields in learned] == ["a purple castle"]


def test_the_text_of_a_job_that_is_not_there_yet_is_learned_once_it_is(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "me")
    run = spool.working / "20261125-000001.000-castle-abcd"
    run.mkdir(parents=True)
    redactor = Redactor()
    texts = RunTexts(spool, JobRules(), redactor)
    texts.refresh()
    (run / "job.yaml").write_text("prompt: a purple castle by the sea\n")
    texts.refresh()
    assert "purple" not in redactor.redact("Prompt: a purple castle by the sea")
