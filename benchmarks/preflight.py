"""What is asked of each job and of each failure beside the call itself: the preflight of a job of
three stages against Forge's lists as recorded, good and with a mistake in it, and the verdict on a
server error, with all signatures, over the log of a usual call and the longest that is kept. Beside
them the same Python parses the answers of that Forge once (json.loads)."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import common

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sdwatch.errors import WebUIServerError
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.diagnosis import FailureFacts, diagnose
from sdwatch.policy.job.calls.preflight import check_against
from sdwatch.policy.job.job import parse_job
from tests.facts.catalogues import FOLDER, catalogue

JOB = """\
name: castle
stages:
  - txt2img:
      prompt: a castle on a cliff, evening light
      negative_prompt: people
      sampler_name: DPM++ 2M Karras
      steps: 24
      width: 768
      height: 512
      override_settings: {sd_model_checkpoint: random-sd15-a}
  - img2img:
      prompt: a castle on a cliff, evening light, detailed
      sampler_name: Euler a
      scheduler: karras
      denoising_strength: 0.35
      alwayson_scripts: {refiner: {args: []}}
  - upscale:
      upscaler_1: R-ESRGAN 4x+
      upscaling_resize: 2
"""
TRACEBACK = (
    "*** API error: POST: http://127.0.0.1:7860/sdapi/v1/txt2img",
    *(f'  File "modules/part_{number}.py", line {number}, in forward' for number in range(20)),
    "    torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB.",
)


def log_of(lines: int, *last: str) -> tuple[str, ...]:
    """Return what a call leaves behind."""
    return (*(f"step {number} of {lines}, 1.63s/it" for number in range(lines)), *last)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2000)
    times = parser.parse_args().times
    forge = catalogue("forge")
    good = parse_job(JOB.encode(), "castle.yaml")
    bad = parse_job(JOB.replace("Euler a", "Eulr a").encode(), "castle.yaml")
    assert not check_against(good, forge).problems
    assert len(check_against(bad, forge).problems) == 1
    error = WebUIServerError("the WebUI answered 500 to txt2img", stage="txt2img", status=500)
    answers = [(FOLDER / "forge" / name).read_text(encoding="utf-8")
               for name in ("catalogue_openapi.json", "catalogue_lists.json")]  # fmt: skip
    parsed = timed(lambda: [json.loads(answer) for answer in answers], times)
    preflight = timed(lambda: check_against(good, forge), times)
    refused = timed(lambda: check_against(bad, forge), times)
    signatures = builtin_signatures()

    def verdict_on(*log: str) -> float:
        return timed(lambda: diagnose(FailureFacts(error, log=log), signatures), times)

    verdict = verdict_on(*log_of(200, *TRACEBACK))
    rows = [
        ("json.loads of the answers", parsed),
        ("preflight, nothing wrong", preflight),
        ("preflight, one wrong name", refused),
        ("verdict, 200 lines of log", verdict),
        ("verdict, 200 lines, nothing fits", verdict_on(*log_of(200))),
        ("verdict, 2000 lines, the most", verdict_on(*log_of(2000, *TRACEBACK))),
        ("verdict, 2000 lines, nothing fits", verdict_on(*log_of(2000))),
        ("preflight and verdict", preflight + verdict),
    ]
    table = [(what, f"{1000 * t:.3f} ms", f"{t / parsed:.2f}") for what, t in rows]
    common.print_table(("", "median", "ratio"), table)
    return 0


def timed(act: Callable[[], object], times: int) -> float:
    """Return the median of the seconds that it takes."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return median(taken)


if __name__ == "__main__":
    sys.exit(main())
