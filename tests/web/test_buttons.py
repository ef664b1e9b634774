"""Each button and form does what its command does, over a real server and a real spool."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdwatch.policy.queue.control import CANCEL, CANCEL_EXTENSION
from sdwatch.spool.webui_names import NAMES, WebUINames, names_file_of, read_names
from tests.spool.spools import picture
from tests.web.served import DONE, FAILED, WORKER, WORKING, Served, add_runs, served


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as it:
        add_runs(it.spool)
        yield it


def waiting(page: Served) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in page.inbox.iterdir() if path.is_file()}


def test_hold_and_resume(page: Served) -> None:
    reply = page.post("/hold", {})
    assert (reply.status_code, reply.headers["Location"]) == (303, "/")
    assert (page.spool.root / "hold").exists()
    (page.spool.root / "HOLD-sim.txt").write_text("x")
    assert page.post("/resume", {}).status_code == 303
    assert not (page.spool.root / "hold").exists()
    assert not (page.spool.root / "HOLD-sim.txt").exists()


def test_the_page_says_once_what_a_form_has_done(page: Served) -> None:
    sent = page.post("/drop", {"prompt": "x", "name": "<b>night"})
    name, _, value = sent.headers["Set-Cookie"].partition(";")[0].partition("=")
    with_it = page.get("/", Cookie=f"{page.cookie}; {name}={value}")
    assert 'id="said"' in with_it.text
    assert "in the inbox: " in with_it.text
    foreign = page.get("/", Cookie=f"{name}=%3Cimg%20src=x%3E")
    assert "&lt;img src=x&gt;" in foreign.text
    assert f'{name}=""; expires=' in with_it.headers["Set-Cookie"]
    assert 'id="said"' not in page.get("/", Cookie=page.cookie).text


def test_a_script_gets_an_answer_in_place_of_the_page(page: Served) -> None:
    reply = page.post("/hold", {}, Accept="application/json")
    assert reply.json() == {"done": "on hold: no call and no WebUI is started"}
    reply = page.post("/runs/nothing/retry", {}, Accept="application/json")
    assert reply.status_code == 404
    assert "nothing" in reply.json()["problem"]


def test_cancel_a_run_and_a_job_that_waits(page: Served) -> None:
    page.post(f"/runs/{WORKING}/cancel", {})
    assert (page.spool.root / "working" / WORKER / WORKING / CANCEL).exists()
    (page.inbox / "mine").mkdir()
    (page.inbox / "mine" / "a&b c.yaml").write_text("prompt: x\n")
    assert page.post("/inbox/cancel", {"source": "mine/a&b c.yaml"}).status_code == 303
    assert (page.inbox / "mine" / f"a&b c.yaml{CANCEL_EXTENSION}").exists()


@pytest.mark.parametrize(
    "source",
    ["", ".", "..", "../done", "/etc/passwd", "a/../../x", "a\\b", "C:x", "a\0b", "gone.yaml"],
)
def test_what_does_not_wait_is_not_cancelled(page: Served, source: str) -> None:
    assert page.post("/inbox/cancel", {"source": source}).status_code == 404
    assert not list(page.spool.root.rglob(f"*{CANCEL_EXTENSION}"))


def test_retry_puts_the_job_back(page: Served) -> None:
    assert page.post(f"/runs/{FAILED}/retry", {}).status_code == 303
    assert page.post(f"/runs/{DONE}/retry", {}).status_code == 303
    assert waiting(page) == dict.fromkeys(
        ("cave.yaml", "castle.yaml"), "prompt: a castle\nsteps: 2\n"
    )
    assert (page.spool.failed / FAILED).is_dir()
    assert page.post(f"/runs/{WORKING}/retry", {}).status_code == 404


def test_only_the_points_that_failed_are_queued_again(page: Served) -> None:
    run = page.spool.failed / FAILED
    (run / "job.yaml").write_text("prompt: ${p}\nmatrix: {p: [a, b, c]}\n")
    with open(run / "journal.jsonl", "a", encoding="utf-8") as journal:
        journal.write('{"event": "planned", "job_id": "x", "seeds": [], "random_seed": 7}\n')
        journal.write('{"event": "call_started", "call": "p1.1.1"}\n')
        journal.write('{"event": "call_finished", "call": "p1.1.1", "images": []}\n')
    listed = [{"number": 2}, {"number": 3}, {"number": True}, {"number": -1}, 5]
    (run / "error.json").write_text(json.dumps({"failed_points": listed}))
    shown = page.get(f"/failed/{FAILED}/", Cookie=page.cookie).text
    assert f'action="/runs/{FAILED}/retry-points"' in shown
    assert page.post(f"/runs/{FAILED}/retry-points", {}).status_code == 303
    job = yaml.safe_load(waiting(page)["cave.yaml"])
    assert (job["points"], job["random_seed"]) == ([2, 3], 7)
    reply = page.post(f"/runs/{DONE}/retry-points", {})
    assert reply.status_code == 409
    assert "no point of this run failed" in reply.text


def test_retry_with_an_edit(page: Served) -> None:
    shown = page.get(f"/runs/{FAILED}/edit", Cookie=page.cookie).text
    assert "prompt: a castle\nsteps: 2\n</textarea>" in shown.replace("\r\n", "\n")
    reply = page.post(f"/runs/{FAILED}/edit", {"job": "prompt: a tower\r\nsteps: 3\r\n"})
    assert reply.status_code == 303
    assert waiting(page) == {"cave.yaml": "prompt: a tower\nsteps: 3\n"}


def test_the_editor_shows_a_job_as_it_was_written(page: Served) -> None:
    prompt = "\u0646\u06cc\u0645\u200c\u0641\u0627\u0635\u0644\u0647 \u200f\U0001f9d9\u200d\u2642"
    job = f"prompt: {prompt}\r\nsteps: 2\r\n"  # as Notepad writes lines
    (page.spool.failed / FAILED / "job.yaml").write_bytes(job.encode())
    shown = page.get(f"/runs/{FAILED}/edit", Cookie=page.cookie).text
    area = html.unescape(shown.partition("<textarea")[2].partition(">\n")[2])
    assert area.partition("</textarea>")[0] == job


def test_an_edit_with_mistakes_is_shown_again_with_all_of_them(page: Served) -> None:
    reply = page.post(f"/runs/{FAILED}/edit", {"job": "promt: <b>a tower\nsteps: many\n"})
    assert reply.status_code == 422
    assert "line 1, column 1" in reply.text
    assert "line 2" in reply.text
    assert "promt: &lt;b&gt;a tower\nsteps: many" in reply.text
    assert waiting(page) == {}


def test_the_job_of_a_folder_keeps_its_images_when_it_is_edited(page: Served) -> None:
    run = page.spool.failed / "20261128-040000.000-sketch-ff06"
    (run / "job").mkdir(parents=True)
    (run / "journal.jsonl").write_text('{"event": "claimed", "source": "sketch"}\n')
    (run / "job" / "pose.png").write_bytes(picture())
    (run / "job" / "job.yaml").write_text("stages:\n- img2img:\n    init_images: [pose.png]\n")
    text = "stages:\n- img2img:\n    init_images: [pose.png]\n    steps: 3\n"
    assert page.post(f"/runs/{run.name}/edit", {"job": text}).status_code == 303
    assert (page.inbox / "sketch" / "job.yaml").read_text() == text
    assert (page.inbox / "sketch" / "pose.png").read_bytes() == picture()
    other = text.replace("pose.png", "../../x.png")
    assert page.post(f"/runs/{run.name}/edit", {"job": other}).status_code == 422


def test_the_form_for_files_without_a_file_says_so(page: Served) -> None:
    headers = {"Origin": page.origin, "Cookie": page.cookie}
    fields = {"token": page.access.form_token}
    sent: tuple[Any, ...] = (None, [("files", ("", b"", "application/octet-stream"))])
    for files in sent:  # as a script sends it, and as a browser does
        reply = page._send("POST", "/drop/files", headers, data=fields, files=files)
        assert reply.status_code == 422
        assert "no file was chosen" in reply.text
    assert waiting(page) == {}


def test_the_form_drops_a_job(page: Served) -> None:
    given = {
        "prompt": 'a castle # on: a "cliff"\r\nno', "negative_prompt": "fog", "width": "64",
        "height": "72", "steps": "9", "n_iter": "3", "checkpoint": "sd15 [abc]",
        "sampler_name": "Euler a", "name": "night",
    }  # fmt: skip
    assert page.post("/drop", given).status_code == 303
    assert yaml.safe_load(waiting(page)["night.yaml"]) == {
        "prompt": 'a castle # on: a "cliff"\nno', "negative_prompt": "fog", "width": 64,
        "height": 72, "steps": 9, "n_iter": 3, "sampler_name": "Euler a",
        "override_settings": {"sd_model_checkpoint": "sd15 [abc]"},
    }  # fmt: skip
    page.post("/drop", {"prompt": "no"})
    page.post("/drop", {"prompt": "3:2"})
    assert yaml.safe_load(waiting(page)["job.yaml"]) == {"prompt": "no"}
    assert yaml.safe_load(waiting(page)["job-2.yaml"]) == {"prompt": "3:2"}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x", "steps": "-4"}, "steps"),
        ({"prompt": "x", "width": "a lot"}, "width"),
        ({"prompt": "x", "width": "9" * 30}, "width"),
        ({"prompt": "x", "n_iter": "100000"}, "n_iter"),
        ({"prompt": "x", "width": "\u0663"}, "width"),
    ],
)
def test_mistakes_in_the_form_are_shown_beside_what_was_typed(
    page: Served, given: dict[str, str], problem: str
) -> None:
    reply = page.post("/drop", {"negative_prompt": "<keep me>", **given})
    assert reply.status_code == 422
    assert problem in reply.text
    assert "&lt;keep me&gt;" in reply.text
    assert waiting(page) == {}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("../../x", "x.yaml"), ("..\\x", "x.yaml"), ("C:\\Users\\x.yaml", "x.yaml"),
        ("..", "job.yaml"), ("~x", "x.yaml"), (".x", "x.yaml"),
        ("a" * 400, "a" * 100 + ".yaml"), ("x\0y", "x-y.yaml"),
        ("con", "job-con.yaml"), ("a:b", "a-b.yaml"), ("x.yaml.tmp", "x.yaml.tmp.yaml"),
    ],
)  # fmt: skip
def test_a_name_from_the_form_is_a_name_in_the_inbox(page: Served, name: str, path: str) -> None:
    assert page.post("/drop", {"prompt": "x", "name": name}).status_code == 303
    assert [each.name for each in page.inbox.iterdir()] == [path]


def drop_files(page: Served, *files: tuple[str, bytes]) -> tuple[int, str]:
    sent = [("files", file) for file in files]
    headers = {"Cookie": page.cookie, "Origin": page.origin}
    reply = page._send(
        "POST", "/drop/files", headers, data={"token": page.access.form_token}, files=sent
    )
    return reply.status_code, reply.text


def with_settings() -> bytes:
    info, data = PngInfo(), io.BytesIO()
    info.add_text("parameters", "a castle\nSteps: 4, Sampler: Euler, Seed: 1, Size: 8x16")
    Image.new("RGB", (8, 16)).save(data, "PNG", pnginfo=info)
    return data.getvalue()


def test_files_are_dropped_all_or_none(page: Served) -> None:
    good = ("a.yaml", b"prompt: a\n")
    status, text = drop_files(page, good, ("b.yaml", b"promt: b\n"))
    assert status == 422
    assert "b.yaml: " in text
    assert waiting(page) == {}
    assert drop_files(page, good, good, ("../c.json", b'{"prompt": "c"}'))[0] == 303
    assert waiting(page) == {
        "a.yaml": "prompt: a\n",
        "a-2.yaml": "prompt: a\n",
        "c.json": '{"prompt": "c"}',
    }


def test_a_picture_with_its_settings_is_a_job(page: Served) -> None:
    assert drop_files(page, ("castle.png", with_settings()))[0] == 303
    assert waiting(page)["castle.yaml"].startswith("a castle\n")
    assert drop_files(page, ("plain.png", picture()))[0] == 422
    assert drop_files(page, ("x.exe", b"MZ"))[0] == 422


def test_the_form_suggests_the_names_that_the_monitor_wrote_down(page: Served) -> None:
    names = WebUINames(("<sd15>", "flux"), ("Euler a",))
    (page.spool.root / "working" / WORKER / NAMES).write_bytes(names_file_of(names))
    shown = page.get("/drop", Cookie=page.cookie).text
    assert '<option value="&lt;sd15&gt;">' in shown
    assert '<option value="Euler a">' in shown


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"checkpoints": 7, "samplers": [1, null]}', b"[" * 100_000]
)
def test_lists_that_cannot_be_read_suggest_nothing(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "working" / "box").mkdir(parents=True)
    (tmp_path / "working" / "box" / NAMES).write_bytes(data)
    assert read_names(tmp_path) == WebUINames()


def test_the_lists_are_bounded(tmp_path: Path) -> None:
    names = WebUINames(tuple(f"{n:0200}" for n in range(9000)), ("x" * 5000, "Euler"))
    data = names_file_of(names)
    assert len(data) < 200_000
    (tmp_path / "working" / "box").mkdir(parents=True)
    (tmp_path / "working" / "box" / NAMES).write_bytes(data)
    found = read_names(tmp_path)
    assert len(found.checkpoints) == 500
    assert found.samplers == ("Euler",)


def test_a_run_is_one_click_away_with_why_run_json_and_pictures(page: Served) -> None:
    shown = page.get(f"/failed/{FAILED}/", Cookie=page.cookie).text
    assert "Out of memory: &lt;b&gt;the cave&lt;/b&gt; is too large" in shown
    for name in ("WHY.txt", "run.json", "images/castle.png", "job.yaml"):
        assert f'href="/failed/{FAILED}/{name}"' in shown
        assert page.get(f"/failed/{FAILED}/{name}").status_code == 200
    overview = page.get("/", Cookie=page.cookie).text
    assert FAILED in overview
    assert f"/runs/{FAILED}/retry" in overview


def test_without_a_spool_the_page_says_so_and_a_job_makes_it(tmp_path: Path) -> None:
    with served(tmp_path) as it:
        for folder in ("inbox", "working", "done", "failed"):
            (it.spool.root / folder).rmdir()
        assert it.get("/").status_code == 200
        assert it.post("/hold", {}).status_code == 409
        assert it.post("/drop", {"prompt": "x"}).status_code == 303
        assert (it.inbox / "job.yaml").exists()
