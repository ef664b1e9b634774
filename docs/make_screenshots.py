"""Take the pictures of the status page that the README shows: `python -m docs.make_screenshots`,
two minutes, no GPU. It needs a Chromium on this machine, and playwright.

A real monitor works on a spool with a simulated WebUI that crashes once. While a job is under way,
status.html is opened as a file: docs/page-phone.png is dark and as wide as a phone,
docs/page-desk.png is light and as wide as a screen.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from sdwatch.cli.demo import free_port
from sdwatch.system import disk

DOCS = Path(__file__).parent
SHOTS = (("page-phone.png", 390, 1.25, "dark"), ("page-desk.png", 1280, 1, "light"))
"""Name, width, pixels for each of these, colour scheme."""

_LIMIT = 300.0  # seconds
_EXACT = 64
_BELOW = 16  # pixels
_FIRST_PICTURES_END = "document.querySelector('.gallery li').getBoundingClientRect().bottom"
_PLAN = "- fault: sigkill-mid-step\n  when: {prompt: lighthouse}\n"
_CONFIG = """\
spool: night
state: state
settle: 0.2
min_free: 50 MB
cooldown: [4, 8]
webuis:
  forge:
    url: http://127.0.0.1:%d
    command: ["{python}", -m, sdwatch.simulator, --port, "{port}", --kind, forge,
              --faults, faults.yaml, --state, state/simulator.json, --step-time, "0.09"]
    cwd: .
"""
_JOBS = {
    "castle": 1, "lighthouse": 1, "harbour-at-dawn": 4, "observatory": 1, "winter-market": 2,
    "glasshouse": 1, "desert-train": 6, "paper-boats": 8, "tea-house": 40, "moon-garden": 120,
    "clockwork-owl": 60, "library-of-clouds": 200, "orchard": 80, "old-quarter": 150,
}  # fmt: skip
"""Job, and how many pictures of it. Those that wait have many, so that their expected starts
differ: a simulated call takes two seconds."""

_GRID = "tea-house"
_POINTS = "matrix:\n  steps: [10, 20, 30, 40]\n  cfg_scale: [5, 7, 9]\n"
_LONG = "paper-boats"
_DONE = 6  # before the pictures are taken


def main() -> None:
    """Write the two pictures."""
    with tempfile.TemporaryDirectory(prefix="sdwatch-shots-") as name:
        root = Path(name)
        _set_up(root)
        config = str(root / "sdwatch.yaml")
        command = [sys.executable, "-m", "sdwatch", "run", "--config", config]
        with open(root / "monitor.log", "wb") as log:
            monitor = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(root / "night" / "status.json")
            _shoot(root / "night")
        finally:
            monitor.terminate()
            monitor.wait(60)


def _set_up(root: Path) -> None:
    (root / "state").mkdir()
    inbox = root / "night" / "inbox"
    inbox.mkdir(parents=True)
    config = root / "sdwatch.yaml"
    config.write_text(_CONFIG % free_port(), encoding="utf-8")
    config.chmod(0o600)
    (root / "faults.yaml").write_text(_PLAN, encoding="utf-8")
    for name, images in _JOBS.items():
        steps = 160 if name == _LONG else 20  # progress is sampled every two seconds
        prompt = f"{name.replace('-', ' ')}, soft light"
        text = f"prompt: {prompt}\nwidth: 512\nheight: 512\nsteps: {steps}\nn_iter: {images}\n"
        if name == _GRID:
            text = f"prompt: {prompt}\n{_POINTS}"
        (inbox / f"{name}.yaml").write_text(text, encoding="utf-8")
    (inbox / "village.yaml").write_text("prompt: a village\nstepz: 20\n", encoding="utf-8")
    (inbox / "sketches.yaml.txt").write_text("prompt: sketches\n", encoding="utf-8")


def _wait(data: Path) -> None:
    """Wait until enough is done and a call is half way. Raises TimeoutError."""
    deadline = time.monotonic() + _LIMIT
    while not (data.is_file() and _is_worth_a_picture(json.loads(disk.read(data)))):
        if time.monotonic() > deadline:
            raise TimeoutError("the monitor did not come that far")
        time.sleep(0.2)


def _is_worth_a_picture(found: dict[str, Any]) -> bool:
    halfway = any(30 <= (run["progress"]["percent"] or 0) <= 75 for run in found["active"])
    return found["totals"]["done"] >= _DONE and bool(found["queue"]) and halfway


def _shoot(spool: Path) -> None:
    still = spool / "still.html"
    shutil.copy(spool / "status.html", still)
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, width, scale, scheme in SHOTS:
            shown = browser.new_page(
                viewport={"width": width, "height": 900},
                device_scale_factor=scale,
                color_scheme="dark" if scheme == "dark" else "light",
                reduced_motion="reduce",
            )
            shown.goto(still.as_uri())
            shown.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
            shown.wait_for_function("[...document.images].every(i => i.complete)")
            height = shown.evaluate(_FIRST_PICTURES_END) + _BELOW
            shown.screenshot(
                path=str(spool / name),
                full_page=True,
                clip={"x": 0, "y": 0, "width": width, "height": height},
            )
            with Image.open(spool / name) as picture:
                _with_few_colours(picture.convert("RGB")).save(DOCS / name, optimize=True)
        browser.close()


def _with_few_colours(picture: Image.Image) -> Image.Image:
    """Return it with 256 colours, a third of the bytes: the most frequent ones, which are those of
    the page, stay as they are, and the others, of the thumbnails, are mixed."""
    pixels = list(picture.get_flattened_data())
    frequent = {rgb: n for n, (rgb, _) in enumerate(Counter(pixels).most_common(_EXACT))}
    rest = [rgb for rgb in pixels if rgb not in frequent]
    strip = Image.new("RGB", (len(rest), 1))
    strip.putdata(rest)
    mixed = strip.quantize(256 - _EXACT, kmeans=1).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(part for rgb in frequent for part in rgb), *mixed])
    few = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    near = few.get_flattened_data()
    few.putdata([frequent.get(rgb, n) for rgb, n in zip(pixels, near, strict=True)])
    return few


if __name__ == "__main__":
    main()
