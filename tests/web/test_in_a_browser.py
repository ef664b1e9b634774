"""The live page in a real browser: buttons, keyboard, what stays while it changes, who is gone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.chromium import browser, opened
from tests.support.helpers import wait_until
from tests.web.served import WORKER, WORKING, Served, add_run, add_runs, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser"]

pytestmark = pytest.mark.timeout(900)
WAIT = 240_000  # ms: the machine may be busy


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as it:
        add_runs(it.spool)
        yield it


def sign_in(page: Page, web: Served) -> None:
    """Open the link of the terminal; the page is there, and its script runs."""
    page.set_default_timeout(WAIT)
    page.goto(f"{web.origin}/?token={web.access.token}")
    page.wait_for_url(f"{web.origin}/")
    page.wait_for_selector("#offline", state="attached")


def test_a_button_acts_without_leaving_the_page(web: Served, browser: Browser) -> None:
    with opened(browser) as page:
        sign_in(page, web)
        page.evaluate("window.here = true")
        page.get_by_role("button", name="Retry cave.yaml").click()
        page.locator("#said", has_text="queued again").wait_for()
        assert [path.name for path in web.inbox.iterdir()] == ["cave.yaml"]
        assert page.evaluate("window.here")
        page.locator("#queue", has_text="cave.yaml").wait_for()


def test_the_keyboard_is_enough(web: Served, browser: Browser) -> None:
    with opened(browser) as page:
        sign_in(page, web)
        for _ in range(60):
            page.keyboard.press("Tab")
            label = page.evaluate("document.activeElement.getAttribute('aria-label')") or ""
            if label.startswith("Cancel"):
                break
        page.keyboard.press("Enter")
        page.locator("#said", has_text="cancelled").wait_for()
        assert (web.spool.root / "working" / WORKER / WORKING / "cancel").exists()
        assert page.get_attribute("#said", "role") == "status"


def test_focus_stays_while_the_page_changes(web: Served, browser: Browser) -> None:
    with opened(browser) as page:
        sign_in(page, web)
        page.get_by_role("button", name="Retry cave.yaml").focus()
        add_run(web.spool.failed / "20261128-050000.000-later-ab08", "failed", diagnosis="crash")
        page.locator("main", has_text="later.yaml").wait_for()
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert label == "Retry cave.yaml"


def test_a_server_that_is_gone_is_said_and_comes_back(tmp_path: Path, browser: Browser) -> None:
    with opened(browser) as page:
        with served(tmp_path) as web:
            add_runs(web.spool)
            sign_in(page, web)
            assert page.is_hidden("#offline")
        page.wait_for_selector("#offline:not([hidden])")
        assert "No connection" in (page.text_content("#offline") or "")
        assert page.get_attribute("#offline", "role") == "alert"
        assert "is-old" in (page.get_attribute("body", "class") or "")
        assert "cave.yaml" in (page.text_content("main") or ""), "what was known stays"
        page.get_by_role("button", name="Retry cave.yaml").click()
        page.locator("#said", has_text="not arrive").wait_for()
        with served(tmp_path, port=web.port):
            page.wait_for_selector("#offline", state="hidden")
            assert "is-old" not in (page.get_attribute("body", "class") or "")


def test_a_monitor_that_is_gone_is_said(web: Served, browser: Browser) -> None:
    with opened(browser) as page:
        sign_in(page, web)
        beat = {"worker": WORKER, "host": "elsewhere", "pid": 1, "beat": 1, "every": 1}
        (web.spool.root / "working" / WORKER / "heartbeat.json").write_text(json.dumps(beat))
        page.locator("h1", has_text=re.compile("gone|answer|lost", re.IGNORECASE)).wait_for()


def test_a_hostile_name_and_a_broken_picture_do_no_harm(web: Served, browser: Browser) -> None:
    run = add_run(web.spool.failed / "20261128-060000.000-odd-ab09", "failed", diagnosis="crash")
    hostile = "<img src=x onerror='alert(1)'><script>alert(1)</script>.yaml"
    journal = (run / "journal.jsonl").read_text("utf-8").replace("odd.yaml", hostile)
    (run / "journal.jsonl").write_text(journal, "utf-8")
    (run / "images" / "castle.png").write_bytes(b"no picture")
    with opened(browser) as page:  # a dialog fails the test
        sign_in(page, web)
        page.locator("main", has_text="onerror").wait_for()
        page.goto(f"{web.origin}/failed/{run.name}/")
        assert page.text_content("h1") == hostile
        assert page.evaluate("document.querySelector('img').naturalWidth") == 0


def test_the_form_drops_a_job_without_a_script(web: Served, browser: Browser) -> None:
    with opened(browser, scripts=False) as page:
        page.set_default_timeout(WAIT)
        page.goto(f"{web.origin}/?token={web.access.token}")
        page.wait_for_url(f"{web.origin}/")
        page.get_by_role("link", name="Drop a job into the inbox").click()
        page.get_by_label("Prompt", exact=True).fill("a castle")
        page.get_by_label("Steps").fill("4")
        page.get_by_role("button", name="Drop the job").click()
        page.wait_for_url(f"{web.origin}/")
        assert page.locator("#said").inner_text() == "in the inbox: job.yaml"
        page.reload()
        assert page.locator("#said").count() == 0
        wait_until(lambda: (web.inbox / "job.yaml").exists(), 60)
        assert (web.inbox / "job.yaml").read_text("utf-8") == "prompt: a castle\nsteps: 4\n"


def test_on_a_phone_a_job_that_waits_keeps_its_name_beside_its_button(
    web: Served, browser: Browser
) -> None:
    for name in ("harbour-at-dawn.yaml", f"{'W' * 200}.yaml"):
        (web.inbox / name).write_text("prompt: x\n", "utf-8")
    with opened(browser, width=360) as page:
        sign_in(page, web)
        page.locator("#queue", has_text="harbour").wait_for()
        heights = page.eval_on_selector_all("#queue .name", "all => all.map(e => e.offsetHeight)")
        line = page.evaluate("parseFloat(getComputedStyle(document.body).lineHeight)")
        lines = sorted(round(height / line) for height in heights if height)
        assert lines[0] == 1
        assert lines[-1] <= 4
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_what_a_button_did_is_in_sight_however_far_down_it_is(
    web: Served, browser: Browser
) -> None:
    for number in range(30):
        name = f"20261128-05{number:02}00.000-later-ab{number:02}"
        add_run(web.spool.failed / name, "failed", diagnosis="crash")
    with opened(browser) as page:
        sign_in(page, web)
        page.locator("summary", has_text="Again").click()
        page.get_by_role("button", name="Retry castle.yaml").click()
        said = page.locator("#said", has_text="queued again")
        said.wait_for()
        assert page.evaluate("scrollY > innerHeight")
        box = said.bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 100


def test_a_link_with_another_token_says_so(web: Served, browser: Browser) -> None:
    with opened(browser) as page:
        page.set_default_timeout(WAIT)
        page.goto(f"{web.origin}/?token={'x' * 43}")
        assert "is not the one of this server" in page.locator("main").inner_text()
        sign_in(page, web)
        page.goto(f"{web.origin}/?token={'x' * 43}")
        assert page.locator("main", has_text="cave.yaml").count() == 1


def test_without_the_token_a_browser_may_only_look(web: Served, browser: Browser) -> None:
    with opened(browser) as page:
        page.set_default_timeout(WAIT)
        page.goto(web.origin)
        page.wait_for_selector("#offline", state="attached")
        assert page.locator("button").count() == 0
        assert "may only look" in (page.text_content("main") or "")
