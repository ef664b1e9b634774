"""What each stage of a run gets, makes and hands on; with a plain client that has only
generate_images, so that nothing but the runner is at work."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from sdwatch import system
from sdwatch.errors import WebUIServerError, WebUIUnreachableError
from sdwatch.policy.failure.check_levels import LEVELS, Level
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.queue.run_names import image_prefix
from sdwatch.spool.run import Run
from sdwatch.stages.run_end import RunEnd
from sdwatch.webui.http.client import Reply
from tests.support.fakes import (
    PlainClient,
    Workplace,
    envelope,
    events,
    journal,
    picture,
    reply,
    server_error,
)
from tests.support.helpers import FakeClock

THREE = """\
stages:
  - txt2img: {prompt: a castle, width: 64, height: 64}
  - img2img: {prompt: at night, denoising_strength: 0.5}
  - upscale: {upscaling_resize: 1, upscaler_1: Lanczos}
"""
TWO = """\
stages:
  - txt2img: {prompt: a castle}
  - img2img: {prompt: at night}
"""


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def numbered(images: int = 1, grids: int = 0) -> Callable[[str, Mapping[str, Any]], Reply]:
    """Answers with so many new pictures each time; the first `grids` of them are grids."""
    made = iter(range(1, 1000))

    def answer(stage: str, payload: Mapping[str, Any]) -> Reply:
        del stage, payload
        return Reply(tuple(picture(next(made)) for _ in range(images)), grids)

    return answer


def sent(images: list[str]) -> list[bytes]:
    return [base64.b64decode(image) for image in images]


def saved(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "images").iterdir())}


def one_of(folder: Path, ending: str) -> bytes:
    (found,) = [data for name, data in saved(folder).items() if name.endswith(ending)]
    return found


# -- from stage to stage


def test_one_image_goes_through_three_stages(place: Workplace) -> None:
    client = PlainClient(numbered())
    run = place.claimed(THREE)
    assert place.runner(run, client).run_to_end(place.spool) is RunEnd.DONE
    (first, txt2img), (second, img2img), (third, upscale) = client.posts
    assert (first, second, third) == ("txt2img", "img2img", "extra-single-image")
    assert "init_images" not in txt2img
    assert sent(img2img["init_images"]) == [picture(1)]
    assert sent([upscale["image"]]) == [picture(2)]
    assert {k: v for k, v in upscale.items() if k != "image"} == {
        "upscaling_resize": 1, "upscaler_1": "Lanczos",
    }  # fmt: skip
    assert list(saved(place.done()).values()) == [picture(1), picture(2), picture(3)]


@pytest.mark.parametrize(
    ("fields", "replies_of"), [("batch_size: 3", 3), ("n_iter: 3", 1)], ids=["batch", "n_iter"]
)
def test_several_images_each_get_a_call_of_the_next_stage(
    place: Workplace, fields: str, replies_of: int
) -> None:
    first, rest = numbered(replies_of), numbered()
    client = PlainClient(
        lambda stage, payload: (first if stage == "txt2img" else rest)(stage, payload)
    )
    run = place.claimed(TWO.replace("a castle", f"a castle, {fields}"))
    assert place.runner(run, client).run_to_end(place.spool) is RunEnd.DONE
    stages = [stage for stage, _ in client.posts]
    assert stages == ["txt2img"] * (3 // replies_of) + ["img2img"] * 3
    handed_on = [sent(p["init_images"]) for stage, p in client.posts if stage == "img2img"]
    assert handed_on == [[picture(1)], [picture(2)], [picture(3)]]


def test_all_images_of_a_stage_are_there_before_the_next_stage_starts(place: Workplace) -> None:
    client = PlainClient(numbered(images=2))
    job = TWO.replace("a castle", "a castle, n_iter: 2")
    assert place.runner(place.claimed(job), client).run_to_end(place.spool) is RunEnd.DONE
    assert [stage for stage, _ in client.posts] == ["txt2img"] * 2 + ["img2img"] * 4


def test_a_stage_without_any_image_to_take_fails_and_says_which(place: Workplace) -> None:
    only_a_grid = Reply((picture(1),), first_image=1)
    client = PlainClient(only_a_grid)
    runner = place.runner(place.claimed(TWO), client, checks={**LEVELS, "count": "warn"})
    assert runner.run_to_end(place.spool) is RunEnd.FAILED
    assert len(client.posts) == 1
    told = envelope(place.failed())
    assert told["blame"] == "job"
    where = "job.yaml:3:5: stage 2 (img2img) has no image to work on: stage 1 made none"
    assert told["message"] == where


@pytest.mark.parametrize(("level", "ending"), [("fail", "failed"), ("warn", "done")])
def test_a_picture_of_another_size_is_noticed_without_recovery_too(
    place: Workplace, level: Level, ending: str
) -> None:
    client = PlainClient(reply(picture(size=(32, 64))))
    run = place.claimed("prompt: a castle\nwidth: 64\n")
    runner = place.runner(run, client, checks={**LEVELS, "size": level})
    assert runner.run_to_end(place.spool) == ending
    if level == "fail":
        assert "the picture is 32x64, not 64x?" in envelope(place.failed())["message"]
    else:
        (call,) = json.loads((place.done() / "run.json").read_text())["calls"]
        assert call["warnings"] == [{"kind": "size", "words": "the picture is 32x64, not 64x?"}]


def test_grids_are_saved_and_not_handed_on(place: Workplace) -> None:
    client = PlainClient(numbered(images=3, grids=1))
    run = place.claimed(TWO.replace("a castle", "a castle, batch_size: 2"))
    assert place.runner(run, client).run_to_end(place.spool) is RunEnd.DONE
    handed_on = [sent(p["init_images"]) for stage, p in client.posts if stage == "img2img"]
    assert handed_on == [[picture(2)], [picture(3)]]
    folder = place.done()
    assert one_of(folder, "_1-txt2img_001-grid.png") == picture(1)
    assert one_of(folder, "_1-txt2img_001-02.png") == picture(2)
    assert len(saved(folder)) == 9


def test_two_txt2img_stages_do_not_mix(place: Workplace) -> None:
    first = "stages:\n  - txt2img: {prompt: a}\n  - txt2img: {prompt: b}\n"
    job = first + "  - upscale: {upscaling_resize: 1}\n"
    client = PlainClient(numbered())
    assert place.runner(place.claimed(job), client).run_to_end(place.spool) is RunEnd.DONE
    assert sent([client.posts[2][1]["image"]]) == [picture(2)]


def test_an_image_sets_the_size_of_img2img_where_the_job_gives_none(place: Workplace) -> None:
    client = PlainClient(reply(picture(1, size=(203, 81))))
    place.runner(place.claimed(TWO), client).run_to_end(place.spool)
    payload = client.posts[1][1]
    assert (payload["width"], payload["height"]) == (200, 80)


def test_a_size_that_the_job_gives_is_left_alone(place: Workplace) -> None:
    client = PlainClient(numbered())
    job = TWO.replace("at night", "at night, width: 128")
    place.runner(place.claimed(job), client).run_to_end(place.spool)
    payload = client.posts[1][1]
    assert payload["width"] == 128
    assert "height" not in payload


# -- the job folder's own images


def test_the_job_folders_own_images_and_mask_are_sent_as_they_are(place: Workplace) -> None:
    job = """\
stages:
  - img2img: {prompt: a, init_images: [sketch.png, sub/other.jpg], mask: mask.png}
  - upscale: {image: sub/other.jpg, upscaling_resize: 1}
"""
    images = {
        "sketch.png": picture(11, size=(80, 64)),
        "sub/other.jpg": picture(12, "JPEG"),
        "mask.png": picture(13),
    }
    client = PlainClient(
        lambda _, asked: reply(
            *[picture(size=(asked.get("width", 64), asked.get("height", 64)))]
            * asked.get("batch_size", 1)
        )
    )
    run = place.claimed(job, images)
    assert place.runner(run, client).run_to_end(place.spool) is RunEnd.DONE
    (_, img2img), (_, upscale) = client.posts
    assert sent(img2img["init_images"]) == [images["sketch.png"], images["sub/other.jpg"]]
    assert img2img["batch_size"] == 2, "with a smaller one a WebUI answers 500"
    assert sent([img2img["mask"]]) == [images["mask.png"]]
    assert (img2img["width"], img2img["height"]) == (80, 64)
    assert sent([upscale["image"]]) == [images["sub/other.jpg"]]
    assert (place.done() / "job" / "sketch.png").read_bytes() == images["sketch.png"]


def test_a_mask_goes_with_each_image_of_the_stage_before(place: Workplace) -> None:
    job = """\
stages:
  - txt2img: {prompt: a, batch_size: 2}
  - img2img: {prompt: b, mask: mask.png}
"""
    client = PlainClient(numbered(images=2))
    place.runner(place.claimed(job, {"mask.png": picture(13)}), client).run_to_end(place.spool)
    masks = [sent([payload["mask"]]) for stage, payload in client.posts if stage == "img2img"]
    assert masks == [[picture(13)]] * 2


def test_an_own_image_that_is_no_picture_fails_the_job_and_names_it(place: Workplace) -> None:
    job = "stages:\n  - img2img: {prompt: a, init_images: sketch.png}\n"
    client = PlainClient(numbered())
    run = place.claimed(job, {"sketch.png": b"this is a text"})
    assert place.runner(run, client).run_to_end(place.spool) is RunEnd.FAILED
    assert client.posts == []
    told = envelope(place.failed())
    assert told["blame"] == "job"
    assert "sketch.png" in told["message"]


def test_an_own_image_that_is_too_large_fails_the_job_before_anything_is_sent(
    place: Workplace,
) -> None:
    job = "stages:\n  - txt2img: {prompt: a}\n  - upscale: {image: big.png}\n"
    client = PlainClient(numbered())
    run = place.claimed(job, {"big.png": picture(size=(100, 50))})
    runner = place.runner(run, client, rules=JobRules(max_image=4999))
    assert runner.run_to_end(place.spool) is RunEnd.FAILED
    assert client.posts == []
    assert '3:22: "big.png" has 100 x 50 pixels' in envelope(place.failed())["message"]


def test_an_own_image_that_is_cut_off_fails_the_job_before_it_is_sent(place: Workplace) -> None:
    job = "stages:\n  - img2img: {prompt: a, init_images: sketch.png}\n"
    client = PlainClient(numbered())
    run = place.claimed(job, {"sketch.png": picture()[:-30]})
    assert place.runner(run, client).run_to_end(place.spool) is RunEnd.FAILED
    assert client.posts == []
    told = envelope(place.failed())
    assert (told["blame"], told["message"]) == ("job", "sketch.png is cut off or damaged")


@pytest.mark.posix_only("symbolic links, which need a privilege on Windows")
def test_an_own_image_that_becomes_a_link_after_the_job_was_read_is_not_sent(
    place: Workplace, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(picture(7))
    job = "stages:\n  - txt2img: {prompt: a}\n  - upscale: {image: sketch.png}\n"
    run = place.claimed(job, {"sketch.png": picture(1)})

    def swap(stage: str, payload: Mapping[str, Any]) -> Reply:
        del stage, payload
        (run.folder / "job" / "sketch.png").unlink()
        (run.folder / "job" / "sketch.png").symlink_to(tmp_path / "secret.png")
        return reply()

    client = PlainClient(swap, numbered())
    assert place.runner(run, client).run_to_end(place.spool) is RunEnd.FAILED
    assert [stage for stage, _ in client.posts] == ["txt2img"]
    told = envelope(place.failed())
    assert told["blame"] == "job"
    assert '"sketch.png" is a link, which is never followed' in told["message"]


def test_all_images_of_a_call_are_bounded_together(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdwatch.stages.payloads.MAX_PICTURE_BYTES", 3 * len(picture()) - 1)
    job = "stages:\n  - img2img: {prompt: a, init_images: [a.png, a.png, a.png]}\n"
    client = PlainClient(numbered())
    run = place.claimed(job, {"a.png": picture()})
    assert place.runner(run, client).run_to_end(place.spool) is RunEnd.FAILED
    assert client.posts == []
    assert "and the images before it have more than" in envelope(place.failed())["message"]


# -- files


@pytest.mark.parametrize(("kind", "ending"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_an_images_name_follows_its_content(place: Workplace, kind: str, ending: str) -> None:
    data = picture(1, kind)
    run = place.claimed("prompt: a castle")
    place.runner(run, PlainClient(reply(data))).run_to_end(place.spool)
    assert saved(place.done()) == {f"{image_prefix(run.run_id)}_1-txt2img_001-01.{ending}": data}


def test_the_bytes_with_their_infotext_are_kept_as_they_came(place: Workplace) -> None:
    infotext = "a castle\nNegative prompt: blurry\nSteps: 20, Seed: 5, Model: dréam"
    data = picture(1, infotext=infotext)
    run = place.claimed("prompt: a castle")
    place.runner(run, PlainClient(reply(data))).run_to_end(place.spool)
    (kept,) = saved(place.done()).values()
    assert kept == data
    with Image.open(io.BytesIO(kept)) as image:
        assert image.info["parameters"] == infotext


def test_each_image_is_recorded_with_its_size_and_digest(place: Workplace) -> None:
    data = picture(1, size=(96, 64))
    place.runner(place.claimed("prompt: a"), PlainClient(reply(data))).run_to_end(place.spool)
    folder = place.done()
    (name,) = saved(folder)
    expected = {
        "name": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "width": 96,
        "height": 64,
        "grid": False,
    }
    (finished,) = [r for r in journal(folder) if r["event"] == "call_finished"]
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert finished["images"] == manifest["calls"][0]["images"] == [expected]


def test_no_two_calls_share_a_name(place: Workplace) -> None:
    client = PlainClient(numbered(images=2))
    job = TWO.replace("a castle", "a castle, n_iter: 2")
    place.runner(place.claimed(job), client).run_to_end(place.spool)
    assert len(saved(place.done())) == len(set(saved(place.done()).values())) == 12


# -- seeds, and going on


def seeds_sent(client: PlainClient) -> list[tuple[int, int]]:
    return [(payload["seed"], payload["subseed"]) for _, payload in client.posts]


class Stopping(PlainClient):
    """The monitor is stopped when the n-th call has been answered."""

    def __init__(self, place: Workplace, after: int, *answers: Any) -> None:
        super().__init__(*answers)
        self._place, self._after = place, after

    def generate_images(self, stage: str, payload: Mapping[str, Any]) -> Reply:
        made = super().generate_images(stage, payload)
        if len(self.posts) == self._after:
            self._place.control.stop()
        return made


def stopped_after(place: Workplace, calls: int, job: str) -> Stopping:
    """Run a job until so many calls are finished; the monitor dies, and starts again."""

    client = Stopping(place, calls, numbered())
    runner = place.runner(place.claimed(job), client)
    assert runner.run_to_end(place.spool) is RunEnd.STOPPED
    place.control = type(place.control)()
    return client


def test_seeds_are_chosen_once_and_recorded(place: Workplace) -> None:
    client = PlainClient(numbered())
    job = "prompt: a\nn_iter: 3\nseed: -1"
    place.runner(place.claimed(job), client).run_to_end(place.spool)
    folder = place.done()
    (planned,) = [r for r in journal(folder) if r["event"] == "planned"]
    (drawn,) = planned["seeds"]
    assert drawn["drawn"] is True
    assert seeds_sent(client) == [(drawn["seed"] + i, drawn["subseed"]) for i in range(3)]
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert manifest["job"]["stages"][0]["txt2img"]["seed"] == drawn["seed"]


def test_a_resumed_run_has_the_same_seeds_and_repeats_no_finished_call(place: Workplace) -> None:
    before = stopped_after(place, 2, "prompt: a\nn_iter: 4")
    kept = saved(place.resumed().folder)
    assert len(kept) == 2
    after = PlainClient(numbered())
    assert place.runner(place.resumed(), after).run_to_end(place.spool) is RunEnd.DONE
    assert [len(before.posts), len(after.posts)] == [2, 2]
    (first, subseed), *_ = seeds_sent(before)
    assert seeds_sent(before) + seeds_sent(after) == [(first + i, subseed) for i in range(4)]
    now = saved(place.done())
    assert len(now) == 4
    assert {name: now[name] for name in kept} == kept
    assert events(place.done()).count("planned") == 1


def test_a_resumed_run_hands_on_the_images_that_were_recorded(place: Workplace) -> None:
    stopped_after(place, 2, TWO.replace("a castle", "a castle, n_iter: 2"))
    after = PlainClient(numbered())
    assert place.runner(place.resumed(), after).run_to_end(place.spool) is RunEnd.DONE
    assert [stage for stage, _ in after.posts] == ["img2img", "img2img"]
    assert [sent(p["init_images"]) for _, p in after.posts] == [[picture(1)], [picture(2)]]


def test_a_call_that_was_cut_off_is_made_again_with_the_same_payload(place: Workplace) -> None:
    run = place.claimed("prompt: a")

    class MonitorDiesError(BaseException):
        pass

    def dies(stage: str, payload: Mapping[str, Any]) -> Reply:
        del stage, payload
        raise MonitorDiesError

    before = PlainClient(dies)
    with pytest.raises(MonitorDiesError):
        place.runner(run, before).run_to_end(place.spool)
    run.close()
    after = PlainClient(numbered())
    assert place.runner(place.resumed(), after).run_to_end(place.spool) is RunEnd.DONE
    assert before.posts == after.posts


def test_a_finished_run_sends_nothing_when_it_is_run_once_more(place: Workplace) -> None:
    run, client = place.claimed(THREE), PlainClient(numbered())
    images = place.runner(run, client).run_stages()
    assert place.runner(run, client).run_stages() == images
    assert len(client.posts) == 3


# -- a plain client's failures


@pytest.mark.parametrize(
    ("error", "diagnosis"),
    [
        (server_error("RuntimeError"), "server error"),
        (WebUIUnreachableError("connection refused", stage="txt2img"), "crash"),
    ],
)
def test_a_plain_client_that_fails_is_asked_once_and_the_run_fails(
    place: Workplace, error: WebUIServerError, diagnosis: str
) -> None:
    client = PlainClient(error)
    ending = place.runner(place.claimed("prompt: a castle"), client).run_to_end(place.spool)
    assert ending is RunEnd.FAILED
    assert len(client.posts) == 1
    folder = place.failed()
    told = envelope(folder)
    assert (told["error"], told["diagnosis"]) == (type(error).__name__, diagnosis)
    assert (told["call"], told["stage"]) == ("1.1", "txt2img")
    assert len(told["attempts"]) == 1
    assert (folder / "WHY.txt").is_file()
    assert events(folder)[-2:] == ["call_failed", "ended"]


def test_a_failure_in_a_later_stage_keeps_the_images_before_it(place: Workplace) -> None:
    client = PlainClient(reply(picture(1)), server_error())
    assert place.runner(place.claimed(THREE), client).run_to_end(place.spool) is RunEnd.FAILED
    folder = place.failed()
    assert list(saved(folder).values()) == [picture(1)]
    assert envelope(folder)["call"] == "2.1"
    why = (folder / "WHY.txt").read_text(encoding="utf-8")
    assert "stage 2 (img2img), call 1" in why
    assert "1 finished before the failure" in why


def test_a_prompt_that_a_plain_clients_error_echoes_is_not_in_the_explanation(
    place: Workplace,
) -> None:
    client = PlainClient(server_error("cannot draw a purple hippopotamus"))
    place.runner(place.claimed("prompt: a purple hippopotamus"), client).run_to_end(place.spool)
    folder = place.failed()
    for name in ("WHY.txt", "error.json"):
        assert "hippopotamus" not in (folder / name).read_text(encoding="utf-8")


# -- files that are closed to us

SKETCH = "stages:\n  - img2img: {prompt: a castle, init_images: sketch.png}\n"


@dataclass
class Closed:
    """Opens no `sketch.png` from the `after`-th time on, for `error`; `times` times."""

    error: int
    after: int = 0
    times: int = 10**6

    def __post_init__(self) -> None:
        self.opened = 0
        self.real = system.open_inside

    def __call__(self, folder: Path, name: str) -> int:
        if name.endswith("sketch.png"):
            self.opened += 1
            if self.after < self.opened <= self.after + self.times:
                raise OSError(self.error, os.strerror(self.error), "sketch.png")
        return self.real(folder, name)


@pytest.fixture
def sketched(tmp_path: Path) -> tuple[Workplace, Run]:
    """A claimed job with an image, on a clock that does not wait."""
    place = Workplace(tmp_path, FakeClock())
    return place, place.claimed(SKETCH, {"sketch.png": picture()})


@pytest.mark.parametrize("after", [0, 1], ids=["at the reading of the job", "before its call"])
def test_an_image_that_stays_closed_fails_the_run_with_its_name_once_patience_ends(
    sketched: tuple[Workplace, Run],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    after: int,
) -> None:
    place, run = sketched
    monkeypatch.setattr(system, "open_inside", Closed(errno.EACCES, after))
    runner = place.runner(run, PlainClient(), patience=60.0)
    told: set[str] = set()
    wait = place.clock.wait

    def waiting(event: threading.Event, timeout: float) -> bool:
        told.add(runner.doing)
        return wait(event, timeout)

    monkeypatch.setattr(place.clock, "wait", waiting)
    assert runner.run_to_end(place.spool) is RunEnd.FAILED
    assert told == {"job/sketch.png cannot be read yet: Permission denied"}
    assert caplog.text.count("job/sketch.png cannot be read: Permission denied") == 1
    found = envelope(place.failed())
    assert found["message"] == "job/sketch.png cannot be read: Permission denied"
    assert found["blame"] == "machine"
    assert 60 <= cast(FakeClock, place.clock).now - 1000 < 65


def test_an_image_that_is_opened_again_in_time_costs_nothing(
    sketched: tuple[Workplace, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, run = sketched
    monkeypatch.setattr(system, "open_inside", Closed(errno.EACCES, after=1, times=5))
    runner = place.runner(run, PlainClient(), patience=60.0)
    assert runner.run_to_end(place.spool) is RunEnd.DONE
    assert runner.unreadable == ""


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE])
def test_a_share_that_is_gone_leaves_the_run_where_it_is(
    sketched: tuple[Workplace, Run], monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    place, run = sketched
    monkeypatch.setattr(system, "open_inside", Closed(error))
    with pytest.raises(OSError, match=r"sketch\.png"):
        place.runner(run, PlainClient(), patience=60.0).run_to_end(place.spool)
    assert place.spool.run_folders() == [run.folder]


def test_who_waits_for_a_file_can_be_cancelled(
    sketched: tuple[Workplace, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, run = sketched
    monkeypatch.setattr(system, "open_inside", Closed(errno.EACCES))
    place.control.cancel()
    runner = place.runner(run, PlainClient(), patience=60.0)
    assert runner.run_to_end(place.spool) is RunEnd.CANCELLED


CONTROLNET = """\
prompt: a dancer
alwayson_scripts:
  controlnet:
    args:
      - {enabled: true, module: openpose, image: poses/pose.png}
      - {image: {image: poses/pose.png, mask: mask.png}, model: none}
"""


def test_images_in_the_arguments_of_scripts_are_sent_as_base64(place: Workplace) -> None:
    pose, mask = picture(7), picture(8)
    client = PlainClient(numbered())
    run = place.claimed(CONTROLNET, {"poses/pose.png": pose, "mask.png": mask})
    assert place.runner(run, client).run_to_end(place.spool) is RunEnd.DONE
    ((_, payload),) = client.posts
    first, second = payload["alwayson_scripts"]["controlnet"]["args"]
    assert sent([first["image"]]) == [pose]
    assert sent([second["image"]["image"], second["image"]["mask"]]) == [pose, mask]
    assert (first["module"], second["model"]) == ("openpose", "none")
    assert "poses/pose.png" in (place.done() / "run.json").read_text()
