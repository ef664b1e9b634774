"""The page: each state has its words, everything that comes from outside is escaped, and the file
needs neither a server nor a script."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from sdwatch.policy.page import page
from sdwatch.policy.page.headline import Tone, headline, lane_state
from sdwatch.policy.page.overview import (
    CallProgress,
    LeftBehind,
    MonitorCard,
    NextJob,
    NightCounts,
    Overview,
    PointCard,
    Presence,
    QueuedJob,
    Remark,
    Thumbnail,
    Totals,
    Unreached,
    as_json,
)
from sdwatch.policy.page.sections import memory, share_of
from sdwatch.policy.page.times import clock_time, duration, iso, wall_of, zone
from sdwatch.policy.report.status_line import crashes_in_words
from tests.policy.pages import NOW, ReadPage, active, busy, ended, lane, overview
from tests.support.tables import table

HOSTILE = (
    "<script>alert(1)</script>.yaml",
    '"><img src=x onerror=alert(1)>.yaml',
    "' onmouseover='alert(1).yaml",
    "</main></body><h1>owned</h1>.yaml",
    "javascript:alert(1)",
    "../../etc/passwd",
    "a\u202egnp.exe.yaml",
    "two\nlines\x1b[31m.yaml",
    "half-a-character-\udcff.yaml",
    "{{ 7 * 7 }} ${x} %s.yaml",
    "&lt;b&gt;.yaml",
    "con:aux|<>?*.yaml",
    "\U0001f3f0 \u0627\u0644\u0642\u0644\u0639\u0629.yaml",
)


@table(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (-3, "0 s"),
        (42, "42 s"),
        (99, "99 s"),
        (100, "2 min"),
        (754, "13 min"),
        (5999, "100 min"),
        (6000, "1 h 40 min"),
        (4 * 3600 + 299, "4 h 05 min"),
        (3 * 86400, "3 days"),
    ],
)
def test_durations_are_as_exact_as_people_need_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@table(
    ("wall", "offset", "words"),
    [
        (NOW, 0, "14:13"),
        (NOW, 3600, "15:13"),
        (NOW, -3 * 3600 - 1800, "10:43"),
        (NOW + 86400, 0, "22 Sep 14:13"),
        (NOW + 11 * 3600, 0, "22 Sep 01:13"),
        (NOW + 400 * 86400, 0, "2027-10-26 14:13"),
    ],
)
def test_a_time_of_another_day_has_its_date(wall: float, offset: int, words: str) -> None:
    assert clock_time(wall, offset, NOW) == words


@table("wall", [-1e300, -62135647200.0, -1.0, 253402300799.0, 1e12, 1e300])
@table("offset", [-12 * 3600, 0, 14 * 3600])
def test_a_time_without_a_date_is_shown_as_the_nearest_one(wall: float, offset: int) -> None:
    years = ("1970-", "9998-", "9999-")
    assert clock_time(wall, offset, NOW).startswith(years)
    assert iso(wall).startswith(years)


@pytest.mark.parametrize(
    ("in_a_row", "last", "says"),
    [
        (1, "", "1 crash"),
        (1, "crash", "1 crash"),
        (1, "stuck", "1 crash (stuck)"),
        (2, "", "2 crashes in a row"),
        (3, "stuck", "3 crashes in a row, the last: stuck"),
    ],
)
def test_crashes_are_counted_in_words(in_a_row: int, last: str, says: str) -> None:
    assert crashes_in_words(in_a_row, last) == says


def test_zones_and_times_are_as_people_and_the_journal_write_them() -> None:
    assert [zone(s) for s in (0, 3600, -12600, 20700)] == ["UTC", "UTC+1", "UTC-3:30", "UTC+5:45"]
    assert iso(NOW) == "2026-09-21T14:13:20.000Z"
    assert wall_of(iso(NOW)) == NOW
    assert [wall_of(x) for x in ("", "yesterday", None, 7, "2026-09-21", "9999-99-99")] == [
        None
    ] * 6


GONE = MonitorCard(Presence.GONE, "box-1", "render-7", 42, NOW - 900)
HEADLINES: list[tuple[Overview, Tone, str]] = [
    (overview(gone=True), Tone.BAD, "The spool is not there"),
    (overview(monitor=MonitorCard(Presence.STOPPED)), Tone.OFF, "Stopped"),
    (overview(monitor=GONE), Tone.BAD, "The monitor is gone"),
    (overview(monitor=replace(GONE, presence=Presence.NOT_KNOWN)), Tone.WAITS, "Looking for"),
    (overview(monitor=MonitorCard(Presence.STOPPING, stopping=9)), Tone.WAITS, "Stopping"),
    (overview(monitor=MonitorCard(Presence.RUNNING, hold="full")), Tone.WAITS, "On hold"),
    (overview(), Tone.BUSY, "Starting"),
    (overview(lanes=(lane(state="starting"),)), Tone.BUSY, "Starting"),
    (overview(lanes=(lane(),)), Tone.GOOD, "Ready"),
    (overview(lanes=(lane(busy=True),)), Tone.BUSY, "Generating"),
    (overview(lanes=(lane(),), active=(active(),)), Tone.BUSY, "Generating"),
    (overview(lanes=(lane(hold="no model"),)), Tone.BAD, "On hold"),
    (overview(lanes=(lane(busy=True), lane("b", hold="x"))), Tone.WAITS, "Partly on hold"),
    (overview(lanes=(lane(state="cooling down", cooldown_left=9),)), Tone.WAITS, "Cooling down"),
    (overview(lanes=(lane(),), totals=Totals(queued=3)), Tone.WAITS, "Waiting for the WebUI"),
]


@table(("stands", "tone", "word"), HEADLINES, ids=lambda x: str(x)[:30])
def test_the_headline_says_what_matters_most(stands: Overview, tone: Tone, word: str) -> None:
    found = headline(stands)
    assert (found.tone, found.word.startswith(word)) == (tone, True)
    read = ReadPage(page.whole(stands))
    states = [a for a in read.all("span") if a.get("class") == f"state {tone}"]
    assert states, "no colour"
    assert found.word in read.text, "no word"


@table(
    ("card", "tone", "word"),
    [
        (lane(), Tone.GOOD, "ready"),
        (lane(busy=True), Tone.BUSY, "generating"),
        (lane(state="starting"), Tone.BUSY, "starting"),
        (lane(state="cooling down", cooldown_left=154), Tone.WAITS, "cooling down, 3 min left"),
        (lane(state="not usable"), Tone.BAD, "not usable"),
        (lane(hold="no checkpoint", busy=True), Tone.BAD, "on hold"),
        (lane(state="stopped"), Tone.OFF, "stopped"),
        (lane(state="of a later version"), Tone.OFF, "of a later version"),
    ],
)
def test_a_lane_has_a_state_by_colour_and_by_word(card: Any, tone: Tone, word: str) -> None:
    state = lane_state(card)
    assert (state.tone, state.word) == (tone, word)


def test_the_page_says_all_that_it_was_asked_for() -> None:
    text = ReadPage(page.whole(busy())).text
    for words in (
        "step 12 of 20", "60 %", "42 s left",  # the run in progress
        "no checkpoint", "Put one there.",  # a lane, its reason, what a person can do
        "because its priority is the highest", "about 15:14", "done about 16:20",
        "The GPU is on fire.", "Fault: the job", "WHY.txt",
        "castle.yaml.txt", "rename it to castle.yaml",
        "132", "487 images", "13 min", "4 crashes", "The last 12 hours",
        "still arriving", "Suspended runs resume first",
    ):  # fmt: skip
        assert words in text, words


@table(("jobs", "unfolds"), [(1, 0), (8, 0), (9, 0), (10, 2), (50, 42)])
def test_a_long_queue_unfolds(jobs: int, unfolds: int) -> None:
    queued = tuple(QueuedJob(f"job-{number}.yaml") for number in range(jobs))
    read = ReadPage(page.whole(overview(queue=queued, totals=Totals(queued=jobs))))
    assert len(read.all("details")) == (unfolds > 0)
    assert (f"Show {unfolds} more" in read.text) == (unfolds > 0)
    assert all(job.source in read.text for job in queued)


def test_the_failures_of_a_bad_night_unfold() -> None:
    runs = tuple(ended("failed", source=f"job-{number}.yaml") for number in range(10))
    read = ReadPage(page.whole(overview(failed=runs, totals=Totals(failed=10))))
    assert "Show 6 more" in read.text


@pytest.mark.parametrize(
    ("state", "words"),
    [("ready", "60 %"), ("cooling down", "The call waits until the WebUI is ready.")],
)
def test_a_call_has_no_progress_while_its_webui_is_down(state: str, words: str) -> None:
    run = active(calling=True, progress=CallProgress(12, 20, 60, 42))
    read = ReadPage(page.whole(overview(active=(run,), lanes=(lane(state=state),))))
    assert words in read.text
    assert len(read.all("progress")) == (state == "ready")


@table(
    ("size", "words"),
    [(93_400_000, "93 MB"), (999_000_000, "999 MB"), (1e9, "1.0 GB"), (8_240_000_000, "8.2 GB")],
)
def test_the_memory_of_a_small_process_is_not_zero(size: int, words: str) -> None:
    assert memory(size) == words


def test_without_a_history_the_page_says_that_starts_are_unknown() -> None:
    stands = busy(has_history=False, queue_ends_in=None)
    without = replace(stands, queue=tuple(replace(job, starts_in=None) for job in stands.queue))
    text = ReadPage(page.whole(without)).text
    assert "No history yet: when each starts shows once a call has finished here." in text
    assert "about" not in text


@cache
def calm_page(live: bool) -> ReadPage:
    return ReadPage(page.whole(everything_named("calm.yaml"), live=live, token="calm"))


@table("name", HOSTILE)
@table("live", [False, True])
def test_no_name_becomes_markup(name: str, live: bool) -> None:
    stands = everything_named(name)
    html = page.whole(stands, live=live, token=name)
    html.encode()  # whatever it was, it is text now
    calm = calm_page(live)
    read = ReadPage(html)
    assert [tag for tag, _ in read.tags] == [tag for tag, _ in calm.tags]
    assert [sorted(a) for _, a in read.tags] == [sorted(a) for _, a in calm.tags]
    assert not {"\u202e", "\x1b"} & set(html)
    for link in read.links():
        assert not link.lower().startswith(("javascript", "data:", "//", "http")), link


def everything_named(name: str) -> Overview:
    """Each text that comes from outside is `name`."""
    near = Remark(name, name)
    run = {"run_id": name, "source": name}
    picture = Thumbnail(f"done/{name}/thumbnails/{name}", f"done/{name}/images/{name}")
    stands = busy()
    return replace(
        stands,
        spool=name,
        version=name,
        monitor=replace(stands.monitor, worker=name, host=name, config_edited=name,
                        stop_ignored=(name,)),
        left_behind=(LeftBehind(name, name, 2),),
        lanes=(lane(name, hold=name, advice=name, to_retry=(name,), last_failure=name,
                    warnings=2, last_warning=name, version=name),),
        active=(active(**run, doing=name, lane=name, folder=f"working/{name}/{name}"),),
        queue=tuple(replace(job, source=name) for job in stands.queue),
        waiting=(near,),
        near_misses=(near,),
        problems=(name,),
        done=(ended("done", **run, folder=f"done/{name}", thumbnails=(picture,)),),
        failed=(ended("failed", **run, folder=f"failed/{name}", why=name, blame=name),),
    )  # fmt: skip


def test_links_lead_to_files_of_the_spool_by_whatever_name() -> None:
    links = set(ReadPage(page.whole(everything_named("a b#c?d%e\udcff.png"))).links())
    name = "a%20b%23c%3Fd%25e%FF.png"
    assert f"done/{name}/thumbnails/{name}" in links
    assert f"done/{name}/images/{name}" in links
    assert f"failed/{name}/" in links


def test_the_file_needs_no_server_and_says_when_it_was_written() -> None:
    html = page.whole(busy(), style="body { color: red }")
    read = ReadPage(html)
    assert "Written at 15:13:20 UTC+1" in read.text
    assert "if that is long ago, the monitor, its machine or the share is gone" in read.text
    assert not read.all("form")
    assert not read.all("button")
    assert not [link for link in read.links() if link.startswith("/")]
    assert "<style>body { color: red }</style>" in html
    assert {"http-equiv": "refresh", "content": "60"} in read.all("meta")


def test_a_stopped_page_does_not_load_itself_again_and_says_that_it_has_stopped() -> None:
    html = page.whole(overview(monitor=MonitorCard(Presence.STOPPED, "box-1", "render-7", 42)))
    read = ReadPage(html)
    assert "Stopped" in read.text
    assert "this page changes when a monitor starts" in read.text
    assert not [meta for meta in read.all("meta") if "http-equiv" in meta]
    assert "data-made" not in html.partition("<script>")[0]


def test_the_live_page_has_nothing_inline_that_a_policy_would_forbid() -> None:
    read = ReadPage(page.whole(busy(), live=True, token="secret"))
    assert not read.all("style")
    assert read.all("script") == [{"src": "/static/live.js", "defer": None}]
    assert not [a for _, a in read.tags if "style" in a or any(n.startswith("on") for n in a)]


def test_each_form_of_the_live_page_carries_the_token() -> None:
    read = ReadPage(page.whole(busy(), live=True, token="secret"))
    forms = [form["action"] for form in read.all("form")]
    tokens = [i for i in read.all("input") if i["name"] == "token" and i["value"] == "secret"]
    assert len(tokens) == len(forms) > 4
    assert all(form["method"] == "post" for form in read.all("form"))
    run, suspended = (each.run_id for each in busy().active)
    runs = {f"/runs/{run}/retry", f"/runs/{run}/cancel", f"/runs/{suspended}/cancel"}
    assert {"/hold", "/inbox/cancel", *runs} == set(forms)
    assert {"/drop", f"/runs/{run}/edit"} <= set(read.links())


def test_everything_to_press_has_a_name_of_its_own() -> None:
    read = ReadPage(page.whole(busy(), live=True))
    links = [a for a in read.all("a") if "button" in (a.get("class") or "")]
    assert all(a.get("aria-label") for a in [*read.all("button"), *links])
    assert all(image.get("alt") for image in read.all("img"))
    headed = [section["aria-labelledby"] for section in read.all("section")]
    assert {a.get("id") for _, a in read.tags} >= set(headed)


def test_an_empty_spool_says_what_to_do() -> None:
    text = ReadPage(page.whole(overview(lanes=(lane(),)))).text
    assert "Nothing is queued. Drop a job file into inbox/ ." in text
    assert "Nothing is done yet." in text


def test_json_has_times_as_the_journal_and_no_prompt() -> None:
    value = json.loads(json.dumps(as_json(busy())))
    assert value["format"] == 1
    assert value["made_at"] == "2026-09-21T14:13:20.000Z"
    assert value["done"][0]["ended_at"] == "2026-09-21T14:12:20.000Z"
    assert value["monitor"]["presence"] == "running"
    assert value["queue"][0]["because"] == "its priority is the highest"


def test_counts_that_are_not_whole_yet_say_so() -> None:
    text = ReadPage(page.whole(overview(counts=NightCounts(whole=False)))).text
    assert "The last 12 hours, still being counted" in text


def test_a_job_that_takes_no_second_takes_less_than_one() -> None:
    job = QueuedJob("a.yaml", takes=0.3, starts_in=5.0)
    shown = page.whole(overview(queue=(job,), totals=Totals(queued=1)), style="")
    assert "less than 1 s" in shown
    assert "about 0 s" not in shown


def test_a_job_with_points_says_how_far_it_is_and_what_it_takes() -> None:
    stands = busy(
        active=(active(calling=True, doing="point 7 of 40, stage 1 of 1", point=7, points=40,
                       points_failed=2),),
        queue=(QueuedJob("grid.yaml", calls=80, points=40, takes=1500.0),),
    )  # fmt: skip
    text = ReadPage(page.whole(stands)).text
    assert "point 7 of 40, stage 1 of 1" in text
    assert "2 points failed so far; the others are made." in text
    assert "40 points · 80 calls · about 25 min" in text


def test_points_that_failed_are_named_by_their_values_and_retried_alone() -> None:
    points = tuple(PointCard(n, f'animal = "{n}<b>"', "server error") for n in (3, 4, 9, 11, 12))
    run = ended("failed", why="20 of 40 points failed", points_failed=20, failed_points=points)
    shown = ReadPage(page.whole(busy(failed=(run,)), live=True, token="T"))
    assert 'point 3: animal = "3<b>" · server error' in shown.text
    assert "Show 2 more" in shown.text
    assert "and 15 more, see WHY.txt" in shown.text
    actions = [form["action"] for form in shown.all("form")]
    assert f"/runs/{run.run_id}/retry-points" in actions
    assert f"/runs/{run.run_id}/retry" in actions
    assert "Retry failed points Retry all" in shown.text


def test_a_done_job_with_points_says_how_many() -> None:
    text = ReadPage(page.whole(busy(done=(ended("done", points=40, images=40),)))).text
    assert "40 points · 40 images" in text


def test_the_page_says_whom_messages_do_not_reach() -> None:
    silent = Unreached("webhook 1", "HTTP 500", "2026-09-21T14:13:20.000Z")
    stands = overview(monitor=MonitorCard(Presence.RUNNING, unreached=(silent,)))
    text = ReadPage(page.whole(stands)).text
    assert "Notifications: webhook 1 gets no messages: HTTP 500." in text


@table(
    ("fields", "share"),
    [
        ({"percent": 60}, 0.6),
        ({"percent": 60, "call": 1, "calls": 1}, 0.6),
        ({"percent": 50, "call": 3, "calls": 4}, 2.5 / 4),
        ({"call": 3, "calls": 4}, 2 / 4),
        ({"percent": 50, "call": 1, "calls": 2, "stage_number": 2, "stages": 2}, (1 + 0.25) / 2),
        ({"percent": 100, "call": 1, "calls": 1, "point": 7, "points": 40}, 7 / 40),
        ({"point": 7, "points": 40}, 6 / 40),
        # A quick call ends before the WebUI is asked: nobody knows.
        ({}, None),
        ({"call": 1, "calls": 1, "stage_number": 1, "stages": 1}, None),
        # What no sdwatch reports stays in the bar.
        ({"percent": 900, "call": 9, "calls": 4}, 1.0),
        ({"percent": -5, "call": 1, "calls": 4}, 0.0),
    ],
)
def test_the_bar_is_for_the_whole_job(fields: dict[str, Any], share: float | None) -> None:
    percent = fields.pop("percent", None)
    run = active(progress=CallProgress(percent=percent), **fields)
    assert share_of(run) == pytest.approx(share)


def test_a_call_says_its_steps_and_a_long_job_what_is_left_of_it() -> None:
    run = active(calling=True, call=2, calls=4, left=600.0, progress=CallProgress(12, 20, 60, 42))
    read = ReadPage(page.whole(overview(active=(run,), lanes=(lane(),))))
    assert "step 12 of 20 · 60 % · 42 s left whole job: 10 min left" in read.text
    assert [bar["value"] for bar in read.all("progress")] == ["40"]
    quick = active(calling=True, call=2, calls=4)
    assert "no steps reported yet" in ReadPage(page.whole(overview(active=(quick,)))).text


NIGHT = QueuedJob("night.yaml", waits_until=NOW + 3600, waits_for="only", takes=10, starts_in=3600)


def test_a_job_that_waits_for_its_time_is_shown_with_it() -> None:
    late = replace(NIGHT, source="late.yaml", starts_in=7200)
    stands = overview(lanes=(lane(),), queue=(NIGHT, late), totals=Totals(queued=2))
    text = ReadPage(page.whole(stands)).text
    assert "Waiting until 16:13" in text
    assert "No job here may start yet." in text
    assert "waits until 16:13: only" in text
    assert "waits until 16:13: only; about 17:13" in text


def test_one_job_that_may_start_waits_for_the_webui_and_not_for_a_time() -> None:
    stands = overview(lanes=(lane(),), queue=(QueuedJob("a.yaml"), NIGHT), totals=Totals(queued=2))
    assert headline(stands).word == "Waiting for the WebUI"
    resumes = replace(stands, queue=(NIGHT,), active=(active(lane=""),))
    assert headline(resumes).word == "Waiting for the WebUI"
    assert "Suspended runs resume first." in ReadPage(page.whole(resumes)).text


def test_the_page_says_which_job_is_next_on_each_webui_and_why() -> None:
    passes = NextJob("forge", "b.yaml", "its checkpoint is loaded; it passes 1 older job")
    plain = NextJob("neo", "a.yaml", "it is the first in the order", in_order=True)
    text = ReadPage(page.whole(busy(next=(passes, plain)))).text
    assert "Next: a.yaml , because its priority is the highest." in text
    assert "Next on forge: b.yaml , because its checkpoint is loaded; it passes 1 older" in text
    assert "first in the order" not in text
    alone = ReadPage(page.whole(busy(next=(passes,), lanes=(lane(),)))).text
    assert "Next: b.yaml , because its checkpoint" in alone
    assert "highest" not in alone


def test_a_freed_gpu_is_shown_beside_its_webui() -> None:
    freed = overview(lanes=(lane(gpu="its checkpoint is unloaded"),))
    assert "its checkpoint is unloaded" in ReadPage(page.whole(freed)).text


def test_the_time_for_which_a_job_waits_is_written_as_all_times_are() -> None:
    value = as_json(overview(queue=(NIGHT, QueuedJob("a.yaml"))))
    assert [job["waits_until"] for job in value["queue"]] == ["2026-09-21T15:13:20.000Z", None]
