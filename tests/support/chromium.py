"""A real Chromium without a window. Where there is none its tests are skipped with the reason, or
fail if SDWATCH_REQUIRE_CHROMIUM is set, as in the CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser, for all tests of a file."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        _missing("no Chromium on this machine")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed")
    with sync_playwright() as playwright:
        # In a container there is no sandbox within the sandbox.
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


def _missing(why: str) -> None:
    if os.environ.get("SDWATCH_REQUIRE_CHROMIUM"):
        pytest.fail(f"SDWATCH_REQUIRE_CHROMIUM is set, and {why}")
    pytest.skip(why)


@contextmanager
def opened(
    browser: Browser, *, width: int = 390, dark: bool = False, scripts: bool = True
) -> Iterator[Page]:
    """A page of a browser whose dialogs and errors fail the test. `width`: of the window."""
    context = browser.new_context(
        viewport={"width": width, "height": 844},
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    problems: list[str] = []
    page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()
    assert not problems
