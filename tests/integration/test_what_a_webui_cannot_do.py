"""Jobs that a WebUI cannot do fail before anything is sent to it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from sdwatch.monitor.once import MonitorEnd
from sdwatch.spool.run import Run
from tests.support.fakes import envelope, picture
from tests.support.helpers import free_port, wait_until
from tests.support.monitored import EXTERNAL, journal, monitored
from tests.support.monitored import job as small_job
from tests.webui.recorded_webui import Answer, hangs, recorded


def with_checkpoint(name: str) -> str:
    return small_job(override_settings={"sd_model_checkpoint": name})


def test_a_wrong_name_fails_without_a_call_and_the_rest_continues(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        spool.drop("sampler.yaml", small_job(sampler_name="Eulr"))
        spool.drop("checkpoint.yaml", with_checkpoint("simulated-z"))
        spool.drop("good.yaml", small_job(sampler_name="DPM++ 2M Karras"))
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY, spool.told
        assert [len(spool.done()), len(spool.failed())] == [1, 2]
        assert spool.stats()["posts"] == 1
        assert not spool.events("crash")
        told = {envelope(run)["message"].split(": ")[1]: envelope(run) for run in spool.failed()}
        sampler = told["sampler.yaml:5:15"]
        assert sampler["message"] == (
            "no WebUI here can do this job as it is: sampler.yaml:5:15: "
            'this WebUI (Forge) has no sampler "Eulr"; did you mean "Euler"?'
        )
        assert (sampler["diagnosis"], sampler["blame"]) == ("bad request", "job")
        assert (sampler["error"], sampler["attempts"]) == ("JobUnfitError", [])
        assert f"`sdwatch check --against http://127.0.0.1:{spool.port} FILE`" in sampler["advice"]
        for run in spool.failed():
            why = (run / "WHY.txt").read_text(encoding="utf-8")
            assert "Nothing was sent to a WebUI." in why
        assert "simulated-" in told["checkpoint.yaml:5:44"]["message"]
        (done,) = spool.done()
        generation_info = json.loads((done / "run.json").read_text(encoding="utf-8"))["webui"]
        assert (generation_info["kind"], generation_info["managed"]) == ("forge", True)
        assert generation_info["version"].startswith("f2.0.1v1.10.1")


def test_a_job_that_is_too_large_fails_by_the_bound_of_the_config(tmp_path: Path) -> None:
    with monitored(tmp_path, settings={"max_generation": "0.1 MP"}) as spool:
        spool.drop("large.yaml", small_job(width=512, height=512))
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        (run,) = spool.failed()
        assert "0.2621 megapixels; max_generation" in envelope(run)["message"]
        assert spool.stats()["posts"] == 0
        assert journal(run)[0]["event"] == "claimed"


def test_the_images_that_lie_beside_a_job_are_known_by_their_sizes(tmp_path: Path) -> None:
    upscale = "stages:\n  - upscale: {{image: a.png, upscaler_1: Lanczos, upscaling_resize: {}}}\n"
    with monitored(tmp_path) as spool:
        for name, times in (("good", 2), ("large", 400)):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "a.png").write_bytes(picture())
            (folder / "job.yaml").write_text(upscale.format(times))
            folder.rename(spool.inbox / name)
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY, spool.told
        assert [len(spool.done()), len(spool.failed())] == [1, 1]
        assert "25600x25600 has 655.4 megapixels" in envelope(spool.failed()[0])["message"]
        assert spool.stats()["posts"] == 1


def models(*names: str) -> dict[str, Answer]:
    """For a second WebUI, which has these checkpoints."""
    body = json.dumps([{"title": name, "model_name": name} for name in names])
    return {"sd-models": (200, body.encode())}


def test_a_job_goes_to_the_lane_that_has_its_checkpoint(tmp_path: Path) -> None:
    with recorded("a1111", models("other")) as other:
        with monitored(tmp_path, others={"other": {"url": other.url}}) as spool:
            for number in range(3):
                spool.drop(f"other-{number}.yaml", with_checkpoint("other"))
            spool.drop("none.yaml", with_checkpoint("nobody's"))
            spool.start(once=True)
            assert spool.ended() is MonitorEnd.EMPTY, spool.told
            assert [len(spool.done()), len(spool.failed())] == [3, 1]
            assert spool.stats()["posts"] == 0
            message = envelope(spool.failed()[0])["message"]
    assert len(other.posts) == 3
    assert 'sim: this WebUI (Forge) has no checkpoint "nobody\'s"' in message
    assert 'other: this WebUI (AUTOMATIC1111) has no checkpoint "nobody\'s"' in message


def test_a_resumed_run_waits_for_the_lane_that_can_do_it(tmp_path: Path) -> None:
    """The other lane is ready, and would have its WebUI draw something else."""
    with ExitStack() as life:
        other = life.enter_context(recorded("a1111", {**models("other"), "txt2img": hangs}))
        others = {"other": {"url": other.url}}
        with monitored(tmp_path, others=others, settings={"stop_grace": 0.1}) as spool:
            spool.drop("other.yaml", with_checkpoint("other"))
            spool.start()
            wait_until(lambda: bool(other.posts), 60, "its call is under way")
            spool.stop()
            (run,) = spool.working()
            life.close()  # its WebUI is not there yet when the monitor starts again
            spool.start()
            spool.drop("good.yaml", small_job())
            spool.wait_for(done=1)
            assert spool.working() == [run]
            assert spool.stats()["posts"] == 1
            (waits,) = (run for run in spool.status()["runs"] if run["source"] == "other.yaml")
            assert waits["doing"] == "waits in working/ for a WebUI"


def test_a_refused_job_that_is_still_being_written_is_read_again_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "is_as_claimed", False)
    with monitored(tmp_path) as spool:
        spool.drop("bad.yaml", small_job(sampler_name="Eulr"))
        spool.drop("good.yaml", small_job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY, spool.told
        assert len(spool.done() + spool.failed()) == 2


def test_a_run_whose_job_cannot_be_read_any_more_fails_on_any_lane(tmp_path: Path) -> None:
    others = {"other": {"url": f"http://127.0.0.1:{free_port()}"}}
    settings = {"stop_grace": 0.1}
    slow = ["--step-time", "1"]
    with monitored(tmp_path, flags=slow, others=others, settings=settings) as spool:
        spool.drop("castle.yaml", small_job())
        spool.start()
        spool.wait_posts(1)
        spool.stop()
        (run,) = spool.working()
        (run / "job.yaml").write_text("stages: 5\n")
        spool.start()
        spool.wait_for(failed=1)
        assert "stages" in envelope(spool.failed()[0])["message"]


def test_a_job_waits_for_a_lane_that_is_not_known_yet(tmp_path: Path) -> None:
    others = {"other": {"url": f"http://127.0.0.1:{free_port()}"}}
    with monitored(tmp_path, others=others) as spool:
        spool.start()
        spool.wait_ready()
        spool.drop("other.yaml", with_checkpoint("other"))
        spool.drop("good.yaml", small_job())
        spool.wait_for(done=1)
        wait_until(lambda: "other.yaml" in spool.status().get("waiting", {}), 20)
        assert spool.status()["waiting"]["other.yaml"].startswith("sim cannot do it: ")
        assert spool.waiting() == ["other.yaml"]


def test_once_ends_when_only_a_lane_on_hold_could_do_the_rest(tmp_path: Path) -> None:
    with recorded("a1111", models()) as other:  # no checkpoint at all
        with monitored(tmp_path, others={"other": {"url": other.url}}) as spool:
            spool.drop("other.yaml", with_checkpoint("other"))
            spool.start(once=True)
            assert spool.ended() is MonitorEnd.HOLD, spool.told
            assert spool.waiting() == ["other.yaml"]
            assert not spool.done() + spool.failed()


def test_a_server_with_few_routes_does_what_it_can(tmp_path: Path) -> None:
    with recorded("sdcpp") as server:
        webui = {**EXTERNAL, "url": server.url, "start_limit": None}
        with monitored(tmp_path, webui=webui) as spool:
            stages = "stages:\n  - txt2img: {prompt: a, width: 64, height: 64}\n"
            spool.drop("upscaled.yaml", stages + "  - upscale\n")
            spool.drop("good.yaml", small_job(sampler_name="euler_a"))
            spool.start(once=True)
            assert spool.ended() is MonitorEnd.EMPTY, spool.told
            message = envelope(spool.failed()[0])["message"]
            assert message.endswith(
                "3:5: this WebUI (stable-diffusion.cpp) has no extra-single-image"
            )
            assert len(spool.done()) == 1
    assert [path for path, _ in server.posts] == ["/sdapi/v1/txt2img"]


def test_a_checkpoint_that_came_later_is_found_in_a_fresh_list(tmp_path: Path) -> None:
    titles = [{"title": "first.safetensors", "model_name": "first"}]
    answer: dict[str, Answer] = {"sd-models": lambda _: (200, json.dumps(titles).encode())}
    with recorded("a1111", answer) as server:
        with monitored(tmp_path, webui={**EXTERNAL, "url": server.url}) as spool:
            spool.start()
            spool.wait_ready(incarnation=0)
            titles.append({"title": "second.safetensors [0123456789]", "model_name": "second"})
            spool.drop("second.yaml", with_checkpoint("second"))
            spool.wait_for(done=1)
            spool.drop("third.yaml", with_checkpoint("third"))
            spool.wait_for(done=1, failed=1)
            assert (spool.lane()["kind"], spool.lane()["managed"]) == ("a1111", False)
    assert len(server.posts) == 1
