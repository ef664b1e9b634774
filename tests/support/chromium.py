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
    from playwright.sync_api import Browser, Dialog, Page

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
    """A page of a browser whose dialogs and errors fail the test. `width`: of the window. It is the
    page of the test before, blank and without cookies: a new one would be a new process, which
    costs more than most tests do with it."""
    if scripts and browser.contexts:
        page = browser.contexts[0].pages[0]
    else:
        page = browser.new_context(java_script_enabled=scripts).new_page()
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.set_default_timeout(PATIENCE_MS)
    problems: list[str] = []

    def on_dialog(dialog: Dialog) -> None:
        problems.append(dialog.message)
        dialog.dismiss()

    def on_error(error: Exception) -> None:
        problems.append(str(error))

    page.on("dialog", on_dialog)
    page.on("pageerror", on_error)
    is_clean = False
    try:
        yield page
        page.goto("about:blank")
        page.context.clear_cookies()
        assert not problems
        is_clean = scripts
    finally:
        page.remove_listener("dialog", on_dialog)
        page.remove_listener("pageerror", on_error)
        if not is_clean:
            page.context.close()
