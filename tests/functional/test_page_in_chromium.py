"""status.html in a real browser, opened as a file: what can be seen, in dark and light, on a phone
and on a desk."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from sdwatch.policy.page import page
from sdwatch.policy.page.overview import Overview, QueuedJob, Thumbnail, Totals
from tests.policy.pages import NOW, busy, ended
from tests.policy.test_page import HEADLINES, HOSTILE, everything_named
from tests.spool.spools import picture
from tests.support.chromium import browser, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ("browser",)

STYLE = resources.files(page.__package__).joinpath("style.css").read_text("utf-8")
WIDTHS = (390, 820, 1400)


def file_of(folder: Path, stands: Overview) -> str:
    """Write status.html; its URL."""
    path = folder / "status.html"
    path.write_bytes(page.whole(stands, style=STYLE).encode())
    return path.as_uri()


def opened_at(shown: Page, url: str, seconds: float = 5.0) -> Page:
    """Open it so many seconds after it was written."""
    shown.clock.set_fixed_time(NOW + seconds)
    shown.goto(url)
    return shown


CONTRAST = """
() => [...document.querySelectorAll("body *")].filter(
  each => each.childNodes.length && each.offsetParent !== null
    && [...each.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
).map(each => {
  let behind = each;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)" && behind.parentElement) {
    behind = behind.parentElement;
  }
  return [each.textContent.trim().slice(0, 40), getComputedStyle(each).color,
          getComputedStyle(behind).backgroundColor];
})
"""


def luminance(colour: str) -> float:
    """As WCAG 2 has it, of `rgb(1, 2, 3)`."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_read_on_what_is_behind_it(
    tmp_path: Path, browser: Browser, dark: bool
) -> None:
    with opened(browser, dark=dark) as shown:
        found = opened_at(shown, file_of(tmp_path, busy())).evaluate(CONTRAST)
    assert len(found) > 40
    too_weak = [
        (text, ratio)
        for text, colour, behind in found
        if "color(" not in behind and (ratio := contrast(colour, behind)) < 4.5
    ]
    assert not too_weak


def test_each_state_has_its_colour_and_its_word(tmp_path: Path, browser: Browser) -> None:
    colours: dict[Literal["light", "dark"], dict[str, set[str]]] = {"light": {}, "dark": {}}
    with opened(browser) as shown:
        for stands, tone, word in HEADLINES:
            opened_at(shown, file_of(tmp_path, stands))
            title = shown.locator("h1 .state")
            assert title.inner_text().startswith(word)
            for scheme, found in colours.items():
                shown.emulate_media(color_scheme=scheme)
                colour = title.evaluate("each => getComputedStyle(each).color")
                found.setdefault(str(tone), set()).add(colour)
    for found in colours.values():
        assert {len(each) for each in found.values()} == {1}
        assert len({min(each) for each in found.values()}) == len(found) == 5
    assert colours["light"] != colours["dark"]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen_whatever_jobs_are_called(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    names = (HOSTILE[0], "a" * 250, "\u5bbf" * 80, "very-" * 40)
    with opened(browser, width=width) as shown:
        for name in names:
            opened_at(shown, file_of(tmp_path, everything_named(name)))
            wide = shown.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, name
            assert shown.locator("h1").count() == 1


def test_a_picture_that_is_broken_keeps_its_place_and_its_name(
    tmp_path: Path, browser: Browser
) -> None:
    (tmp_path / "good.jpg").write_bytes(picture("JPEG"))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    tiles = [
        ended("done", source=f"{name}.yaml", thumbnails=(Thumbnail(f"{name}.jpg", "x.png"),))
        for name in ("good", "broken", "missing")
    ]
    with opened(browser) as shown:
        opened_at(shown, file_of(tmp_path, busy(done=tuple(tiles))))
        shown.locator(".gallery").scroll_into_view_if_needed()
        boxes = [each.bounding_box() for each in shown.locator(".gallery .thumbs").all()]
        sizes = {(round(box["width"]), round(box["height"])) for box in boxes if box}
        assert len(boxes) == 3
        assert len(sizes) == 1
        images = shown.locator(".gallery img").all()
        assert [i.get_attribute("alt") for i in images][1:] == [
            "broken.yaml, image 1",
            "missing.yaml, image 1",
        ]


def test_a_page_that_is_no_longer_replaced_says_so_by_itself(
    tmp_path: Path, browser: Browser
) -> None:
    url = file_of(tmp_path, busy())
    with opened(browser) as shown:
        assert not opened_at(shown, url, 100).locator("#old").is_visible()
        old = opened_at(shown, url, 15 * 60).locator("#old")
        assert old.is_visible()
        assert old.inner_text().startswith("This page is 15 minutes old.")
    with opened(browser) as shown:
        assert "3 days old" in opened_at(shown, url, 3 * 86400).locator("#old").inner_text()
    with opened(browser, scripts=False) as shown:
        shown.goto(url)
        assert "Written at 15:13:20 UTC+1" in shown.locator("footer").inner_text()


def test_it_can_be_used_from_the_keyboard(tmp_path: Path, browser: Browser) -> None:
    focus = "() => [document.activeElement.tagName, document.activeElement.textContent]"
    with opened(browser, width=1400) as shown:
        opened_at(shown, file_of(tmp_path, busy()))
        shown.keyboard.press("Tab")
        assert shown.evaluate(focus)[1].startswith("Skip to")
        skip = shown.locator(".skip").bounding_box()
        assert skip is not None
        assert skip["x"] >= 0, "it is shown when it has the focus"
        reached: list[Any] = []
        for _ in range(shown.locator("a[href]").count() - 1):
            shown.keyboard.press("Tab")
            reached.append(shown.evaluate(focus)[1])
            ring = shown.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert ring != "none", reached[-1]
        assert {"WHY.txt", "run.json", "castle.yaml"} <= set(reached)


def test_ten_thousand_jobs_are_one_short_page(tmp_path: Path, browser: Browser) -> None:
    queue = tuple(QueuedJob(f"batch/{n:05}.yaml", calls=1, starts_in=n * 20.0) for n in range(50))
    totals = Totals(queued=10_000, done=10_000, failed=10_000, waiting=10_000, near_misses=10_000)
    stands = replace(busy(), queue=queue, totals=totals, done=busy().done * 24)
    with opened(browser) as shown:
        opened_at(shown, file_of(tmp_path, stands))
        assert shown.locator("#queue li").count() == 50
        text = shown.locator("#queue").inner_text()
        assert "10,000 jobs" in text
        assert "batch/00008.yaml" not in text, "the others unfold"
        shown.locator("#queue summary").click()
        text = shown.locator("#queue").inner_text()
        assert "batch/00049.yaml" in text
        assert "9,950 jobs more" in text
        assert (tmp_path / "status.html").stat().st_size < 100_000
