"""docs/web.md: what it says of requests and metrics is so, and its commands work."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdwatch.web.access import TOKEN_FILE
from sdwatch.web.metrics import Metrics
from sdwatch.web.request_forms import MOST_BYTES
from tests.test_structure import ROOT
from tests.web.served import FAILED, WORKER, WORKING, Served, add_runs, served
from tests.web.test_metrics import heartbeat, parsed

PAGE = (ROOT / "docs/web.md").read_text("utf-8")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as it:
        add_runs(it.spool)
        yield it


def requests_named() -> list[tuple[str, str]]:
    rows = re.findall(r"^\| (`(?:GET|POST) .+?) \|", PAGE, re.MULTILINE)
    found = []
    for row in rows:
        method = row[1:].split(" ")[0]
        found += [(method, path) for path in re.findall(r"/[\w/.…-]+", row)]
    return found


def test_each_request_that_is_named_is_one(web: Served) -> None:
    assert len(requests_named()) > 12
    for method, path in requests_named():
        run = FAILED if "failed" in path or path.startswith("/runs/RUN/e") else WORKING
        if path.startswith("/done"):
            run = next(web.spool.done.iterdir()).name
        path = path.replace("/…", "/run.json" if "working" not in path else "/job.yaml")
        if path.startswith("/runs/RUN/retry"):
            run = FAILED
        path = path.replace("RUN", run).replace("WORKER", WORKER)
        if method == "GET":
            with web.stream(path) as reply:
                assert reply.status_code == 200, path
        else:
            (web.inbox / "x.yaml").write_text("prompt: x\n")
            given = {"job": "prompt: x", "source": "x.yaml", "prompt": "x"}
            refused = 409 if path.endswith("retry-points") else 422  # none of its points failed
            assert web.post(path, given).status_code in (303, 400, refused), path
            assert web.post(f"{path}x", given).status_code == 404


def test_each_metric_that_is_named_is_one_and_none_is_missing(web: Served) -> None:
    heartbeat(web.spool, restarts={"crash": 1}, busy=True)
    live = web.server._app.live
    text = Metrics(web.spool, live._reader).text()
    there = {family.name for family in parsed(text).values()} - {"sdwatch_build_info"}
    named = {name.removesuffix("_total") for name in re.findall(r"`(sdwatch_\w+)", PAGE)}
    with_boxes = {name for name in named if name.startswith(("sdwatch_box_", "sdwatch_broker_"))}
    assert with_boxes
    assert named - with_boxes == there  # tests/cluster has those of boxes


def test_the_limit_of_an_upload_is_the_one_that_is_named() -> None:
    assert f"{MOST_BYTES >> 20} MB at most" in PAGE
    assert f"client_max_body_size {MOST_BYTES >> 20}m" in PAGE


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
@pytest.mark.posix_only("the commands are of a POSIX shell")
def test_the_commands_for_programs_work(web: Served) -> None:
    assert (web.root / "state" / TOKEN_FILE).exists()
    commands = re.findall(r"^curl .+$", PAGE, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        here = command.replace("127.0.0.1:7880", web.host).replace("curl", "curl -sf")
        subprocess.run(["sh", "-c", here], cwd=web.root, check=True, capture_output=True)
    assert (web.inbox / "job.yaml").read_text() == "prompt: a castle\n"
