"""An uninstallation ends what its service left running, and nothing that another monitor has."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from sdwatch.errors import ServiceError
from sdwatch.service.leftovers import end_leftovers
from tests.functional.cli import heartbeat, make_spool, running
from tests.support.helpers import wait_until


def left_running(root: Path) -> psutil.Process:
    """A spool whose monitor, which may leave its WebUI running, has ended; the WebUI."""
    make_spool(root)
    config = json.loads((root / "sdwatch.yaml").read_text())
    config["webuis"]["simulator"]["leave_running"] = "on"
    (root / "sdwatch.yaml").write_text(json.dumps(config))
    with running(root):
        (identity,) = root.glob("state/webui-*/identity.json")
        webui = psutil.Process(json.loads(identity.read_text())["pid"])
    assert webui.is_running()
    return webui


def test_a_webui_that_may_continue_ends_with_the_uninstallation(tmp_path: Path) -> None:
    webui = left_running(tmp_path)
    end_leftovers(tmp_path / "state")
    wait_until(lambda: not psutil.pid_exists(webui.pid) or not webui.is_running(), 10, "it ended")
    end_leftovers(tmp_path / "state")  # there is nothing more


def test_the_webui_of_a_monitor_that_runs_is_left_alone(tmp_path: Path) -> None:
    webui = left_running(tmp_path)
    with running(tmp_path):
        with pytest.raises(ServiceError, match="left alone: another monitor already runs"):
            end_leftovers(tmp_path / "state")
        assert webui.is_running()
        assert heartbeat(tmp_path)["lanes"][0]["state"] == "ready"
    end_leftovers(tmp_path / "state")


def test_a_service_that_never_ran_left_nothing(tmp_path: Path) -> None:
    end_leftovers(tmp_path / "state")
    assert not (tmp_path / "state").exists()
