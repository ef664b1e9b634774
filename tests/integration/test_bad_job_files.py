"""Job files that are none: each ends in failed/ with words that a person understands, at once,
and the monitor is none the worse for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.fakes import picture
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, monitored

MEGABYTES = 1 << 20


def _alias_bomb() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for name, before in zip("bcdefghi", "abcdefgh", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join([*lines, "prompt: *i", ""])


@dataclass(frozen=True)
class Bad:
    content: str | bytes
    words: tuple[str, ...]


BAD = {
    "tab": Bad("prompt: a castle\n\tsteps: 2\n", (":2:1:", "starts with a tab", "spaces")),
    "no-mapping": Bad("- prompt\n- a castle\n", ("a job is a mapping", "not a list")),
    "unknown-stage": Bad("stages:\n  - txt3img: {prompt: a}\n", ('did you mean "txt2img"?',)),
    "unknown-field": Bad("prompt: a\nstep: 3\n", (":2:1:", 'did you mean "steps"?')),
    "duplicate-key": Bad("prompt: a\nprompt: b\n", (":2:1:", '"prompt" is there twice', "line 1")),
    "brackets": Bad("[" * 100_000, ("nested deeper than",)),
    "alias-bomb": Bad(_alias_bomb(), ("alias", "put the text in quotes")),
    "binary": Bad(bytes(range(256)) * 40, ("not a text file",)),
    "picture": Bad(b"\x89PNG\r\n\x1a\n" + bytes(100), ("not a text file", "PNG picture")),
    "empty": Bad("", ("the file is empty",)),
    "latin-1": Bad(
        "prompt: ein Märchenschloß\n".encode("latin-1"), ("save the file as UTF-8", "ä")
    ),
    "two-mistakes": Bad("prompt: a\nstep: 3\nwidth: big\n", ("1 more", ":2:1:", ":3:8:")),
}
FINE = {
    "bom": b"\xef\xbb\xbf" + job().encode(),
    "crlf": job().replace("\n", "\r\n").encode(),
}
HUGE = "huge"


@dataclass(frozen=True)
class Night:
    """What a monitor made of all of them, and its memory before and after."""

    spool: Monitored
    before: int
    after: int

    def run_of(self, name: str) -> Path:
        """The run of the file with this name, wherever it ended."""
        runs = [*self.spool.failed(), *self.spool.done()]
        return next(run for run in runs if _source(run) == f"{name}.yaml")


def _source(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["source"])


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    with monitored(tmp_path_factory.mktemp("night")) as spool:
        process = spool.start_process()
        spool.drop("good.yaml", job())
        spool.wait_for(done=1)
        before = process.memory_info().rss
        huge = spool.root / "huge"
        with open(huge, "wb") as file:
            file.truncate(200 * 10**6)
        huge.rename(spool.inbox / f"{HUGE}.yaml")
        for name, bad in BAD.items():
            spool.drop(f"{name}.yaml", bad.content)
        for name, fine in FINE.items():
            spool.drop(f"{name}.yaml", fine)
        spool.wait_for(done=1 + len(FINE), failed=1 + len(BAD))
        yield Night(spool, before, process.memory_info().rss)


@pytest.mark.parametrize("name", BAD)
def test_it_fails_with_words_that_a_person_understands(night: Night, name: str) -> None:
    run = night.run_of(name)
    assert run.parent.name == "failed"
    why = (run / "WHY.txt").read_text(encoding="utf-8")
    for words in (*BAD[name].words, f"{name}.yaml:", "Fault:     the job", "sdwatch check"):
        assert words in why, why
    assert "Traceback" not in why
    content = BAD[name].content
    dropped = content.encode() if isinstance(content, str) else content
    assert (run / "job.yaml").read_bytes() == dropped


def test_200_mb_fail_unread(night: Night) -> None:
    run = night.run_of(HUGE)
    assert run.parent.name == "failed"
    why = (run / "WHY.txt").read_text(encoding="utf-8")
    assert "200,000,000 bytes" in why
    assert "Is this a YAML file?" in why


@pytest.mark.parametrize("name", FINE)
def test_a_bom_and_windows_line_ends_are_fine(night: Night, name: str) -> None:
    run = night.run_of(name)
    assert run.parent.name == "done"
    assert (run / "job.yaml").read_bytes() == FINE[name]


def test_the_monitors_memory_stays_flat(night: Night) -> None:
    assert night.after - night.before < 30 * MEGABYTES


def test_nothing_was_sent_for_them(night: Night) -> None:
    assert night.spool.stats()["posts"] == 1 + len(FINE)
    assert night.spool.stats()["starts"] == 1
    assert psutil.pid_exists(night.spool.webui_pid())


def test_even_on_hold_it_fails_at_once(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        (spool.spool / "hold").touch()
        spool.drop("good.yaml", job())
        spool.drop("bad.yaml", BAD["tab"].content)
        spool.start()
        spool.wait_for(failed=1)
        wait_until(lambda: spool.status().get("next") == ["good.yaml"], 20, "the good one waits")
        assert spool.waiting() == ["good.yaml"]


def test_a_job_folder_with_a_mistake_fails_whole(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        folder = spool.root / "sketch"
        folder.mkdir()
        (folder / "job.yaml").write_text("stages:\n  - img2img:\n      init_image: a.png\n")
        (folder / "a.png").write_bytes(b"never looked at")
        folder.rename(spool.inbox / "sketch")
        spool.start()
        spool.wait_for(failed=1)
        run = spool.failed()[0]
        assert 'did you mean "init_images"?' in (run / "WHY.txt").read_text(encoding="utf-8")
        assert (run / "job" / "a.png").read_bytes() == b"never looked at"
        assert spool.waiting() == []


def test_the_config_says_what_jobs_may_do(tmp_path: Path) -> None:
    settings = {"allow": ["samples_save"], "max_image": 64 * 64 - 1}
    with monitored(tmp_path, settings=settings) as spool:
        spool.drop("allowed.yaml", job(override_settings={"samples_save": False}))
        spool.drop("refused.yaml", job(override_settings={"outdir_samples": "/tmp"}))
        folder = spool.root / "large"
        folder.mkdir()
        (folder / "job.yaml").write_text("stages:\n  - upscale: {image: a.png}\n")
        (folder / "a.png").write_bytes(picture())
        folder.rename(spool.inbox / "large")
        spool.start()
        spool.wait_for(done=1, failed=2)
        told = " ".join((run / "WHY.txt").read_text(encoding="utf-8") for run in spool.failed())
        assert 'refused.yaml:5:21: "outdir_samples" is refused' in told
        assert 'large:2:22: "a.png" has 64 x 64 pixels' in told
        assert spool.stats()["posts"] == 1
