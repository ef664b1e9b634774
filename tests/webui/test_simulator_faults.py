"""Each fault of the simulator does what its name says, and strikes when the plan says."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from PIL import Image

from tests.support.helpers import KILL, TERMINATED, ended_by, wait_until
from tests.webui.sim import PAYLOAD, Simulator, launch, running

CANARY = "sdwatch canary 17"


def plan(name: str, **more: Any) -> str:
    """A plan of one entry that strikes at the first generation unless told otherwise."""
    entry = {"fault": name, "when": {"generation": 1}, **more}
    return json.dumps([entry])


def opened(image: str) -> Image.Image:
    picture = Image.open(io.BytesIO(base64.b64decode(image)))
    picture.load()
    return picture


def in_background(work: Callable[[], Any]) -> threading.Thread:
    """The call on a thread; that it loses its connection is expected."""

    def quietly() -> None:
        with contextlib.suppress(requests.RequestException):
            work()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    return thread


def ask_alone(sim: Simulator, **fields: Any) -> requests.Response:
    """On a connection of its own, as threads must not share the session."""
    return requests.post(sim.url("sdapi/v1/txt2img"), json={**PAYLOAD, **fields}, timeout=30)


@pytest.mark.parametrize(
    ("fault", "error", "message", "last_line"),
    [
        ("opaque-500", "RuntimeError", "", "RuntimeError"),
        (
            "structured-500",
            "RuntimeError",
            "injected failure inside sampling",
            "RuntimeError: injected failure inside sampling",
        ),
        (
            "oom",
            "OutOfMemoryError",
            "CUDA out of memory. Tried to allocate",
            "torch.OutOfMemoryError: CUDA out of memory.",
        ),
    ],
)
def test_a_500_has_forges_body_and_a_traceback_and_the_next_job_works(
    tmp_path: Path, fault: str, error: str, message: str, last_line: str
) -> None:
    with running(tmp_path, plan=plan(fault)) as sim:
        reply = sim.txt2img()
        assert reply.status_code == 500
        body = reply.json()
        assert list(body) == ["error", "detail", "body", "message"]
        assert (body["error"], body["detail"], body["body"]) == (error, "", "")
        assert body["message"].startswith(message)
        assert bool(body["message"]) == bool(message)
        wait_until(lambda: any(line.startswith(last_line) for line in sim.lines()))
        assert sim.state()["job"] == ""
        assert sim.txt2img().ok


def test_an_opaque_500_can_be_plain_text(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("opaque-500-text")) as sim:
        reply = sim.txt2img()
        assert (reply.status_code, reply.text) == (500, "Internal Server Error")
        assert reply.headers["content-type"].startswith("text/plain")


def test_only_the_first_black_picture_of_nans_has_a_line_in_the_log(
    tmp_path: Path,
) -> None:
    with running(tmp_path, plan=plan("nan", times=2)) as sim:
        for _ in range(2):
            reply = sim.txt2img()
            assert reply.status_code == 200
            assert not opened(reply.json()["images"][0]).getbbox()
        assert not [line for line in sim.lines() if "NaN" in line or "Traceback" in line]
        cast = [line for line in sim.lines() if "invalid value encountered in cast" in line]
        assert len(cast) == 1
        assert opened(sim.txt2img().json()["images"][0]).getbbox()


@pytest.mark.parametrize("fails", [1, 0])
def test_memory_that_stays_taken_fails_all_but_tiny_pictures_until_the_restart(
    tmp_path: Path, fails: int
) -> None:
    state = ("--state", str(tmp_path / "state.json"))
    faults = plan("memory-stays-taken", when={"generation": 2}, fails=fails)
    large = {"width": 128, "height": 64}
    with running(tmp_path, *state, plan=faults) as sim:
        assert sim.txt2img(**large).ok
        assert sim.txt2img(**large).ok is (fails == 0)
        for _ in range(2):
            reply = sim.txt2img(**large)
            assert reply.status_code == 500
            assert reply.json()["error"] == "OutOfMemoryError"
        assert sim.txt2img(width=64, height=64).ok
        assert sim.txt2img(prompt=CANARY, width=64, height=64).ok
        assert sim.txt2img(prompt=CANARY, **large).status_code == 500
    with running(tmp_path, *state, plan=faults) as sim:
        assert sim.txt2img(**large).ok


def test_the_body_may_say_less_than_the_log_of_memory_that_stays_taken(tmp_path: Path) -> None:
    faults = plan("memory-stays-taken", opaque=1)
    with running(tmp_path, plan=faults) as sim:
        assert sim.txt2img().json()["message"] == "'NoneType' object is not iterable"
        assert any("HIP out of memory" in line for line in sim.lines())


def test_poisoned_lasts_until_the_restart_and_the_rest_stays_healthy(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "state.json"))
    with running(tmp_path, *state, plan=plan("poisoned", when={"generation": 2})) as sim:
        image = sim.txt2img().json()["images"][0]
        for _ in range(3):
            reply = sim.txt2img()
            assert reply.status_code == 500
            assert reply.json()["message"] == (
                "'NoneType' object has no attribute 'sd_checkpoint_info'"
            )
        assert sim.txt2img(prompt=CANARY).status_code == 500
        assert sim.post("img2img", {**PAYLOAD, "init_images": [image]}).status_code == 500
        assert sim.post("extra-single-image", {"image": image, "upscaler_1": "Lanczos"}).ok
        assert sim.get("progress").ok
        assert sim.get("sd-models").ok
    with running(tmp_path, *state, plan=plan("poisoned", when={"generation": 2})) as sim:
        assert sim.txt2img().ok


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("sigkill-before-reply", ended_by(9)),
        ("sigkill-mid-step", ended_by(9)),
        ("segv", ended_by(signal.SIGSEGV)),
        ("exit-0", 0),
    ],
)
def test_a_death_leaves_the_client_without_a_reply(tmp_path: Path, fault: str, code: int) -> None:
    with running(tmp_path, plan=plan(fault)) as sim:
        with pytest.raises(requests.ConnectionError):
            sim.txt2img()
        assert sim.exit_code() == code


def test_a_crash_during_a_reply_leaves_half_a_body(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("sigkill-mid-reply")) as sim:
        with requests.post(sim.url("sdapi/v1/txt2img"), json=PAYLOAD, stream=True, timeout=30) as r:
            assert r.status_code == 200
            received = r.raw.read1(10_000_000)
            assert 0 < len(received) < int(r.headers["content-length"])
        assert sim.exit_code() == ended_by(9)


def test_a_hang_freezes_progress_and_no_interrupt_helps(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("hang", at=0.5)) as sim:
        in_background(lambda: ask_alone(sim, steps=10))
        wait_until(lambda: sim.state()["sampling_step"] == 5)
        in_background(lambda: ask_alone(sim, seed=2))
        wait_until(lambda: sim.stats()["posts"] == 2)
        assert sim.post("interrupt").ok
        before = sim.get("progress").json()
        later = wait_until(
            lambda: p if (p := sim.get("progress").json()) != before else None,
            why="eta grows while nothing moves",
        )
        assert later["state"] == before["state"]
        assert later["eta_relative"] > before["eta_relative"]
        assert (later["state"]["sampling_step"], later["state"]["job"]) == (5, "scripts_txt2img")
        sim.process.terminate()
        assert sim.exit_code() == TERMINATED


def test_an_interruptible_hang_ends_at_the_interrupt(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("hang-interruptible", at=0.5)) as sim:
        replies: list[requests.Response] = []
        thread = in_background(lambda: replies.append(ask_alone(sim, steps=10)))
        wait_until(lambda: sim.state()["sampling_step"] == 5)
        sim.post("interrupt")
        thread.join(30)
        assert len(replies[0].json()["images"]) == 1
        assert sim.txt2img().ok


def test_a_repeating_hang_prints_the_same_with_another_timestamp_and_makes_no_step(
    tmp_path: Path,
) -> None:
    with running(tmp_path, plan=plan("hang-repeating", every=0.05)) as sim:
        in_background(lambda: ask_alone(sim, steps=10))
        wait_until(lambda: "\n".join(sim.lines()).count("WARNING: device is busy") > 3)
        assert "GET /file=3 HTTP/1.1" in "\n".join(sim.lines())
        assert sim.state()["sampling_step"] == 5


def test_a_spinning_hang_burns_a_core_and_still_answers(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("hang-spin")) as sim:
        in_background(lambda: ask_alone(sim))
        wait_until(lambda: sim.state()["job"] == "scripts_txt2img")
        process = psutil.Process(sim.process.pid)
        begin = process.cpu_times().user
        wait_until(lambda: process.cpu_times().user > begin + 0.3)
        assert sim.get("progress").ok


def answers_within(sim: Simulator, seconds: float) -> bool:
    try:
        requests.get(sim.url("sdapi/v1/progress"), timeout=(5, seconds))
    except requests.ReadTimeout:
        return False
    return True


def test_a_frozen_process_lives_answers_nothing_and_can_be_killed(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("freeze")) as sim:
        in_background(lambda: ask_alone(sim))
        wait_until(lambda: not answers_within(sim, 1.0))
        assert sim.process.poll() is None
        sim.process.kill()
        assert sim.exit_code() == (TERMINATED if sys.platform == "win32" else -9)


@pytest.mark.posix_only("SIGTERM waits for a process that is stopped")
def test_a_frozen_process_does_not_end_at_sigterm(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("freeze")) as sim:
        in_background(lambda: ask_alone(sim))
        process = psutil.Process(sim.process.pid)
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED)
        sim.process.terminate()
        assert process.status() == psutil.STATUS_STOPPED


def test_a_truncated_body_ends_the_connection_and_not_the_server(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("truncated-body", at=0.3)) as sim:
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            sim.txt2img()
        assert sim.txt2img().ok


def test_broken_json_is_a_whole_reply_that_does_not_parse(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("broken-json")) as sim:
        reply = sim.txt2img()
        assert reply.status_code == 200
        with pytest.raises(requests.JSONDecodeError):
            reply.json()


def test_empty_images_is_a_200_without_pictures(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("empty-images", times="always")) as sim:
        assert sim.txt2img().json()["images"] == []
        image = base64.b64encode(picture_file()).decode()
        assert sim.post("extra-single-image", {"image": image}).json()["image"] is None


def picture_file() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_undecodable_image_is_good_base64_and_no_picture(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("undecodable-image")) as sim:
        (image,) = sim.txt2img().json()["images"]
        assert base64.b64decode(image, validate=True)
        with pytest.raises((OSError, SyntaxError)):
            opened(image)


def test_a_black_image_is_black_and_of_the_right_size(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("black-image")) as sim:
        image = opened(sim.txt2img().json()["images"][0])
        assert image.size == (64, 64)
        assert image.getextrema() == ((0, 0),) * 3


def test_a_wrong_size_shows_in_the_picture_only(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("wrong-size")) as sim:
        body = sim.txt2img().json()
        assert opened(body["images"][0]).size == (32, 32)
        assert json.loads(body["info"])["width"] == 64


def test_a_wrong_model_shows_in_the_info(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("wrong-model")) as sim:
        first, second, _ = (m["model_name"] for m in sim.get("sd-models").json())
        assert json.loads(sim.txt2img().json()["info"])["sd_model_name"] == second
        assert json.loads(sim.txt2img().json()["info"])["sd_model_name"] == first


def test_a_log_flood_comes_before_the_traceback(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("log-flood")) as sim:
        assert sim.txt2img().status_code == 500
        last = "RuntimeError: injected failure after a flood of lines"
        wait_until(lambda: last in sim.lines())
        lines = sim.lines()
        flood = [i for i, line in enumerate(lines) if "*** simulated warning" in line]
        assert len(flood) == 20_000
        assert flood[-1] < lines.index("Traceback (most recent call last):")


def test_an_orphan_outlives_the_process_with_its_environment(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("orphan-child")) as sim:
        assert sim.txt2img().ok
        (child,) = psutil.Process(sim.process.pid).children()
        sim.process.kill()
        sim.process.wait()
        try:
            assert child.is_running()
            if sys.platform != "win32":
                assert os.getsid(child.pid) == child.pid
            assert child.environ()["SDWATCH_TEST"] == "1"
        finally:
            child.kill()


@pytest.mark.posix_only("SIGTERM can be ignored")
@pytest.mark.parametrize("when", [{"generation": 1}, {"start": 1}])
def test_an_ignored_sigterm_leaves_only_sigkill(tmp_path: Path, when: dict[str, int]) -> None:
    with running(tmp_path, plan=plan("ignore-sigterm", when=when)) as sim:
        assert sim.txt2img().ok
        wait_until(lambda: ignores_sigterm(sim.process.pid))
        sim.process.terminate()
        assert sim.txt2img().ok
        assert sim.process.poll() is None


def ignores_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(mask, 16) & 1 << (signal.SIGTERM - 1))


def test_a_leak_keeps_memory(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("leak", mb=80)) as sim:
        process = psutil.Process(sim.process.pid)
        before = process.memory_info().rss
        assert sim.txt2img().ok
        assert process.memory_info().rss > before + 70 * 1024 * 1024
        assert sim.get("memory").json()["ram"]["used"] > 70 * 1024 * 1024


def test_slow_steps_are_slower_and_move(tmp_path: Path) -> None:
    text = plan("slow-steps", factor=200)
    with running(tmp_path, "--step-time", "0.001", plan=text) as sim:
        in_background(lambda: ask_alone(sim, steps=1000))
        wait_until(lambda: sim.state()["sampling_step"] >= 1)
        # 1000 steps of a millisecond would be over by the time a second poll comes this far.
        wait_until(lambda: sim.state()["sampling_step"] >= 6)
        assert sim.state()["sampling_step"] < 500


def test_a_fault_can_strike_in_an_upscale_and_leaves_the_state_busy(tmp_path: Path) -> None:
    text = plan("oom", when={"stage": "extra-single-image"})
    with running(tmp_path, plan=text) as sim:
        image = sim.txt2img().json()["images"][0]
        fields = {"image": image, "upscaler_1": "simulated-4x-esrgan"}
        assert sim.post("extra-single-image", fields).status_code == 500
        assert (sim.state()["job"], sim.state()["job_count"]) == ("Upscale", 1)
        assert sim.post("extra-single-image", fields).ok
        assert sim.state()["job"] == ""


@pytest.mark.parametrize(
    ("times", "codes"),
    [
        ("once", [200, 500, 200, 200]),
        (2, [200, 500, 500, 200]),
        ("always", [200, 500, 500, 500]),
    ],
)
def test_a_fault_strikes_as_often_as_the_plan_says(
    tmp_path: Path, times: Any, codes: list[int]
) -> None:
    text = plan("structured-500", when={"generation": 2}, times=times)
    with running(tmp_path, plan=text) as sim:
        assert [sim.txt2img().status_code for _ in range(4)] == codes


def test_a_prompt_is_matched_as_a_regular_expression(tmp_path: Path) -> None:
    text = plan("structured-500", when={"prompt": "^a (dog|fox)"}, times="always")
    with running(tmp_path, plan=text) as sim:
        prompts = ["a cat", "a dog", "not a dog", "a fox", "a dog"]
        codes = [sim.txt2img(prompt=p).status_code for p in prompts]
        assert codes == [200, 500, 200, 500, 500]


def test_canaries_are_not_counted_and_hit_only_by_their_prompt(tmp_path: Path) -> None:
    text = json.dumps(
        [
            {"fault": "structured-500", "when": {"generation": 2}},
            {"fault": "oom", "when": {"prompt": "canary 18"}},
        ]
    )
    with running(tmp_path, plan=text) as sim:
        assert sim.txt2img().ok
        assert sim.txt2img(prompt=CANARY).ok
        assert sim.txt2img(prompt="sdwatch canary 18").json()["error"] == "OutOfMemoryError"
        assert sim.txt2img().status_code == 500
        stats = sim.stats()
        assert (stats["posts"], stats["canaries"]) == (2, 2)
        assert stats["by_stage"] == {"txt2img": 2}


def test_the_plan_is_for_the_night_and_not_for_one_process(tmp_path: Path) -> None:
    text = plan("sigkill-before-reply", when={"prompt": "cat"})
    state = tmp_path / "state.json"
    with running(tmp_path, "--state", str(state), plan=text) as sim:
        with pytest.raises(requests.ConnectionError):
            sim.txt2img()
        assert sim.exit_code() == ended_by(9)
    with running(tmp_path, "--state", str(state), plan=text) as sim:
        assert sim.txt2img().ok
        stats = sim.stats()
    assert (stats["starts"], stats["generations"], stats["posts"]) == (2, 2, 2)
    assert json.loads(state.read_text()) == stats


def test_without_a_state_file_each_process_counts_from_zero(tmp_path: Path) -> None:
    text = plan("exit-0")
    for _ in range(2):
        with running(tmp_path, plan=text) as sim:
            with pytest.raises(requests.ConnectionError):
                sim.txt2img()
            assert sim.exit_code() == 0


def test_two_faults_can_strike_the_same_generation(tmp_path: Path) -> None:
    faults = ["black-image", "wrong-size"]
    text = json.dumps([{"fault": f, "when": {"generation": 1}} for f in faults])
    with running(tmp_path, plan=text) as sim:
        image = opened(sim.txt2img().json()["images"][0])
        assert (image.size, image.getextrema()) == ((32, 32), ((0, 0),) * 3)


def test_a_start_fault_strikes_at_its_start_only(tmp_path: Path) -> None:
    text = plan("exit-on-start", when={"start": 2}, code=9)
    state = ("--state", str(tmp_path / "state.json"))
    with running(tmp_path, *state, plan=text):
        pass
    assert launch(tmp_path, *state, plan=text).exit_code() == 9
    with running(tmp_path, *state, plan=text) as sim:
        assert sim.stats()["starts"] == 3


@pytest.mark.parametrize(
    ("fault", "code", "last"),
    [
        ("wrong-folder", 2, "can't open file '/srv/launch.py'"),
        ("repository-gone", 1, "RuntimeError: Couldn't clone Stable Diffusion."),
        ("damaged-settings", 1, "json.decoder.JSONDecodeError: Expecting value"),
        ("no-gpu", 1, "Your device does not support the current version of Torch/CUDA!"),
        ("sigterm-on-start", ended_by(signal.SIGTERM), "memory monitor disabled"),
        ("sigkill-on-start", ended_by(KILL), "memory monitor disabled"),
    ],
)
def test_a_start_that_ends_before_there_is_a_server(
    tmp_path: Path, fault: str, code: int, last: str
) -> None:
    sim = launch(tmp_path, plan=plan(fault, when={"start": 1}))
    assert sim.exit_code() == code
    assert any(last in line for line in sim.lines())


def test_a_server_thread_that_dies_after_the_port_opened_leaves_404s(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("server-thread-dies", when={"start": 1}, opened=1)) as sim:
        assert sim.get("progress").status_code == 404
        assert sim.process.poll() is None


def test_a_slow_start_opens_its_port_late(tmp_path: Path) -> None:
    with running(tmp_path, plan=plan("slow-start", when={"start": 1}, delay=0.5)) as sim:
        assert "Startup time: 0.5s (launcher: 0.5s)." in sim.lines()


@pytest.mark.parametrize(
    ("fault", "last"),
    [
        ("never-ready", "Startup time: "),
        ("port-taken", "ERROR:    [Errno "),
        ("port-forbidden", "ERROR:    [Errno 13] "),
        ("server-thread-dies", "ValueError: When localhost is not accessible"),
    ],
)
def test_a_start_that_fails_without_an_exit(tmp_path: Path, fault: str, last: str) -> None:
    sim = launch(tmp_path, plan=plan(fault, when={"start": 1}))
    try:
        wait_until(lambda: any(line.startswith(last) for line in sim.lines()))
        assert not sim.is_up()
        assert sim.process.poll() is None
        sim.process.terminate()
        assert sim.exit_code() == TERMINATED
    finally:
        sim.process.kill()
        sim.process.wait()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fault: oom", "a plan is a list"),
        ("- [", "cannot be read"),
        ("- oom", "entry 1: needs `fault: NAME`"),
        ("- fault: oom", "entry 1: needs `when:`"),
        ("- {fault: nonsense, when: {generation: 1}}", "no fault 'nonsense' in a generation"),
        ("- {fault: oom, when: {start: 1}}", "no fault 'oom' at a start"),
        ("- {fault: never-ready, when: {generation: 1}}", "no fault 'never-ready'"),
        ("- {fault: oom, when: {generation: 0}}", "generation: counts from 1, not 0"),
        ("- {fault: oom, when: {prompt: '('}}", "not a regular expression"),
        ("- {fault: oom, when: {stage: upscale}}", "stage: is one of txt2img"),
        ("- {fault: oom, when: {moon: full}}", "not 'moon'"),
        ("- {fault: oom, when: {generation: 1}, times: 0}", "times: once, always"),
        ("- {fault: oom, when: {generation: 1}, at: 2}", "at: is a share"),
        ("- {fault: oom, when: {generation: 1}, mb: 2}", "unknown option 'mb'"),
        ("- {fault: leak, when: {generation: 1}, mb: much}", "mb: must be a number"),
    ],
)
def test_a_bad_plan_is_refused_with_the_entry_and_the_reason(
    tmp_path: Path, text: str, words: str
) -> None:
    sim = launch(tmp_path, plan=text)
    assert sim.exit_code() == 2
    log = sim.log.read_text(encoding="utf-8")
    assert "faults.yaml" in log
    assert words in log


def test_a_broken_state_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}", encoding="utf-8")
    sim = launch(tmp_path, "--state", str(tmp_path / "state.json"))
    assert sim.exit_code() == 2
    assert "no state file of the simulator" in sim.log.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "fault", "is_there"),
    [
        ("forge", "structured-500", False),
        ("forge", "system-exit-500", True),
        ("a1111", "structured-500", True),
        ("sdnext", "structured-500", True),
    ],
)
def test_forge_prints_a_traceback_after_its_reply_and_the_others_before(
    tmp_path: Path, kind: str, fault: str, is_there: bool
) -> None:
    more = {} if fault == "system-exit-500" else {"delay": 1000}
    with running(tmp_path, "--kind", kind, plan=plan(fault, **more)) as sim:
        if kind == "sdnext":
            wait_until(lambda: any("Startup time" in line for line in sim.lines()))
        sim.txt2img()
        printed = [line for line in sim.lines() if "Traceback" in line or "❱" in line]
        assert bool(printed) is is_there
