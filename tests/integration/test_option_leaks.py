"""What a call leaves behind in the WebUI: memory, wear, settings. The next job must not meet it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.option_leaks import OptionLeaks
from tests.api.scripted_server import Handler, ScriptedServer, serving
from tests.support.helpers import wait_until
from tests.support.monitored import EXTERNAL, job, journal, monitored
from tests.webui.sim import running

MB = 10**6

# -- memory and wear: recycled between calls


def test_a_webui_that_holds_too_much_memory_is_recycled_cleanly(tmp_path: Path) -> None:
    leak = "- fault: leak\n  when: {prompt: leaking}\n  times: once\n  mb: 300\n"
    with monitored(tmp_path, faults=leak, webui={"max_rss": "250 MB"}) as spool:
        spool.drop("a.yaml", job("a leaking castle", n_iter=2, priority=1))
        spool.drop("b.yaml", job())
        spool.start()
        spool.wait_for(done=2)
        spool.wait_ready(incarnation=2)

        (recycled,) = spool.events("recycled")
        assert "max_rss is 250 MB" in recycled["reason"]
        assert spool.events("crash") == []
        assert (spool.stats()["posts"], spool.stats()["starts"]) == (3, 2)
        assert all(journal(run, "call_failed") == [] for run in spool.done())
        assert sum("recycled" in line for line in spool.told) == 1
        wait_until(lambda: 0 < spool.lane()["rss"] < 250 * MB, 20, "status says its memory")


def test_a_webui_is_recycled_after_so_many_calls(tmp_path: Path) -> None:
    with monitored(tmp_path, webui={"max_calls": 2}) as spool:
        spool.drop("a.yaml", job(n_iter=3))
        spool.drop("b.yaml", job("a lighthouse"))
        spool.start()
        spool.wait_for(done=2)
        spool.wait_ready(incarnation=3)

        assert [event["event"] for event in spool.crashes()] == [
            "start", "recycled", "start", "recycled", "start",
        ]  # fmt: skip
        assert spool.stats()["posts"] == 4


# -- settings, with a monitor

CLIP = "CLIP_stop_at_last_layers"
LEAKING = job("a castle", override_settings={CLIP: 2}, priority=1)


def keeps_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The WebUI seems to keep the setting that the first call overrides, whatever is posted."""
    said = iter([1])
    monkeypatch.setattr(SDWebUIClient, "options", lambda *_: {CLIP: next(said, 2)})


def test_a_webui_that_cannot_be_rid_of_a_setting_is_recycled_before_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeps_for_ever(monkeypatch)
    with monitored(tmp_path) as spool:
        spool.drop("a.yaml", LEAKING)
        spool.drop("b.yaml", job("a lighthouse"))
        spool.start()
        spool.wait_for(done=2)
        first, second = sorted(spool.done(), key=lambda run: journal(run, "call_started")[0]["at"])
        assert [event["event"] for event in spool.crashes()] == ["start", "recycled", "start"]
        (warning,) = journal(first, "call_finished")[0]["warnings"]
        assert warning["kind"] == "leak"
        assert CLIP in warning["words"]
        assert [journal(run, "call_started")[0]["incarnation"] for run in (first, second)] == [1, 2]


def test_option_leaks_of_a_cancelled_call_do_not_reach_the_next_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeps_for_ever(monkeypatch)
    slow = ("--step-time", "0.1")
    with monitored(tmp_path, flags=slow) as spool:
        spool.drop("a.yaml", job("a castle", override_settings={CLIP: 2}, steps=100))
        spool.start()
        spool.wait_posts(1)
        (spool.working()[0] / "cancel").touch()
        spool.wait_for(failed=1)
        spool.drop("b.yaml", job("a lighthouse"))
        spool.wait_for(done=1, failed=1)
        assert journal(spool.done()[0], "call_started")[0]["incarnation"] == 2
        assert len(spool.events("recycled")) == 1


def test_an_external_webui_is_never_recycled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeps_for_ever(monkeypatch)
    with monitored(tmp_path, webui=EXTERNAL) as spool, running(tmp_path, port=spool.port) as sim:
        spool.drop("a.yaml", LEAKING)
        spool.start()
        spool.wait_for(done=1)
        assert sum("restart it yourself" in line for line in spool.told) == 1
        assert spool.events("recycled") == []
        assert sim.process.poll() is None


@pytest.mark.parametrize("is_ours", [True, False], ids=["managed", "external"])
def test_a_setting_that_automatic1111_keeps_reaches_no_later_job(
    tmp_path: Path, is_ours: bool
) -> None:
    flags = ("--kind", "a1111")
    with ExitStack() as stack:
        webui = {} if is_ours else EXTERNAL
        spool = stack.enter_context(monitored(tmp_path, flags=flags, webui=webui))
        if not is_ours:
            stack.enter_context(running(tmp_path, *flags, port=spool.port))
        spool.drop("a.yaml", LEAKING)
        spool.start()
        spool.wait_for(done=1)
        assert SDWebUIClient(f"http://127.0.0.1:{spool.port}").options(10)[CLIP] == 1
        (finished,) = journal(spool.done()[0], "call_finished")
        assert [warning["kind"] for warning in finished["warnings"]] == ["leak"]
        assert sum(f"kept {CLIP}" in line for line in spool.told) == 1
        assert spool.events("recycled") == spool.events("crash") == []


def test_a_setting_may_be_left_as_it_is(tmp_path: Path) -> None:
    off = {"undo_overrides": False}
    with monitored(tmp_path, flags=("--kind", "a1111"), webui=off) as spool:
        spool.drop("a.yaml", LEAKING)
        spool.start()
        spool.wait_for(done=1)
        assert SDWebUIClient(f"http://127.0.0.1:{spool.port}").options(10)[CLIP] == 2


# -- settings, without


class Settings:
    """A WebUI's settings. `option_leaks`: it keeps what a call overrides; `takes`: POST /options
    works."""

    def __init__(self, *, takes: bool = True, **values: Any) -> None:
        self.values, self.takes = values, takes
        self.posted: list[dict[str, Any]] = []
        self.status = 200


@contextmanager
def webui(settings: Settings) -> Iterator[ScriptedServer]:
    """It answers GET and POST /options."""

    class Answers(Handler):
        def do_GET(self) -> None:  # noqa: N802 - its name in http.server
            self.answer(settings.status, json.dumps(settings.values).encode())

    def post(handler: Handler) -> None:
        change = handler.server.posts[-1][1]
        settings.posted.append(change)
        if settings.takes:
            settings.values |= change
        handler.answer(200, b"null")

    with serving(post) as server:
        server.RequestHandlerClass = Answers
        yield server


LeaksOf = Callable[[ScriptedServer], OptionLeaks]


@pytest.fixture
def leaks_of(tmp_path: Path) -> Callable[[ScriptedServer], OptionLeaks]:
    return lambda server: OptionLeaks(SDWebUIClient(server.url), tmp_path / "leaks.json")


OVERRIDES = {"override_settings": {CLIP: 2, "sd_model_checkpoint": "b"}}


def test_a_setting_that_the_webui_kept_is_put_back(leaks_of: LeaksOf) -> None:
    settings = Settings(**{CLIP: 1, "sd_model_checkpoint": "a", "eta": 0})
    with webui(settings) as server:
        option_leaks = leaks_of(server)
        option_leaks.before_call(OVERRIDES, 1)
        settings.values |= OVERRIDES["override_settings"] | {"eta": 5}
        assert option_leaks.undo(1) == ([CLIP], [])
        assert settings.posted == [{CLIP: 1}]  # not the checkpoint, nor what nobody overrode
        assert option_leaks.undo(1) == ([], [])


def test_settings_that_the_webui_restores_itself_are_left_alone(leaks_of: LeaksOf) -> None:
    settings = Settings(**{CLIP: 1})
    with webui(settings) as server:
        option_leaks = leaks_of(server)
        option_leaks.before_call(OVERRIDES, 1)
        assert option_leaks.undo(1) == ([], [])
        assert settings.posted == []


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(**{CLIP: None}), Settings(takes=False, **{CLIP: 1})]
)
def test_settings_that_cannot_be_restored_are_named(leaks_of: LeaksOf, settings: Settings) -> None:
    settings.values["other"] = 1
    with webui(settings) as server:
        option_leaks = leaks_of(server)
        option_leaks.before_call(OVERRIDES, 1)
        settings.values[CLIP] = 2
        assert option_leaks.undo(1) == ([], [CLIP])


def test_leaks_that_could_not_be_read_are_undone_before_the_next_call(leaks_of: LeaksOf) -> None:
    settings = Settings(**{CLIP: 1})
    with webui(settings) as server:
        option_leaks = leaks_of(server)
        option_leaks.before_call(OVERRIDES, 1)
        before, settings.values = settings.values, {}
        assert option_leaks.undo(1) == ([], [])
        settings.values = {**before, CLIP: 2}
        assert option_leaks.before_call({"prompt": "the next job's"}, 1) == ([CLIP], [])


def test_another_life_of_the_webui_knows_nothing_of_the_last(leaks_of: LeaksOf) -> None:
    settings = Settings(**{CLIP: 1})
    with webui(settings) as server:
        option_leaks = leaks_of(server)
        option_leaks.before_call(OVERRIDES, 1)
        settings.values[CLIP] = 2
        assert option_leaks.undo(2) == ([], [])
        assert settings.posted == []


def test_a_job_that_wants_its_settings_kept_has_them_kept(leaks_of: LeaksOf) -> None:
    settings = Settings(**{CLIP: 1})
    with webui(settings) as server:
        option_leaks = leaks_of(server)
        option_leaks.before_call({**OVERRIDES, "override_settings_restore_afterwards": False}, 1)
        settings.values[CLIP] = 2
        assert option_leaks.undo(1) == ([], [])
        assert settings.posted == []


def test_a_webui_without_settings_works(leaks_of: LeaksOf) -> None:
    with serving(lambda handler: handler.answer(404, b"")) as server:  # and 501 to each GET
        option_leaks = leaks_of(server)
        assert option_leaks.before_call(OVERRIDES, 1) == ([], [])
        assert option_leaks.undo(1) == ([], [])


def test_leaks_that_are_not_undone_survive_a_restart_of_the_monitor(leaks_of: LeaksOf) -> None:
    settings = Settings(**{CLIP: 1})
    with webui(settings) as server:
        leaks_of(server).before_call(OVERRIDES, 1)
        settings.values[CLIP] = 2
        assert leaks_of(server).undo(1) == ([CLIP], []), "another monitor's"
        assert leaks_of(server).undo(1) == ([], [])


def test_a_file_that_cannot_be_read_does_not_count(leaks_of: LeaksOf, tmp_path: Path) -> None:
    settings = Settings(**{CLIP: 1})
    with webui(settings) as server:
        for text in ("", "[]", '{"incarnation": "x"}', '{"incarnation": 1, "old": 5}', "\0"):
            (tmp_path / "leaks.json").write_text(text)
            assert leaks_of(server).undo(1) == ([], [])


def test_the_old_values_are_unknown_where_there_was_no_answer(leaks_of: LeaksOf) -> None:
    """It cannot be put back then; that the call's own value is still there is seen all the same."""
    settings = Settings(**{CLIP: 1})
    with webui(settings) as server:
        option_leaks = leaks_of(server)
        settings.status = 503
        option_leaks.before_call(OVERRIDES, 1)
        settings.status = 200
        settings.values[CLIP] = 2
        assert option_leaks.undo(1) == ([], [CLIP])
        assert settings.posted == []
